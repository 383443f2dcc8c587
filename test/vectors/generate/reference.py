"""The Hugging Face reference: loading a checkpoint directory, and runs that record gate and argmax gaps."""

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, logging

from files import save_tensors

BLOCK = 128
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_float32_matmul_precision("highest")
torch.set_grad_enabled(False)


def _all_tensors(model_dir):
    out = {}
    for file in sorted(Path(model_dir).glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            out |= {name: f.get_tensor(name) for name in f.keys()}
    return out


def dequantise(weight, scale):
    """float32 weight of an FP8 tensor: each 128x128 block times its scale."""
    rows, cols = weight.shape
    full = scale.float().repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return weight.float() * full[:rows, :cols]


def _dequantised_dir(model_dir, target):
    """A copy of the checkpoint in float32 without quantisation, for the reference to load."""
    tensors = _all_tensors(model_dir)
    out = {}
    for name, value in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        scale = tensors.get(f"{name}_scale_inv")
        out[name] = dequantise(value, scale) if scale is not None else value.float()
    save_tensors(out, Path(target) / "model.safetensors")
    config = json.loads((Path(model_dir) / "config.json").read_text())
    config.pop("quantization_config", None)
    (Path(target) / "config.json").write_text(json.dumps(config))


def is_fp8(model_dir):
    return "quantization_config" in json.loads((Path(model_dir) / "config.json").read_text())


def load_model(model_dir, dtype):
    """AutoModelForCausalLM with eager attention and eager experts; FP8 checkpoints are dequantised first."""
    def load(directory):
        config = AutoConfig.from_pretrained(directory)
        if hasattr(config, "text_config"):
            config = config.text_config
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, config=config, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
        problems = {k: v for k, v in info.items() if v and k != "unexpected_keys"}
        unexpected = [k for k in info["unexpected_keys"] if not k.startswith(("mtp.", "model.visual.", "visual."))]
        assert not problems and not unexpected, (problems, unexpected)
        return model.eval()

    if not is_fp8(model_dir):
        return load(model_dir)
    with tempfile.TemporaryDirectory() as target:
        _dequantised_dir(model_dir, target)
        return load(target)


class GateGaps:
    """Holds, after each forward, the smallest gap between the k-th and (k+1)-th gate probability of each token."""

    def __init__(self, model):
        self.gaps = None
        routers = [m for m in model.modules() if type(m).__name__.endswith("TopKRouter")]
        self.first = routers[0]
        for router in routers:
            router.register_forward_hook(self._hook)

    def _hook(self, router, _inputs, output):
        probs = torch.softmax(output[0].float(), dim=-1).sort(dim=-1, descending=True).values
        gap = probs[:, router.top_k - 1] - probs[:, router.top_k]
        self.gaps = gap if router is self.first else torch.minimum(self.gaps, gap)


def mask_padding(logits, size):
    """float32 logits with the padding rows of the vocabulary at -inf."""
    logits = logits.float().clone()
    logits[..., size:] = float("-inf")
    return logits


def argmax_gap(logits):
    top = logits.topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]


def prompt_logits(model, ids):
    """Logits [T, V] of one pass over the ids, without a cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def cached_logits(model, ids, cuts):
    """The same logits, run in pieces that end at `cuts`, through the cache."""
    cache, parts = None, []
    for start, end in zip([0, *cuts], [*cuts, len(ids)]):
        out = model(input_ids=torch.tensor([ids[start:end]]), cache=cache, use_cache=True)
        cache = out.cache
        parts.append(out.logits[0].float())
    return torch.cat(parts)


def padded_logits(model, prompts):
    """Logits of each prompt when they run as one left-padded batch."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits.float()
    return [logits[i, longest - len(p):] for i, p in enumerate(prompts)]


def greedy(model, gaps, prompts, steps, size):
    """
    Greedy continuation of prompts of one length through the cache.
    Returns (tokens [B, steps], argmax gaps [B, steps], gate gaps [B, steps]); step 0's gate gap covers the whole prompt.
    """
    out = model(input_ids=torch.tensor(prompts), use_cache=True)
    gate = gaps.gaps.view(len(prompts), -1).amin(dim=1)
    tokens, argmax_gaps, gate_gaps = [], [], []
    for step in range(steps):
        logits = mask_padding(out.logits[:, -1], size)
        token = logits.argmax(-1)
        tokens.append(token)
        argmax_gaps.append(argmax_gap(logits))
        gate_gaps.append(gate)
        if step + 1 < steps:
            out = model(input_ids=token[:, None], cache=out.cache, use_cache=True)
            gate = gaps.gaps
    return torch.stack(tokens, 1), torch.stack(argmax_gaps, 1), torch.stack(gate_gaps, 1)


def kl(reference, other, size):
    """KL(reference || other) of each row, in float64, over the first `size` ids."""
    p = torch.log_softmax(reference[..., :size].double(), -1)
    q = torch.log_softmax(other[..., :size].double(), -1)
    return (p.exp() * (p - q)).sum(-1)


@contextmanager
def recurrent_form(model):
    """Runs every DeltaNet layer token by token (the recurrent rule) instead of in chunks."""
    import importlib
    module = importlib.import_module(type(model).__module__)
    chunk = getattr(module, "torch_chunk_gated_delta_rule", None)
    if chunk is None:
        yield
        return
    module.torch_chunk_gated_delta_rule = module.torch_recurrent_gated_delta_rule
    try:
        yield
    finally:
        module.torch_chunk_gated_delta_rule = chunk


@contextmanager
def double_precision():
    """
    Makes the modelling code compute in float64 where it asks for float32. With a model in float64 this gives the
    exact answer, against which the float32 reference's own rounding is measured. Rope tables stay in float32.
    """
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved


def exact_logits(model_dir, ids):
    """Logits [T, V] of one pass in float64 arithmetic with the reference's float32 rope tables."""
    model = load_model(model_dir, torch.float32)
    rotary = model.model.rotary_emb
    positions = torch.arange(len(ids))[None]
    if "5" in type(model).__name__:
        positions = positions[None].expand(3, 1, -1)
    table = tuple(t.double() for t in rotary(torch.zeros(1, len(ids), 1), positions))
    model = model.double()
    rotary.forward = lambda *_args, **_kwargs: table
    with double_precision():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
