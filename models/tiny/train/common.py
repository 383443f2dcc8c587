"""Paths and loaders shared by the scripts."""

import json
from pathlib import Path

import jinja2
from tokenizers import Tokenizer

MODEL_DIR = Path(__file__).resolve().parent.parent


def load_tokenizer(folder=MODEL_DIR):
    """The model's tokenizer."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def load_template(folder=MODEL_DIR):
    """The chat template, compiled; it sees the same helpers as the usual chat renderers give."""

    def fail(message):
        raise jinja2.TemplateError(message)

    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.globals["raise_exception"] = fail
    env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return env.from_string((folder / "chat_template.jinja").read_text())
