"""Writes the random checkpoints in the published Hugging Face layouts.

Scales are larger than an initialiser's so that attention, gates, states and experts all matter to the logits:
zero-centred norms are random around 0 and plain ones around 1 (a wrong `1 + w` shows), gates are spread (few
near-ties), and dt_bias covers heads that forget at once and heads that remember for hundreds of tokens.

Usage: checkpoints.py [--out test/vectors/checkpoints] [name ...]
"""

import argparse
import json
import math
import shutil
import zlib
from pathlib import Path

import torch

from configs import MODELS
from files import save_tensors
from tokenizers_tiny import write_tokenizer

BLOCK = 128
TIED_STD = 0.35  # of an embedding that is the head as well: keeps the logits' spread near the others'


class Draw:
    """Random tensors; each depends only on the seed and its name."""

    def __init__(self, seed, branch=1.0):
        self.seed = seed
        self.branch = branch

    def _generator(self, name):
        return torch.Generator().manual_seed((self.seed << 32) + zlib.crc32(name.encode()))

    def normal(self, name, *shape, std=1.0, mean=0.0):
        return torch.randn(*shape, generator=self._generator(name)) * std + mean

    def uniform(self, name, *shape, low, high):
        return torch.rand(*shape, generator=self._generator(name)) * (high - low) + low

    def linear(self, name, rows, cols, gain=1.2):
        return self.normal(name, rows, cols, std=gain / math.sqrt(cols))

    def output(self, name, rows, cols, gain):
        """A projection that writes to the residual stream."""
        return self.linear(name, rows, cols, gain=gain * self.branch)


def attention_tensors(d, p, c, gated, zero_centered):
    h, n, kv, hd = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    mean = 0.4 if zero_centered else 1.4
    return {
        f"{p}q_proj.weight": d.linear(f"{p}q", (2 if gated else 1) * n * hd, h),
        f"{p}k_proj.weight": d.linear(f"{p}k", kv * hd, h),
        f"{p}v_proj.weight": d.linear(f"{p}v", kv * hd, h),
        f"{p}o_proj.weight": d.output(f"{p}o", h, n * hd, gain=1.0),
        f"{p}q_norm.weight": d.normal(f"{p}qn", hd, std=0.3, mean=mean),
        f"{p}k_norm.weight": d.normal(f"{p}kn", hd, std=0.3, mean=mean),
    }


def deltanet_tensors(d, p, c, grouped):
    h, hk, hv = c["hidden_size"], c["linear_num_key_heads"], c["linear_num_value_heads"]
    dk, dv, kernel = c["linear_key_head_dim"], c["linear_value_head_dim"], c["linear_conv_kernel_dim"]
    conv = 2 * hk * dk + hv * dv
    out = {
        f"{p}conv1d.weight": d.normal(f"{p}conv", conv, 1, kernel, std=1.0),
        f"{p}dt_bias": d.uniform(f"{p}dt", hv, low=-7.0, high=-2.0),
        f"{p}A_log": d.uniform(f"{p}A", hv, low=0.01, high=16.0).log(),
        f"{p}norm.weight": d.normal(f"{p}norm", dv, std=0.2, mean=1.0),
        f"{p}out_proj.weight": d.output(f"{p}out", h, hv * dv, gain=0.4),
    }
    if grouped:
        out[f"{p}in_proj_qkvz.weight"] = d.linear(f"{p}qkvz", conv + hv * dv, h, gain=2.0)
        out[f"{p}in_proj_ba.weight"] = d.linear(f"{p}ba", 2 * hv, h)
    else:
        out[f"{p}in_proj_qkv.weight"] = d.linear(f"{p}qkv", conv, h, gain=2.0)
        out[f"{p}in_proj_z.weight"] = d.linear(f"{p}z", hv * dv, h)
        out[f"{p}in_proj_b.weight"] = d.linear(f"{p}b", hv, h)
        out[f"{p}in_proj_a.weight"] = d.linear(f"{p}a", hv, h, gain=0.7)
    return out


