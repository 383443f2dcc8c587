"""Inputs and outputs of single blocks, run with the reference's own modules in float32.

Every case is OUT/<kind>-<name>.safetensors with `weights.*` (names inside the block), inputs `in.*` and results
`out.*`; OUT/manifest.json has the dimensions. A block includes its norm and its residual: out = in + block(norm(in)).

Usage: block_vectors.py --out DIR
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import DynamicCache
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as q35
from transformers.models.qwen3_5_moe.configuration_qwen3_5_moe import Qwen3_5MoeTextConfig
from transformers.models.qwen3_moe import modeling_qwen3_moe as q3
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig

import checkpoints as ck
import configs
import reference as ref
from files import save_tensors
from model_vectors import versions

SEED = 500
STATE_LENGTHS = [1, 2, 3, 4, 5, 63, 64, 65, 128, 200]


def block_config(base, **changes):
    config = base()[0]
    return config.get("text_config", config) | changes


def hf_config(c):
    cls = Qwen3MoeConfig if c["model_type"] == "qwen3_moe" else Qwen3_5MoeTextConfig
    config = cls(**c)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


def rounded(tensors):
    """BF16-representable float32 values, but for the two tensors that releases keep in F32."""
    keep = ("A_log", "norm.weight")
    return {k: v if k in keep else v.bfloat16().float() for k, v in tensors.items()}


def load(module, tensors):
    module.load_state_dict(tensors)
    return module.eval()


def save(out, manifest, name, kind, spec, weights, tensors):
    stored = {f"weights.{k}": (v if k in ("A_log", "norm.weight") else v.bfloat16()).contiguous() for k, v in weights.items()}
    stored |= {k: v.contiguous() for k, v in tensors.items()}
    save_tensors(stored, out / f"{name}.safetensors")
    manifest["cases"].append({
        "name": name, "kind": kind, "spec": spec,
        "tensors": {k: [str(v.dtype).removeprefix("torch."), list(v.shape)] for k, v in stored.items()}})


class Capture:
    """Records what a function of the modelling code was called with and returned, on its last call."""

    def __init__(self, module, name):
        self.module, self.name, self.original = module, name, getattr(module, name)

    def __enter__(self):
        def wrapped(*args, **kwargs):
            self.args, self.result = args, self.original(*args, **kwargs)
            return self.result
        setattr(self.module, self.name, wrapped)
        return self

    def __exit__(self, *_exc):
        setattr(self.module, self.name, self.original)


def hidden_rows(draw, tokens, size):
    """Inputs of ordinary size, but for three rows so small that the norms' eps shows."""
    hidden = draw.normal("hidden", tokens, size, std=1.5)
    hidden[5] *= 1e-3
    hidden[6] *= 3e-4
    hidden[tokens // 2] *= 1e-3
    return hidden


def deltanet_case(out, manifest, name, c, lengths, tokens=200, faint=1.0):
    """`faint` scales the query, key and value projections: at 1e-3 the eps of their normalisation shows."""
    config = hf_config(c | {"layer_types": ["linear_attention"], "num_hidden_layers": 1})
    draw = ck.Draw(SEED)
    weights = rounded({k.removeprefix("."): v for k, v in ck.deltanet_tensors(draw, "", c, grouped=False).items()})
    weights["in_proj_qkv.weight"] = (weights["in_proj_qkv.weight"] * faint).bfloat16().float()
    input_norm = draw.normal("input_norm", c["hidden_size"], std=0.3).bfloat16().float()
    block = load(q35.Qwen3_5MoeGatedDeltaNet(config, 0), weights)
    norm = load(q35.Qwen3_5MoeRMSNorm(c["hidden_size"], eps=c["rms_norm_eps"]), {"weight": input_norm})
    hidden = hidden_rows(draw, tokens, c["hidden_size"])
    x = norm(hidden)[None]

    def run(pieces):
        cache, parts = DynamicCache(config=config), []
        for a, b in pieces:
            parts.append(block(x[:, a:b], cache=cache))
        return hidden[:pieces[-1][1]] + torch.cat(parts, 1)[0], cache.layers[0]

    with Capture(q35, "torch_chunk_gated_delta_rule") as rule:
        whole, _ = run([(0, tokens)])
    query, key, value = (t[0].flatten(1) for t in rule.args)
    splits = {s: (run([(0, s), (s, tokens)])[0] - whole).abs().max().item() for s in (1, 2, 3, 4, 64)}
    steps = run([(i, i + 1) for i in range(tokens)])[0]
    tensors = {"in.hidden": hidden, "out.hidden": whole, "mid.conv": torch.cat([query, key, value], -1)[:66],
               "mid.core": rule.result[0][0, :66].flatten(1)}
    for n in lengths:
        _, layer = run([(0, n)])
        tensors[f"out.state{n}"] = state_of(layer)[1]
        tensors[f"out.conv{n}"] = state_of(layer)[0]
    spec = {k: c[k] for k in ("hidden_size", "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
                              "linear_value_head_dim", "linear_conv_kernel_dim", "rms_norm_eps")}
    spec |= {"state_lengths": lengths, "reference_split_max_diff": splits,
             "reference_step_by_step_max_diff": (steps - whole).abs().max().item()}
    save(out, manifest, f"gdn-{name}", "gated_delta_net", spec, weights | {"input_norm": input_norm}, tensors)


def state_of(layer):
    """(last kernel-1 raw convolution inputs [kernel-1, convDim], state [Hv, Dk, Dv]) of a cache layer."""
    return layer.conv_states[0][0].transpose(0, 1)[1:], layer.recurrent_states[0][0]


def attention_modules(c, weights, input_norm):
    gated = c["model_type"] != "qwen3_moe"
    config = hf_config(c | {"num_hidden_layers": 1} | ({"layer_types": ["full_attention"]} if gated else {}))
    lib = q35 if gated else q3
    attn = lib.Qwen3_5MoeAttention(config, 0) if gated else lib.Qwen3MoeAttention(config, 0)
    norm_cls = lib.Qwen3_5MoeRMSNorm if gated else lib.Qwen3MoeRMSNorm
    rotary_cls = lib.Qwen3_5MoeTextRotaryEmbedding if gated else lib.Qwen3MoeRotaryEmbedding
    norm = load(norm_cls(c["hidden_size"], eps=c["rms_norm_eps"]), {"weight": input_norm})
    return config, load(attn, weights), norm, rotary_cls(config)


def text_positions(tokens, start=0):
    return torch.arange(start, start + tokens).expand(3, tokens).contiguous()


def vision_positions():
    """A prompt with two images between texts: axes differ inside an image."""
    parts, cur = [], 0
    for kind in ("text7", "grid4x6", "text20", "grid8x3", "text31"):
        if kind.startswith("text"):
            n = int(kind[4:])
            parts.append(torch.arange(cur, cur + n).expand(3, n))
            cur += n
        else:
            h, w = map(int, kind[4:].split("x"))
            grid = torch.stack([torch.zeros(h, w), torch.arange(h)[:, None].expand(h, w), torch.arange(w).expand(h, w)])
            parts.append(grid.reshape(3, -1).long() + cur)
            cur += max(h, w)
    return torch.cat(parts, 1).contiguous()


def attention_case(out, manifest, name, c, positions):
    gated = c["model_type"] != "qwen3_moe"
    draw = ck.Draw(SEED + 1)
    tokens = positions.shape[1]
    weights = rounded(ck.attention_tensors(draw, "", c, gated=gated, zero_centered=gated))
    input_norm = draw.normal("input_norm", c["hidden_size"], std=0.3, mean=0.0 if gated else 1.0).bfloat16().float()
    config, attn, norm, rotary = attention_modules(c, weights, input_norm)
    hidden = hidden_rows(draw, tokens, c["hidden_size"])
    ids = positions[:, None] if gated else positions[:1]
    cos, sin = rotary(hidden[None], ids)
    mask = torch.full((tokens, tokens), float("-inf")).triu(1)[None, None]
    cache = DynamicCache(config=config)
    y, _ = attn(hidden_states=norm(hidden)[None], position_embeddings=(cos, sin), attention_mask=mask, cache=cache)
    half = cos.shape[-1] // 2
    tensors = {"in.hidden": hidden, "in.positions": positions.to(torch.int32), "in.inv_freq": rotary.inv_freq,
               "out.hidden": hidden + y[0], "out.keys": cache.layers[0].keys[0], "out.values": cache.layers[0].values[0],
               "out.cos": cos[0, :, :half], "out.sin": sin[0, :, :half]}
    section = (c.get("rope_parameters") or {}).get("mrope_section")
    spec = {k: c[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps")}
    spec |= {"rotary_dim": 2 * half, "rope_scale": rotary.attention_scaling, "freq_axis": freq_axis(half, section),
             "output_gate": gated, "zero_centered": gated}
    save(out, manifest, f"attention-{name}", "gated_attention", spec, weights | {"input_norm": input_norm}, tensors)


def freq_axis(half, section):
    """Axis of each frequency as the reference's slices assign them."""
    axis = torch.zeros(half, dtype=torch.int64)
    for dim in (1, 2) if section else ():
        axis[dim:section[dim] * 3:3] = dim
    return axis.tolist()


def moe_case(out, manifest, name, c, tokens=24):
    lib_35 = c["model_type"] != "qwen3_moe"
    draw = ck.Draw(SEED + 2)
    weights = rounded(ck.moe_tensors(draw, "", c, fused=True))
    norm_weight = draw.normal("post_norm", c["hidden_size"], std=0.3, mean=0.0 if lib_35 else 1.0).bfloat16().float()
    config = hf_config(c)
    block = load(q35.Qwen3_5MoeSparseMoeBlock(config) if lib_35 else q3.Qwen3MoeSparseMoeBlock(config), weights)
    norm_cls = q35.Qwen3_5MoeRMSNorm if lib_35 else q3.Qwen3MoeRMSNorm
    norm = load(norm_cls(c["hidden_size"], eps=c["rms_norm_eps"]), {"weight": norm_weight})
    hidden = hidden_rows(draw, tokens, c["hidden_size"])
    rows = norm(hidden)
    logits, top_weights, top_ids = block.gate(rows)
    y = block(rows[None])[0]
    per_expert = torch.stack([torch.stack([
        block.experts(rows[t:t + 1], top_ids[t:t + 1, k:k + 1], torch.ones(1, 1))[0]
        for k in range(top_ids.shape[1])]) for t in range(tokens)])
    tensors = {"in.hidden": hidden, "out.rows": rows, "out.gate_logits": logits, "out.topk_ids": top_ids.to(torch.int32),
               "out.topk_weights": top_weights, "out.expert_rows": per_expert, "out.hidden": hidden + y}
    if lib_35:
        tensors["out.shared"] = torch.sigmoid(block.shared_expert_gate(rows)) * block.shared_expert(rows)
    spec = {k: c.get(k) for k in ("hidden_size", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
                                  "shared_expert_intermediate_size", "rms_norm_eps")}
    spec |= {"norm_topk": lib_35 or c["norm_topk_prob"], "zero_centered": lib_35}
    save(out, manifest, f"moe-{name}", "moe", spec, weights | {"post_norm": norm_weight}, tensors)


def head_case(out, manifest, name, hidden_size, vocab, size, zero_centered):
    draw = ck.Draw(SEED + 3)
    table = draw.normal("table", vocab, hidden_size).bfloat16().float()
    head = draw.linear("head", vocab, hidden_size, gain=2.5).bfloat16().float()
    weight = draw.normal("norm", hidden_size, std=0.3, mean=0.0 if zero_centered else 1.0).bfloat16().float()
    cls = q35.Qwen3_5MoeRMSNorm if zero_centered else q3.Qwen3MoeRMSNorm
    norm = load(cls(hidden_size, eps=1e-6), {"weight": weight})
    ids = torch.tensor([0, vocab - 1, 7, 7, 3, size - 1, min(size, vocab - 1), 50])
    hidden = table[ids]
    tensors = {"in.ids": ids.to(torch.int32), "out.hidden": hidden,
               "out.logits": ref.mask_padding(norm(hidden * 1.5) @ head.T, size), "in.scaled": hidden * 1.5}
    spec = {"hidden_size": hidden_size, "vocab": vocab, "tokenizer_size": size, "rms_norm_eps": 1e-6,
            "zero_centered": zero_centered}
    save(out, manifest, f"head-{name}", "embedding_and_head", spec,
         {"embed": table, "head": head, "final_norm": weight}, tensors)


ROPES = {
    "q35-397b": configs._mrope(10000000, 0.25, [11, 11, 10]),
    "q35-397b-yarn4": configs._mrope(10000000, 0.25, [11, 11, 10], rope_type="yarn", factor=4.0,
                                     original_max_position_embeddings=262144),
    "q35-397b-yarn2": configs._mrope(10000000, 0.25, [11, 11, 10], rope_type="yarn", factor=2.0,
                                     original_max_position_embeddings=262144),
    "theta1e4": configs._mrope(10000, 0.03125, [2, 1, 1]),
    "tiny": configs._mrope(10000000, 0.0625, [3, 3, 2]),
    "theta5e6-full": configs._mrope(5000000, 0.5, [22, 21, 21]),
}


def rope_cases(out, manifest):
    """Frequencies and tables of published settings (head_dim 256), at small and at very large positions, axes unequal."""
    tensors, specs = {}, {}
    t = torch.tensor([0, 1, 2, 63, 1000, 32767, 65535, 200001, 262143, 262143])
    positions = torch.stack([t, (t + 5) // 2, t // 3 + 1])
    tensors["positions"] = positions.to(torch.int32)
    for name, rope in ROPES.items():
        c = block_config(configs.q35_base, head_dim=256, rope_parameters=dict(rope))
        rotary = q35.Qwen3_5MoeTextRotaryEmbedding(hf_config(c))
        half = rotary.inv_freq.shape[0]
        cos, sin = rotary(torch.zeros(1, len(t), 1), positions[:, None])
        tensors |= {f"{name}.inv_freq": rotary.inv_freq, f"{name}.cos": cos[0, :, :half].contiguous(),
                    f"{name}.sin": sin[0, :, :half].contiguous()}
        specs[name] = {"head_dim": 256, "rope_parameters": rope, "rotary_dim": 2 * half,
                       "rope_scale": rotary.attention_scaling, "freq_axis": freq_axis(half, rope["mrope_section"])}
    save_tensors(tensors, out / "rope.safetensors")
    manifest["rope"] = specs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    manifest = {"versions": versions(), "seed": SEED, "cases": []}
    base, odd, equal = (block_config(f) for f in (configs.q35_base, configs.q35_odd, configs.q35_equal))
    wide = block_config(configs.q35_base, **configs._deltanet(1, 4, 128, 128, 4), **configs._attention(4, 1, 256),
                        rope_parameters=configs._mrope(10000000, 0.25, [11, 11, 10]))
    next_ = block_config(configs.q3_moe)
    for name, c, lengths in (("base", base, STATE_LENGTHS), ("odd", odd, STATE_LENGTHS), ("equal", equal, STATE_LENGTHS),
                             ("wide", wide, [64, 200])):
        deltanet_case(args.out, manifest, name, c, lengths)
    deltanet_case(args.out, manifest, "faint", odd, [5, 70], tokens=70, faint=1e-3)
    for name, c, positions in (("base", base, text_positions(150)), ("vision", base, vision_positions()),
                               ("odd", odd, text_positions(150)), ("yarn", equal, text_positions(150)),
                               ("wide", wide, text_positions(80, 200000)), ("plain", next_, text_positions(150))):
        attention_case(args.out, manifest, name, c, positions)
    many = next_ | configs._moe(64, 8, 16, 0)
    for name, c in (("base", base), ("odd", odd), ("plain", next_), ("many", many)):
        moe_case(args.out, manifest, name, c)
    head_case(args.out, manifest, "zero-centred", 72, 101, 90, True)
    head_case(args.out, manifest, "plain", 64, 128, 128, False)
    rope_cases(args.out, manifest)
    (args.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    size = sum(f.stat().st_size for f in args.out.iterdir())
    print(f"blocks: {len(manifest['cases'])} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
