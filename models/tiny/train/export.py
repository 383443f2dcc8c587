"""Writes the checkpoint in the published layout: two BF16 shards, an index and the configs."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from common import MODEL_DIR, load_tokenizer
from model import Shape

FLOAT32 = ("linear_attn.A_log", "linear_attn.norm.weight")
SHARDS = 2


def text_config(s, ids):
    """The text model's section of config.json."""
    return {
        "model_type": "qwen3_5_moe_text", "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True,
        "dtype": "bfloat16", "eos_token_id": ids["<|endoftext|>"], "full_attention_interval": s.interval, "head_dim": s.head_dim,
        "hidden_act": "silu", "hidden_size": s.hidden, "initializer_range": 0.02,
        "layer_types": ["full_attention" if s.is_full(i) else "linear_attention" for i in range(s.layers)],
        "linear_conv_kernel_dim": s.conv, "linear_key_head_dim": s.lin_dim, "linear_num_key_heads": s.lin_k_heads,
        "linear_num_value_heads": s.lin_v_heads, "linear_value_head_dim": s.lin_dim, "max_position_embeddings": 262144,
        "mlp_only_layers": [], "moe_intermediate_size": s.width, "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": s.heads, "num_experts": s.experts, "num_experts_per_tok": s.top_k, "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads, "rms_norm_eps": s.eps, "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": s.shared_width, "use_cache": True, "vocab_size": s.vocab, "mamba_ssm_dtype": "float32",
        "rope_parameters": {"mrope_interleaved": True, "mrope_section": [3, 3, 2], "rope_type": "default",
                            "rope_theta": int(s.theta), "partial_rotary_factor": s.rotary / s.head_dim}}


def vision_config(s):
    """The reserved vision tower; no vision tensors are shipped."""
    return {"deepstack_visual_indexes": [], "depth": 4, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 128, "in_channels": 3,
            "initializer_range": 0.02, "intermediate_size": 256, "model_type": "qwen3_5_moe", "num_heads": 4,
            "num_position_embeddings": 576, "out_hidden_size": s.hidden, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2}


def configs(s, tok):
    """config.json and generation_config.json as dictionaries."""
    ids = {t: tok.token_to_id(t) for t in ("<|endoftext|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>",
                                           "<|vision_end|>")}
    model = {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "image_token_id": ids["<|image_pad|>"],
             "model_type": "qwen3_5_moe", "text_config": text_config(s, ids), "tie_word_embeddings": False,
             "transformers_version": "5.24.0", "video_token_id": ids["<|video_pad|>"], "vision_config": vision_config(s),
             "vision_end_token_id": ids["<|vision_end|>"], "vision_start_token_id": ids["<|vision_start|>"]}
    generation = {"bos_token_id": ids["<|endoftext|>"], "do_sample": True, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
                  "pad_token_id": ids["<|endoftext|>"], "temperature": 0.6, "top_k": 20, "top_p": 0.95,
                  "transformers_version": "5.24.0"}
    return model, generation


def shard(tensors):
    """Splits the names in order into SHARDS groups of about equal bytes."""
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    groups, used = [{} for _ in range(SHARDS)], 0
    for name, t in tensors.items():
        groups[min(SHARDS - 1, used * SHARDS // total)][name] = t
        used += t.numel() * t.element_size()
    return groups, total


def write_weights(params, out):
    """Casts to the stored dtypes and writes the shards and the index."""
    tensors = {k: v.detach().to(torch.float32 if k.endswith(FLOAT32) else torch.bfloat16).contiguous() for k, v in params.items()}
    groups, total = shard(tensors)
    weight_map = {}
    for i, group in enumerate(groups, 1):
        file = f"model-{i:05d}-of-{SHARDS:05d}.safetensors"
        save_file(group, str(out / file), metadata={"format": "pt"})
        (out / file).chmod(0o644)
        weight_map |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(out / "model.safetensors.index.json", index)
    return total


def write_json(path, data):
    """Two-space JSON with a final line break."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def main():
    """Command line; see README.md beside this file."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", type=Path, required=True, help="folder with checkpoint.pt")
    p.add_argument("--out", type=Path, default=MODEL_DIR)
    p.add_argument("--average", action="store_true", help="take the running average instead of the last weights")
    args = p.parse_args()
    checkpoint = torch.load(args.work / "checkpoint.pt", weights_only=True)
    total = write_weights(checkpoint["ema" if args.average else "model"], args.out)
    model, generation = configs(Shape(), load_tokenizer())
    write_json(args.out / "config.json", model)
    write_json(args.out / "generation_config.json", generation)
    print("step", checkpoint["step"], "tokens", checkpoint["tokens"], "bytes", total)


if __name__ == "__main__":
    main()
