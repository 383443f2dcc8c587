"""Writing tensors."""

import os

from safetensors.torch import save_file


def save_tensors(tensors, path):
    """A safetensors file that everybody may read (the library makes it private)."""
    save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
