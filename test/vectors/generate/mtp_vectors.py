"""Reference of the multi-token prediction layer: the second-next token's logits, and states around a rejected draft.

The modelling code has no MTP; this composes its modules in the published order: the embedding of token t+1 and the
final-normed hidden state of token t, each through its own norm, concatenated EMBEDDING FIRST, `fc`, one
full-attention decoder layer at position t, `mtp.norm`, the shared head.

Usage: mtp_vectors.py --model DIR --out DIR
"""

import argparse
import json
from pathlib import Path

import torch
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as q35

import reference as ref
from files import save_tensors
from model_vectors import checkpoint_digest, versions

TOKENS = 130
SEED = 7
ACCEPTED = [60, 63, 64, 65]  # lengths at which a draft of three tokens is rejected
KEEP = [0, 1, 2, 3, 62, 63, 64, 65, 126, 127, 128]


def fused_experts(tensors, count):
    """Stacks per-expert tensors of the layer into the two that the module has; leaves fused ones."""
    if "mlp.experts.gate_up_proj" in tensors:
        return tensors
    def stack(name):
        return torch.stack([tensors.pop(f"mlp.experts.{e}.{name}.weight") for e in range(count)])
    gate, up, down = stack("gate_proj"), stack("up_proj"), stack("down_proj")
    return tensors | {"mlp.experts.gate_up_proj": torch.cat([gate, up], 1), "mlp.experts.down_proj": down}


class Mtp:
    """The MTP head of a checkpoint in float32."""

    def __init__(self, model_dir, model):
        self.model = model
        tensors = {k.removeprefix("mtp."): v.float() for k, v in ref._all_tensors(model_dir).items() if k.startswith("mtp.")}
        config = model.config
        self.layer = q35.Qwen3_5MoeDecoderLayer(config, config.layer_types.index("full_attention"))
        layer = {k.removeprefix("layers.0."): v for k, v in tensors.items() if k.startswith("layers.0.")}
        self.layer.load_state_dict(fused_experts(layer, config.num_experts))
        self.fc = tensors["fc.weight"]
        self.norms = {}
        for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
            self.norms[name] = q35.Qwen3_5MoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.norms[name].load_state_dict({"weight": tensors[f"{name}.weight"]})

    def __call__(self, ids):
        """(final-normed hidden [T, H], logits [T-1, V] where row t predicts token t+2)."""
        ids = torch.tensor([ids])
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        e = self.norms["pre_fc_norm_embedding"](self.model.model.embed_tokens(ids[:, 1:]))
        h = self.norms["pre_fc_norm_hidden"](hidden[:, :-1])
        u = torch.cat([e, h], -1) @ self.fc.T
        n = u.shape[1]
        positions = torch.arange(n)[None, None].expand(3, 1, -1)
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        u = self.layer(u, position_embeddings=self.model.model.rotary_emb(u, positions), attention_mask=mask)
        return hidden[0], self.model.lm_head(self.norms["norm"](u))[0]


def rollback(model, ids, accepted, out):
    """Logits of the token after `accepted` tokens when three wrong tokens were tried and taken back first."""
    wrong = [(t + 1) % model.config.vocab_size for t in ids[accepted:accepted + 3]]
    clean = ref.cached_logits(model, ids[:accepted + 1], [accepted])[-1]
    out[f"rollback{accepted}.draft"] = torch.tensor(wrong, dtype=torch.int32)
    out[f"rollback{accepted}.draft_logits"] = ref.cached_logits(model, ids[:accepted] + wrong, [accepted])[accepted:].contiguous()
    out[f"rollback{accepted}.logits"] = clean.contiguous()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = ref.load_model(args.model, torch.float32)
    size = model.config.vocab_size
    ids = torch.randint(0, size, (TOKENS,), generator=torch.Generator().manual_seed(SEED)).tolist()
    hidden, logits = Mtp(args.model, model)(ids)
    out = {"ids": torch.tensor(ids, dtype=torch.int32), "positions": torch.tensor(KEEP, dtype=torch.int32),
           "hidden": hidden[KEEP].contiguous(), "logits": logits[KEEP].contiguous()}
    for accepted in ACCEPTED:
        rollback(model, ids, accepted, out)
    args.out.mkdir(parents=True, exist_ok=True)
    save_tensors(out, args.out / "vectors.safetensors")
    manifest = {"model": args.model.name, "checkpoint_sha256": checkpoint_digest(args.model), "seed": SEED,
                "versions": versions(), "accepted": ACCEPTED,
                "tensors": {k: [str(v.dtype).removeprefix("torch."), list(v.shape)] for k, v in out.items()}}
    (args.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"mtp of {args.model.name}: {len(out)} tensors")


if __name__ == "__main__":
    main()
