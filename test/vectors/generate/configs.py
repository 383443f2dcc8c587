"""The random configurations: config.json contents, and how each checkpoint is laid out on disk."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How the tensors of a checkpoint are stored; see checkpoints.py."""

    seed: int
    branch: float = 1.0  # factor on the projections that write to the residual stream
    prefix: str = "model."
    fused_experts: bool = False
    dtype: str = "BF16"
    state_dtype: str = "F32"  # A_log and the gated norm of DeltaNet layers
    fp8: bool = False
    scale_dtype: str = "BF16"
    shards: int = 1
    mtp: bool = False
    vision: bool = False
    tokenizer_size: int | None = None  # a byte-level tokenizer.json of that many tokens, or none


def _deltanet(hk, hv, dk, dv, kernel):
    return {
        "linear_num_key_heads": hk,
        "linear_num_value_heads": hv,
        "linear_key_head_dim": dk,
        "linear_value_head_dim": dv,
        "linear_conv_kernel_dim": kernel,
    }


def _moe(experts, top_k, inter, shared):
    out = {"num_experts": experts, "num_experts_per_tok": top_k, "moe_intermediate_size": inter}
    return out | ({"shared_expert_intermediate_size": shared} if shared else {})


def _attention(heads, kv_heads, head_dim):
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim}


_COMMON = {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "rms_norm_eps": 1e-6,
           "initializer_range": 0.02, "use_cache": True}


def _mrope(theta, partial, section, **more):
    return {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": partial,
            "mrope_section": section, "mrope_interleaved": True} | more


def _layers(pattern):
    return [{"L": "linear_attention", "F": "full_attention"}[c] for c in pattern]


def q35_base():
    """Nested config with vision, MTP, padded vocabulary, ratio 4 of value to key heads, F32 states, fused, 3 shards."""
    text = _COMMON | _attention(4, 2, 32) | _deltanet(2, 8, 16, 16, 4) | _moe(8, 3, 32, 32) | {
        "model_type": "qwen3_5_moe_text", "hidden_size": 64, "num_hidden_layers": 8, "vocab_size": 320,
        "attn_output_gate": True, "dtype": "bfloat16", "eos_token_id": 290, "full_attention_interval": 4,
        "layer_types": _layers("LLLFLLLF"), "max_position_embeddings": 262144, "mlp_only_layers": [],
        "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False, "mamba_ssm_dtype": "float32",
        "router_aux_loss_coef": 0.001, "tie_word_embeddings": False,
        "rope_parameters": _mrope(10000, 0.25, [2, 1, 1]),
    }
    vision = {
        "model_type": "qwen3_5_moe", "deepstack_visual_indexes": [], "depth": 2, "hidden_size": 32,
        "hidden_act": "gelu_pytorch_tanh", "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 48,
        "num_heads": 2, "num_position_embeddings": 16, "out_hidden_size": 64, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }
    config = {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe",
        "image_token_id": 295, "video_token_id": 296, "vision_start_token_id": 293, "vision_end_token_id": 294,
        "tie_word_embeddings": False, "text_config": text, "vision_config": vision,
    }
    return config, Layout(seed=101, branch=0.7, prefix="model.language_model.", fused_experts=True, shards=3, mtp=True,
                          vision=True, tokenizer_size=300)


def q35_odd():
    """Flat text-only config, F32 file, tied head, per-expert, sizes that are multiples of nothing, no layer_types."""
    config = _COMMON | _attention(6, 2, 24) | _deltanet(3, 6, 12, 20, 4) | _moe(10, 3, 20, 36) | {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "hidden_size": 72,
        "num_hidden_layers": 6, "vocab_size": 211, "attn_output_gate": True, "dtype": "float32",
        "full_attention_interval": 3, "max_position_embeddings": 4096, "mamba_ssm_dtype": "float32",
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "rope_parameters": _mrope(10000000, 0.25, [1, 1, 1]),
    }
    return config, Layout(seed=102, branch=0.35, dtype="F32")


