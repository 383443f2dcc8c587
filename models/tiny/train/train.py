"""Trains the model on the synthetic mixture; resumable, seeded, scheduled by time or by steps."""

import argparse
import json
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import ranks

from common import load_template, load_tokenizer
from data.mix import SHARES, Mixer
from model import TinyModel, compile_blocks
from optim import Optimiser

LEVELS = [8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80]
MTP_ROWS = 0.25
MTP_WEIGHT = 0.3
AUX_WEIGHT = 0.02
# Until recall has taken hold it gets more of the tokens; afterwards the mixture is data.mix.SHARES.
EARLY_SHARES = {"dialogue": 0.3, "recall": 0.5, "drill": 0.2}
EARLY_LEVELS = 1
EARLY_PROGRESS = 0.35
MASTERED = 0.85
EMA = 0.99


def weighted_loss(hidden, head, ids, weights):
    """Cross entropy of hidden [N, H] against ids [N], averaged by weights; rows of weight 0 cost nothing."""
    keep = weights.nonzero().squeeze(1)
    logits = F.linear(hidden.index_select(0, keep), head).float()
    loss = F.cross_entropy(logits, ids[keep], reduction="none")
    return (loss * weights[keep]).sum() / weights.sum().clamp(min=1e-6)


def losses(model, batch, dtype):
    """(main, mtp, aux, stats) of one batch of (ids, weights, doc)."""
    ids, weights, doc = batch
    ctx = model.context(doc, dtype)
    h = model.trunk(ids, ctx)
    width = h.shape[-1]
    main = weighted_loss(h[:, :-1].reshape(-1, width), model.lm_head.weight, ids[:, 1:].reshape(-1), weights[:, 1:].reshape(-1))
    n = max(1, int(ids.shape[0] * MTP_ROWS))
    sub = dict(ctx, mask=ctx["mask"][:n])
    nxt = torch.cat([ids[:n, 1:], ids[:n, :1] * 0], 1)
    ahead = model.predict_ahead(h[:n], nxt, sub)
    same = (doc[:n, 2:] == doc[:n, :-2]).float()
    mtp = weighted_loss(ahead[:, :-2].reshape(-1, width), model.lm_head.weight, ids[:n, 2:].reshape(-1),
                        (weights[:n, 2:] * same).reshape(-1))
    aux = torch.stack([a for _, a in ctx["stats"]]).mean()
    return main, mtp, aux, ctx["stats"]


def tensors(arrays):
    """The three arrays of a batch as tensors."""
    return tuple(torch.from_numpy(a) for a in arrays)


@torch.no_grad()
def recall_accuracy(model, mixer, length):
    """Share of right answer tokens on fresh raw recall rows at the mixer's level."""
    saved, mixer.shares = mixer.shares, {"dialogue": 0, "recall": 1, "drill": 0}
    pending, mixer.pending = mixer.pending, []
    ids, weights, doc = tensors(mixer.batch(2, length))
    mixer.shares, mixer.pending = saved, pending
    guess = F.linear(model.trunk(ids, model.context(doc, torch.float32)), model.lm_head.weight).argmax(-1)
    hit = weights[:, 1:] >= 1
    return (guess[:, :-1] == ids[:, 1:])[hit].float().mean().item()