def expert_tensors(d, p, c, fused):
    h, inter, num = c["hidden_size"], c["moe_intermediate_size"], c["num_experts"]
    gate_up = torch.stack([d.linear(f"{p}gu{e}", 2 * inter, h) for e in range(num)])
    down = torch.stack([d.output(f"{p}dn{e}", h, inter, gain=0.7) for e in range(num)])
    if fused:
        return {f"{p}experts.gate_up_proj": gate_up, f"{p}experts.down_proj": down}
    out = {}
    for e in range(num):
        out[f"{p}experts.{e}.gate_proj.weight"] = gate_up[e, :inter].contiguous()
        out[f"{p}experts.{e}.up_proj.weight"] = gate_up[e, inter:].contiguous()
        out[f"{p}experts.{e}.down_proj.weight"] = down[e].clone()
    return out


def moe_tensors(d, p, c, fused):
    h = c["hidden_size"]
    out = {f"{p}gate.weight": d.linear(f"{p}gate", c["num_experts"], h, gain=2.5)} | expert_tensors(d, p, c, fused)
    if shared := c.get("shared_expert_intermediate_size"):
        out |= {
            f"{p}shared_expert.gate_proj.weight": d.linear(f"{p}sg", shared, h),
            f"{p}shared_expert.up_proj.weight": d.linear(f"{p}su", shared, h),
            f"{p}shared_expert.down_proj.weight": d.output(f"{p}sd", h, shared, gain=0.7),
            f"{p}shared_expert_gate.weight": d.linear(f"{p}sw", 1, h, gain=1.5),
        }
    return out