def q35_equal():
    """As many value as key heads, kernel 2, BF16 states, YaRN over 64 positions, full-attention layer first."""
    config = _COMMON | _attention(4, 1, 40) | _deltanet(4, 4, 16, 24, 2) | _moe(5, 2, 24, 16) | {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "hidden_size": 48,
        "num_hidden_layers": 4, "vocab_size": 128, "attn_output_gate": True, "dtype": "bfloat16",
        "layer_types": _layers("FLLF"), "max_position_embeddings": 256, "tie_word_embeddings": False,
        "rope_parameters": _mrope(10000, 0.4, [4, 2, 2], rope_type="yarn", factor=4.0,
                                  original_max_position_embeddings=64),
    }
    return config, Layout(seed=103, state_dtype="BF16", fused_experts=True)


def _fp8(config, skipped):
    return config | {"quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
        "modules_to_not_convert": skipped}}


_FP8_SKIPPED = ["lm_head", "model.embed_tokens", "model.layers.0.linear_attn.in_proj_a",
                "model.layers.0.linear_attn.in_proj_b", "model.layers.0.linear_attn.conv1d", "model.layers.0.mlp.gate"]


def q35_fp8():
    """FP8 with block scales, every size a multiple of 128."""
    config = _COMMON | _attention(4, 2, 64) | _deltanet(2, 4, 64, 64, 4) | _moe(4, 2, 128, 128) | {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "hidden_size": 256,
        "num_hidden_layers": 3, "vocab_size": 256, "attn_output_gate": True, "dtype": "bfloat16",
        "layer_types": _layers("LLF"), "max_position_embeddings": 262144, "tie_word_embeddings": False,
        "rope_parameters": _mrope(10000000, 0.25, [3, 3, 2]),
    }
    return _fp8(config, _FP8_SKIPPED), Layout(seed=104, state_dtype="BF16", fp8=True, shards=2)


def q35_fp8_odd():
    """FP8 whose last blocks are partial in both directions, F32 scales."""
    config = _COMMON | _attention(3, 1, 40) | _deltanet(1, 3, 40, 56, 4) | _moe(4, 2, 136, 72) | {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "hidden_size": 152,
        "num_hidden_layers": 2, "vocab_size": 160, "attn_output_gate": True, "dtype": "bfloat16",
        "layer_types": _layers("LF"), "max_position_embeddings": 4096, "tie_word_embeddings": False,
        "rope_parameters": _mrope(10000000, 0.2, [2, 1, 1]),
    }
    return _fp8(config, _FP8_SKIPPED), Layout(seed=105, fp8=True, scale_dtype="F32")


def q3_next():
    """Qwen3-Next: projections grouped by key head, flat rope fields, per-expert."""
    config = _COMMON | _attention(4, 2, 32) | _deltanet(2, 4, 16, 16, 4) | _moe(8, 3, 24, 24) | {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "hidden_size": 64,
        "num_hidden_layers": 4, "vocab_size": 192, "torch_dtype": "bfloat16", "full_attention_interval": 4,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "intermediate_size": 96, "norm_topk_prob": True,
        "max_position_embeddings": 262144, "tie_word_embeddings": False, "rope_theta": 10000000,
        "rope_scaling": None, "partial_rotary_factor": 0.25, "linear_key_head_dim": 16,
    }
    return config, Layout(seed=106, state_dtype="BF16", mtp=True)


def q3_moe():
    """Qwen3-MoE: full attention only, plain norms, no gate and no shared expert; top-k probabilities not renormalised."""
    config = _COMMON | _attention(8, 2, 16) | _moe(12, 4, 24, 0) | {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 64,
        "num_hidden_layers": 4, "vocab_size": 192, "torch_dtype": "bfloat16", "decoder_sparse_step": 1,
        "mlp_only_layers": [], "intermediate_size": 96, "norm_topk_prob": False, "max_position_embeddings": 40960,
        "max_window_layers": 4, "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": False,
        "rope_theta": 1000000.0, "rope_scaling": None,
    }
    return config, Layout(seed=107)


MODELS = {
    "q35-base": q35_base,
    "q35-odd": q35_odd,
    "q35-equal": q35_equal,
    "q35-fp8": q35_fp8,
    "q35-fp8-odd": q35_fp8_odd,
    "q3-next": q3_next,
    "q3-moe": q3_moe,
}
