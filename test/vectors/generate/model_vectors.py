"""Reference vectors of one checkpoint directory: logits of prompts of many lengths, greedy continuations, own errors.

Writes OUT/vectors.safetensors and OUT/manifest.json; README.md describes both.

Usage: model_vectors.py --model DIR --out DIR [--seed N] [--eval DIR] [--greedy N]
"""

import argparse
import hashlib
import json
import platform
import random
import time
from pathlib import Path

import numpy
import safetensors
import tokenizers
import torch
import transformers
import reference as ref
from files import save_tensors

LENGTHS = [1, 2, 3, 4, 5, 15, 16, 63, 64, 65, 127, 128, 129, 200, 257, 500]
GREEDY_LENGTHS = [5, 64, 129]
GREEDY_STEPS = 256
STABILITY_LENGTH = 200
BATCH_LENGTHS = [3, 64, 77, 130]
NEAR_TIE = 1e-5
DRAWS = 16  # prompts drawn at a time until enough have no near-tie
ROUNDS = 6


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "safetensors": safetensors.__version__, "tokenizers": tokenizers.__version__, "numpy": numpy.__version__}


def checkpoint_digest(model_dir):
    """sha256 over config.json and the weight files, so that a test can tell that vectors and checkpoint belong together."""
    digest = hashlib.sha256()
    for file in [Path(model_dir) / "config.json", *sorted(Path(model_dir).glob("*.safetensors"))]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def tokenizer_size(model_dir, vocab):
    """Ids below this may be produced; the checkpoint's tokenizer knows no others."""
    file = Path(model_dir) / "tokenizer.json"
    if not file.exists():
        return vocab
    return max(tokenizers.Tokenizer.from_file(str(file)).get_vocab().values()) + 1


def dialogue_ids(model_dir, eval_dir):
    """Token ids of the evaluation questions with their expected answers, rendered by the checkpoint's own template."""
    tok = transformers.AutoTokenizer.from_pretrained(model_dir)
    ids = []
    for file in sorted(Path(eval_dir).glob("*.jsonl")):
        for line in file.read_text().splitlines()[:200]:
            item = json.loads(line)
            answer = item.get("answer") or item.get("match") or "Yes."
            messages = [*item["messages"], {"role": "assistant", "content": str(answer).split("|")[0]}]
            text = tok.apply_chat_template(messages, tokenize=False, enable_thinking=item.get("enable_thinking", True))
            ids.append(tok.encode(text, add_special_tokens=False))
    return ids


class Prompts:
    """Draws prompts: windows of shuffled dialogues where an evaluation set is given, else uniform ids."""

    def __init__(self, model_dir, size, seed, eval_dir):
        self.random = random.Random(seed)
        self.size = size
        self.text = None
        if eval_dir:
            dialogues = dialogue_ids(model_dir, eval_dir)
            self.random.shuffle(dialogues)
            self.text = [i for d in dialogues for i in d]

    def draw(self, length):
        if self.text is None:
            return [self.random.randrange(self.size) for _ in range(length)]
        start = self.random.randrange(len(self.text) - length + 1)
        return self.text[start:start + length]


def positions_of(length):
    """Positions whose logits are kept: all of a short prompt; the first, the last eight and chunk edges of a long one."""
    if length <= 16:
        return list(range(length))
    edges = [e + d for e in range(64, length + 64, 64) for d in (-2, -1, 0, 1)]
    return sorted({0, *range(length - 8, length), *(e for e in edges if e < length)})


def draw_clear(model, gaps, prompts, length):
    """The first prompt drawn without a gate gap below NEAR_TIE, else the one whose smallest is largest.

    Returns (ids, logits, gate gaps, draws made).
    """
    best = None
    for tries in range(1, 2 * DRAWS + 1):
        ids = prompts.draw(length)
        logits = ref.prompt_logits(model, ids)
        if best is None or gaps.gaps.min() > best[2].min():
            best = ids, logits, gaps.gaps.clone()
        if best[2].min() >= NEAR_TIE:
            break
    return *best, tries


def prompt_vectors(f32, bf16, gaps, prompts, size, out):
    """Fills `out` with each prompt's tensors; returns its manifest entries and the KL of the BF16 run at every position."""
    entries, kls = [], []
    for length in LENGTHS:
        ids, logits, gate, tries = draw_clear(f32, gaps, prompts, length)
        keep = positions_of(length)
        low = ref.prompt_logits(bf16, ids)
        kls.append(ref.kl(logits, low, size))
        name = f"prompt{length}"
        out[f"{name}.ids"] = torch.tensor(ids, dtype=torch.int32)
        out[f"{name}.positions"] = torch.tensor(keep, dtype=torch.int32)
        out[f"{name}.logits"] = logits[keep].contiguous()
        out[f"{name}.gate_gap"] = gate
        entries.append({"name": name, "length": length, "positions": len(keep), "draws": tries,
                        "min_gate_gap": gate.min().item(), "mean_kl_bf16": kls[-1].mean().item()})
    return entries, torch.cat(kls)