def layer_types(c):
    if c["model_type"] == "qwen3_moe":
        return ["full_attention"] * c["num_hidden_layers"]
    interval = c.get("full_attention_interval", 4)
    return c.get("layer_types") or [
        "full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(c["num_hidden_layers"])]


def layer_tensors(d, p, c, kind, fused):
    zero = c["model_type"] != "qwen3_moe"
    h, mean = c["hidden_size"], 0.0 if zero else 1.0
    out = {
        f"{p}input_layernorm.weight": d.normal(f"{p}n1", h, std=0.3, mean=mean),
        f"{p}post_attention_layernorm.weight": d.normal(f"{p}n2", h, std=0.3, mean=mean),
    }
    if kind == "linear_attention":
        out |= deltanet_tensors(d, f"{p}linear_attn.", c, c["model_type"] == "qwen3_next")
    else:
        out |= attention_tensors(d, f"{p}self_attn.", c, gated=zero, zero_centered=zero)
    return out | moe_tensors(d, f"{p}mlp.", c, fused)


def text_tensors(d, prefix, c, fused):
    """Every tensor of the text model, float32, by published name."""
    h, vocab = c["hidden_size"], c["vocab_size"]
    mean = 1.0 if c["model_type"] == "qwen3_moe" else 0.0
    out = {f"{prefix}embed_tokens.weight": d.normal("embed", vocab, h, std=TIED_STD if c["tie_word_embeddings"] else 1.0),
           f"{prefix}norm.weight": d.normal("norm", h, std=0.3, mean=mean)}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = d.linear("head", vocab, h, gain=2.5)
    for i, kind in enumerate(layer_types(c)):
        out |= layer_tensors(d, f"{prefix}layers.{i}.", c, kind, fused)
    return out


def mtp_tensors(d, c):
    """The multi-token prediction layer, its experts one by one even where the main layers are fused."""
    h = c["hidden_size"]
    out = {f"mtp.{n}.weight": d.normal(f"mtp.{n}", h, std=0.3)
           for n in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")}
    out["mtp.fc.weight"] = d.linear("mtp.fc", h, 2 * h)
    return out | layer_tensors(d, "mtp.layers.0.", c, "full_attention", fused=False)


def vision_tensors(d, v):
    h, inter, patch = v["hidden_size"], v["intermediate_size"], v["patch_size"]
    merged = h * v["spatial_merge_size"] ** 2
    shapes = {"patch_embed.proj": (h, v["in_channels"], v["temporal_patch_size"], patch, patch),
              "merger.norm": (h,), "merger.linear_fc1": (merged, merged),
              "merger.linear_fc2": (v["out_hidden_size"], merged)}
    for i in range(v["depth"]):
        shapes |= {f"blocks.{i}.norm1": (h,), f"blocks.{i}.norm2": (h,), f"blocks.{i}.attn.qkv": (3 * h, h),
                   f"blocks.{i}.attn.proj": (h, h), f"blocks.{i}.mlp.linear_fc1": (inter, h),
                   f"blocks.{i}.mlp.linear_fc2": (h, inter)}
    out = {"model.visual.pos_embed.weight": d.normal("pos", v["num_position_embeddings"], h, std=0.1)}
    for name, shape in shapes.items():
        out[f"model.visual.{name}.weight"] = d.normal(f"v.{name}", *shape, std=0.1)
        out[f"model.visual.{name}.bias"] = d.normal(f"v.{name}.b", shape[0], std=0.1)
    return out


_FP8_SUFFIXES = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "in_proj_qkv.weight",
                 "in_proj_z.weight", "out_proj.weight", "gate_proj.weight", "up_proj.weight", "down_proj.weight")


def quantise_fp8(weight, scale_dtype):
    """Block scales of 128x128 and the e4m3 weight: the dequantised value is weight x scale."""
    rows, cols = weight.shape
    br, bc = math.ceil(rows / BLOCK), math.ceil(cols / BLOCK)
    padded = torch.zeros(br * BLOCK, bc * BLOCK)
    padded[:rows, :cols] = weight
    blocks = padded.view(br, BLOCK, bc, BLOCK)
    scale = (blocks.abs().amax(dim=(1, 3)) / 448.0).clamp_min(1e-8).to(scale_dtype)
    q = (blocks / scale.float()[:, None, :, None]).clamp(-448, 448).reshape(br * BLOCK, bc * BLOCK)[:rows, :cols]
    return q.to(torch.float8_e4m3fn).contiguous(), scale


def stored(tensors, layout):
    """The tensors as they are stored: dtypes of the layout, FP8 where the published releases have it."""
    plain = {"BF16": torch.bfloat16, "F32": torch.float32}
    out = {}
    for name, value in tensors.items():
        if layout.fp8 and name.endswith(_FP8_SUFFIXES):
            out[name], out[f"{name}_scale_inv"] = quantise_fp8(value, plain[layout.scale_dtype])
        elif name.endswith(("A_log", "linear_attn.norm.weight")):
            out[name] = value.to(plain[layout.state_dtype])
        else:
            out[name] = value.to(plain[layout.dtype])
    return out


def write_shards(out, tensors, shards):
    """One model.safetensors, or `shards` files with an index; neighbours go round-robin so that no layer is in one file."""
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    if shards == 1:
        save_tensors(tensors, out / "model.safetensors")
        return
    names = sorted(tensors)
    index = {"metadata": {"total_size": total}, "weight_map": {}}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[s::shards]}
        save_tensors(part, out / file)
        index["weight_map"] |= dict.fromkeys(part, file)
    index["weight_map"] = dict(sorted(index["weight_map"].items()))
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_checkpoint(name, out):
    """Writes the checkpoint `name` to the directory `out`, replacing it."""
    config, layout = MODELS[name]()
    text = config.get("text_config", config)
    draw = Draw(layout.seed, layout.branch)
    tensors = text_tensors(draw, layout.prefix, text, layout.fused_experts)
    if layout.mtp:
        tensors |= mtp_tensors(draw, text)
    if layout.vision:
        tensors |= vision_tensors(draw, config["vision_config"])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_shards(out, stored(tensors, layout), layout.shards)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if layout.tokenizer_size:
        write_tokenizer(out, layout.tokenizer_size)
    return text


def main():
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=here / "checkpoints")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    args = parser.parse_args()
    for name in args.names:
        write_checkpoint(name, args.out / name)
        size = sum(f.stat().st_size for f in (args.out / name).iterdir())
        print(f"{name}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
