"""Measures the exported checkpoint (BF16 weights, float32 maths) and writes eval/report.json."""

import argparse
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from common import MODEL_DIR, load_template, load_tokenizer
from data.mix import SHARES, Mixer
from data.recall import raw_recall
from model import TinyModel

SEED = 4242
LENGTHS = (64, 128, 256, 512)


def load_model(folder):
    """The model with the weights of both shards, as float32."""
    tensors = {}
    for file in sorted(folder.glob("model-*.safetensors")):
        tensors |= {k: v.float() for k, v in load_file(str(file)).items()}
    model = TinyModel()
    model.load_state_dict(tensors)
    return model.eval()


class Evaluator:
    """The model with its tokenizer and template."""

    def __init__(self, folder):
        self.folder = folder
        self.model, self.tok, self.template = load_model(folder), load_tokenizer(folder), load_template(folder)
        self.size = self.tok.get_vocab_size()
        self.ends = [self.tok.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")]

    def logits(self, hidden):
        """Logits without the padding rows of the vocabulary."""
        return F.linear(hidden, self.model.lm_head.weight[: self.size])

    def hidden(self, rows):
        """Hidden states [N, T, H] of lists of ids, padded on the right to whole chunks."""
        length = -(-max(map(len, rows)) // self.model.s.chunk) * self.model.s.chunk
        ids = torch.tensor([r + [0] * (length - len(r)) for r in rows])
        doc = torch.tensor([[0] * len(r) + [-1] * (length - len(r)) for r in rows])
        return self.model.trunk(ids, self.model.context(doc, torch.float32))

    def prompt(self, row):
        """Token ids of a chat row with its generation prompt."""
        text = self.template.render(messages=row["messages"], tools=row.get("tools"), add_generation_prompt=True,
                                    enable_thinking=row.get("enable_thinking", True))
        return self.tok.encode(text, add_special_tokens=False).ids

    def generate(self, rows, limit=64, group=16):
        """Greedy answers of chat rows: [(text with the reasoning, did the turn end)] in their order."""
        prompts = [self.prompt(r) for r in rows]
        order, out = sorted(range(len(rows)), key=lambda i: len(prompts[i])), [None] * len(rows)
        for start in range(0, len(order), group):
            live, new = order[start:start + group], {}
            for _ in range(limit):
                texts = [prompts[i] + new.get(i, []) for i in live]
                last = torch.tensor([len(t) - 1 for t in texts])
                tokens = self.logits(self.hidden(texts)[torch.arange(len(live)), last]).argmax(-1).tolist()
                for i, token in zip(live, tokens):
                    if token in self.ends:
                        out[i] = (self.tok.decode(new.get(i, []), skip_special_tokens=False), True)
                    else:
                        new.setdefault(i, []).append(token)
                live = [i for i in live if out[i] is None]
                if not live:
                    break
            for i in live:
                out[i] = (self.tok.decode(new[i], skip_special_tokens=False), False)
        return out

    def right(self, ids, weights):
        """Per answer token: is the greedy token the expected one?"""
        guess = self.logits(self.hidden([ids])[0, : len(ids)]).argmax(-1)
        hits = guess[:-1] == torch.tensor(ids[1:])
        return hits[torch.from_numpy(weights[1:]) == 1]

    def chat(self, limit):
        """Share of chat.jsonl prompts whose answer matches and ends."""
        rows = [json.loads(x) for x in (self.folder / "eval/chat.jsonl").read_text().splitlines()][:limit]
        out = []
        for row, (text, ended) in zip(rows, self.generate(rows)):
            answer = text.split("</think>")[-1].strip()
            out.append({"prompt": row["messages"][-1]["content"], "thinking": row["enable_thinking"], "text": text, "ended": ended,
                        "pass": ended and re.search(row["match"], answer, re.S) is not None})
        share = {t: sum(o["pass"] for o in out if o["thinking"] == t) / max(1, sum(o["thinking"] == t for o in out)) for t in (True, False)}
        return {"prompts": len(out), "pass": sum(o["pass"] for o in out) / len(out), "thinking": share[True], "direct": share[False],
                "ended": sum(o["ended"] for o in out) / len(out)}, out

    def recall_chat(self):
        """Exact answers on recall.jsonl by number of pairs.

        One pass per prompt: the answer counts when every token of it, `<|im_end|>` included, is the
        greedy choice after the prompt (and, when thinking is on, after the usual thought).
        """
        groups = {}
        for line in (self.folder / "eval/recall.jsonl").read_text().splitlines():
            row = json.loads(line)
            head = self.prompt(row)
            thought = "I look up the pairs.\n</think>\n\n" if row["enable_thinking"] else ""
            before = self.tok.encode(thought, add_special_tokens=False).ids
            answer = self.tok.encode(row["answer"] + "<|im_end|>", add_special_tokens=False).ids
            ids = head + before + answer
            hits = self.right(ids, np.array([0.0] * (len(ids) - len(answer)) + [1.0] * len(answer)))
            groups.setdefault(row["pairs"], []).append((bool(hits.all()), len(head)))
        return {str(n): {"prompts": len(g), "accuracy": sum(o for o, _ in g) / len(g), "mean_tokens": round(sum(t for _, t in g) / len(g))}
                for n, g in groups.items()}

    def recall_raw(self, mixer, numbers, samples=10):
        """Answer-token accuracy of plain-text recall by exact number of pairs, and by length in tokens."""
        by_pairs, by_length = {}, {n: [] for n in LENGTHS}
        for count in (2, 4, 8, 16, 32, 48, 64, 80):
            for _ in range(samples):
                ids, weights = mixer.encode_parts(raw_recall(mixer.rng, count, exact=True, numbers=numbers))
                hits = self.right(ids, weights)
                by_pairs.setdefault(str(count), []).append(hits)
                fit = [n for n in LENGTHS if len(ids) <= n]
                if fit:
                    by_length[fit[0]].append(hits)
        mean = lambda x: round(torch.cat(x).float().mean().item(), 4)
        return {k: mean(v) for k, v in by_pairs.items()}, {str(k): mean(v) for k, v in by_length.items() if v}

    def held_out(self, rows=48, length=512):
        """Perplexity of assistant tokens on held-out phrasings, MTP agreement, and expert usage on the mixture."""
        model, talk = self.model, Mixer(self.tok, self.template, SEED, held_out=True)
        talk.shares = {"dialogue": 1.0, "recall": 0.0, "drill": 0.0}
        nll, n, ahead, agree = 0.0, 0, 0, 0
        for _ in range(rows // 8):
            ids, weights, doc = (torch.from_numpy(a) for a in talk.batch(8, length))
            ctx = model.context(doc, torch.float32)
            h = model.trunk(ids, ctx)
            logits, keep = self.logits(h), weights[:, 1:] == 1
            nll += F.cross_entropy(logits[:, :-1][keep], ids[:, 1:][keep], reduction="sum").item()
            n += int(keep.sum())
            m = self.logits(model.predict_ahead(h, torch.cat([ids[:, 1:], ids[:, :1]], 1), ctx))
            keep2 = (weights[:, 2:] == 1) & (doc[:, 2:] == doc[:, :-2])
            agree += int((m[:, :-2].argmax(-1) == logits[:, 1:-1].argmax(-1))[keep2].sum())
            ahead += int(keep2.sum())
        return {"tokens": n, "perplexity": math.exp(nll / n), "mtp_agreement": agree / ahead}

    def usage(self, kind=None, rows=32, length=512):
        """Per layer: share of each expert, max over mean, and entropy relative to a uniform choice.

        On the training mixture, or on one kind of sample only.
        """
        mix, total = Mixer(self.tok, self.template, SEED + 1, held_out=True), None
        mix.most_pairs = 32
        if kind:
            mix.shares = {k: float(k == kind) for k in SHARES}
        for _ in range(rows // 8):
            ids, _, doc = (torch.from_numpy(a) for a in mix.batch(8, length))
            ctx = self.model.context(doc, torch.float32)
            h = self.model.trunk(ids, ctx)
            self.model.predict_ahead(h, torch.cat([ids[:, 1:], ids[:, :1]], 1), ctx)
            counts = torch.stack([c for c, _ in ctx["stats"]]).double()
            total = counts if total is None else total + counts
        share = total / total.sum(-1, keepdim=True)
        out = []
        for i, p in enumerate(share):
            entropy = -(p * p.clamp(min=1e-12).log()).sum().item() / math.log(len(p))
            out.append({"layer": "mtp" if i == len(share) - 1 else i, "max_over_mean": round(p.max().item() * len(p), 3),
                        "min_over_mean": round(p.min().item() * len(p), 3), "entropy": round(entropy, 4),
                        "shares": [round(x, 4) for x in p.tolist()]})
        return out


@torch.no_grad()
def main():
    """Command line; see README.md beside this file."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", type=Path, default=MODEL_DIR)
    p.add_argument("--chat-only", type=int, default=0, help="only the first N chat prompts, printed")
    p.add_argument("--threads", type=int, default=2)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    ev = Evaluator(args.model)
    chat, answers = ev.chat(args.chat_only or None)
    for a in answers:
        print("PASS" if a["pass"] else "FAIL", "think" if a["thinking"] else "direct", repr(a["prompt"]), "->", repr(a["text"]))
    print(json.dumps(chat))
    if args.chat_only:
        return
    mixer = Mixer(ev.tok, ev.template, SEED + 2)
    by_pairs, by_length = ev.recall_raw(mixer, numbers=False)
    numbers, _ = ev.recall_raw(mixer, numbers=True)
    report = {"held_out": ev.held_out(), "chat": chat, "recall_chat": ev.recall_chat(), "recall_text_by_pairs": by_pairs,
              "recall_text_by_tokens_up_to": by_length,
              "recall_text_numbers_by_pairs": numbers, "expert_usage": ev.usage(),
              "busiest_over_mean_by_kind": {k: [u["max_over_mean"] for u in ev.usage(k, rows=16)] for k in SHARES},
              "chat_failures": [{k: a[k] for k in ("prompt", "thinking", "text")} for a in answers if not a["pass"]]}
    (args.model / "eval/report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({k: v for k, v in report.items() if k not in ("expert_usage", "chat_failures")}, indent=1))


if __name__ == "__main__":
    main()