def greedy_vectors(model, gaps, prompts, size, wanted, out):
    """Greedy continuations of prompts that meet no near-tie, `wanted` of each length if the draws give as many."""
    entries = []
    for length in GREEDY_LENGTHS:
        kept, drawn = [], 0
        while len(kept) < wanted and drawn < ROUNDS * DRAWS:
            ids = [prompts.draw(length) for _ in range(DRAWS)]
            runs = ref.greedy(model, gaps, ids, GREEDY_STEPS, size)
            clear = torch.minimum(runs[1], runs[2]).amin(dim=1) >= NEAR_TIE
            kept += [(torch.tensor(ids[i]), *(r[i] for r in runs)) for i in clear.nonzero().flatten().tolist()]
            drawn += DRAWS
        kept = kept[:wanted]
        name = f"greedy{length}"
        entries.append({"name": name, "length": length, "prompts": len(kept), "drawn": drawn, "steps": GREEDY_STEPS})
        if not kept:
            continue
        ids, tokens, argmax_gap, gate_gap = (torch.stack(x) for x in zip(*kept))
        out[f"{name}.ids"] = ids.to(torch.int32)
        out[f"{name}.tokens"] = tokens.to(torch.int32)
        out[f"{name}.argmax_gap"] = argmax_gap
        out[f"{name}.gate_gap"] = gate_gap
        entries[-1]["distinct_tokens"] = int(tokens.unique().numel())
    return entries


def batch_vectors(model, gaps, prompts, out):
    """Prompts of several lengths that the reference ran as one left-padded batch: logits of their last two positions."""
    ids = [draw_clear(model, gaps, prompts, length)[0] for length in BATCH_LENGTHS]
    for length, own, logits in zip(BATCH_LENGTHS, ids, ref.padded_logits(model, ids)):
        out[f"batch{length}.ids"] = torch.tensor(own, dtype=torch.int32)
        out[f"batch{length}.logits"] = logits[-2:].contiguous()
    return BATCH_LENGTHS


def stability(model, model_dir, ids):
    """How far the reference is from itself (largest absolute logit difference) and from exact arithmetic."""
    whole = ref.prompt_logits(model, ids)
    with ref.recurrent_form(model):
        recurrent = ref.prompt_logits(model, ids)
    others = {
        "exact_float64": ref.exact_logits(model_dir, ids),
        "cached_cut_64": ref.cached_logits(model, ids, [64]),
        "cached_each_token": ref.cached_logits(model, ids, list(range(1, len(ids)))),
        "recurrent_form": recurrent,
        "left_padded_batch": ref.padded_logits(model, [ids, ids[:77]])[0],
    }
    return {"length": len(ids)} | {k: (v - whole).abs().max().item() for k, v in others.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eval", type=Path, help="directory of *.jsonl with messages: prompts are windows of them")
    parser.add_argument("--greedy", type=int, default=4, help="greedy prompts of each length")
    args = parser.parse_args()
    torch.set_num_threads(1)  # more threads only wait for each other at these sizes
    start = time.monotonic()

    f32 = ref.load_model(args.model, torch.float32)
    bf16 = ref.load_model(args.model, torch.bfloat16)
    gaps = ref.GateGaps(f32)
    vocab = f32.config.vocab_size
    size = tokenizer_size(args.model, vocab)
    prompts = Prompts(args.model, size, args.seed, args.eval)
    tensors = {}
    entries, kls = prompt_vectors(f32, bf16, gaps, prompts, size, tensors)
    greedy_entries = greedy_vectors(f32, gaps, prompts, size, args.greedy, tensors)
    manifest = {
        "model": args.model.name, "checkpoint_sha256": checkpoint_digest(args.model), "seed": args.seed,
        "versions": versions(), "vocab": vocab, "tokenizer_size": size, "near_tie": NEAR_TIE,
        "prompts": entries, "greedy": greedy_entries, 
        "batch": batch_vectors(f32, gaps, Prompts(args.model, size, args.seed + 1, args.eval), tensors),
        "reference_bf16_mean_kl": kls.mean().item(), "reference_bf16_kl_positions": len(kls),
        "reference_max_abs_logit_diff": stability(f32, args.model, prompts.draw(STABILITY_LENGTH)),
        "tensors": {k: {"dtype": str(v.dtype).removeprefix("torch."), "shape": list(v.shape)} for k, v in tensors.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, args.out / "vectors.safetensors")
    (args.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{args.model.name}: {time.monotonic() - start:.0f} s, reference BF16 KL {kls.mean():.2e}, "
          f"stability {manifest['reference_max_abs_logit_diff']}")


if __name__ == "__main__":
    main()