class Trainer:
    """The loop, its schedule and its checkpoints."""

    def __init__(self, args):
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        self.model = TinyModel()
        self.dtype = torch.bfloat16 if args.bf16 else torch.float32
        self.opt = Optimiser(self.model.named_parameters())
        self.ema = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        tok, template = load_tokenizer(), load_template()
        self.mixer = Mixer(tok, template, args.seed + 7919 * args.rank)
        self.probe = Mixer(tok, template, args.seed + 1)
        self.held = tensors(Mixer(tok, template, args.seed + 2, held_out=True).batch(4, args.length))
        self.step, self.level, self.seconds, self.tokens = 0, 0, 0.0, 0
        self.clock, self.stop = 0.0, False
        args.work.mkdir(parents=True, exist_ok=True)
        self.path = args.work / "checkpoint.pt"
        if self.path.exists():
            self.resume()

    def resume(self):
        """Continues from the checkpoint in the work folder."""
        ck = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(ck["model"])
        self.ema, self.opt.state, self.opt.count = ck["ema"], ck["opt"], ck["count"]
        self.step, self.level, self.seconds, self.tokens = ck["step"], ck["level"], ck["seconds"], ck["tokens"]
        self.clock = self.seconds
        # The stream is not replayed: each resumption draws from a new seed derived from the step.
        self.mixer.rng.seed(self.args.seed * 1000003 + self.step * 64 + self.args.rank)

    def save(self):
        """Writes the checkpoint atomically."""
        tmp = self.path.with_suffix(".tmp")
        torch.save({"model": self.model.state_dict(), "ema": self.ema, "opt": self.opt.state, "count": self.opt.count,
                    "step": self.step, "level": self.level, "seconds": self.seconds, "tokens": self.tokens}, tmp)
        tmp.rename(self.path)

    def progress(self):
        """Share of the budget that is used, 0 to 1."""
        a = self.args
        return self.step / a.steps if a.steps else self.clock / (60 * a.minutes)

    def factor(self):
        """Warm-up, then constant, then linear decay over the last `--decay` of the budget."""
        p = self.progress()
        return min(1.0, (self.step + 1) / 30) * min(1.0, max(0.0, (1 - p) / self.args.decay) + 0.005)

    def advance(self):
        """One optimiser step; returns the figures to log."""
        self.mixer.most_pairs = LEVELS[self.level]
        early = self.level < EARLY_LEVELS and self.progress() < EARLY_PROGRESS
        self.mixer.shares = EARLY_SHARES if early else SHARES
        batch = tensors(self.mixer.batch(self.args.rows, self.args.length))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.args.bf16):
            main, mtp, aux, stats = losses(self.model, batch, self.dtype)
        (main + MTP_WEIGHT * mtp + AUX_WEIGHT * aux).backward()
        # Every rank follows rank 0's clock, curriculum level and end.
        mine = [self.seconds, self.level, self.stop] if self.args.rank == 0 else [0, 0, 0]
        facts = ranks.average(list(self.model.parameters()), [float(x) for x in mine], self.args.ranks)
        self.clock, self.level, self.stop = facts[0], round(facts[1]), facts[2] > 0
        self.opt.step(self.factor())
        self.opt.zero()
        if self.args.rank == 0:
            self.average_weights()
        self.step += 1
        self.tokens += batch[0].numel() * self.args.ranks
        busy = max((c.max() / c.float().mean()).item() for c, _ in stats)
        idle = min(c.min().item() for c, _ in stats)
        return {"loss": main.item(), "mtp": mtp.item(), "busiest": busy, "idlest": idle}

    @torch.no_grad()
    def average_weights(self):
        """Keeps the running average that interim exports use."""
        for k, p in self.model.named_parameters():
            self.ema[k].lerp_(p, 1 - min(EMA, (self.step + 1) / (self.step + 10)))

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")
    def evaluate(self):
        """Held-out loss and recall at the current level; raises the level when it is mastered."""
        held = losses(self.model, self.held, torch.float32)[0].item()
        self.probe.most_pairs = LEVELS[self.level]
        recall = recall_accuracy(self.model, self.probe, self.args.length)
        if recall > MASTERED and self.level + 1 < len(LEVELS) and LEVELS[self.level + 1] <= self.args.most_pairs:
            self.level += 1
        return {"held": held, "recall": recall, "level": LEVELS[self.level]}

    def run(self):
        """Trains until the budget is spent or SIGTERM asks for a checkpoint and the end."""
        saved, lead = self.seconds, self.args.rank == 0
        asked = []
        signal.signal(signal.SIGTERM, (lambda *_: asked.append(True)) if lead else signal.SIG_IGN)
        while self.progress() < 1 and not self.stop:
            start = time.time()
            self.stop = bool(asked)
            row = self.advance()
            if lead and self.step % 30 == 0:
                row |= self.evaluate()
            self.seconds += time.time() - start
            if lead and self.step % 10 == 0:
                row |= {"step": self.step, "tok": self.tokens, "s": self.seconds, "lr": self.factor(), "dt": time.time() - start}
                print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)
            if lead and self.seconds - saved > 240:
                saved = self.seconds
                self.save()
        if lead:
            self.save()
            print(json.dumps({"step": self.step, "tok": self.tokens, "s": round(self.seconds, 1)}), flush=True)


def main():
    """Command line; see README.md beside this file."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", type=Path, required=True, help="folder of the checkpoint, outside the repository")
    p.add_argument("--minutes", type=float, default=100, help="training time budget")
    p.add_argument("--steps", type=int, default=0, help="step budget, instead of --minutes")
    p.add_argument("--rows", type=int, default=8)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--decay", type=float, default=0.45)
    p.add_argument("--most-pairs", type=int, default=80)
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--ranks", type=int, default=1, help="processes that share each batch; --rows counts per process")
    p.add_argument("--rank", type=int, default=0, help="set by the first process for the others")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true", help="bfloat16 matmuls")
    p.add_argument("--compile", action="store_true", help="compile the element-wise parts; pays after some minutes")
    args = p.parse_args()
    if args.compile:
        compile_blocks()
    others = ranks.start(args.work, args.rank, args.ranks)
    Trainer(args).run()
    for process in others:
        process.wait()


if __name__ == "__main__":
    main()
