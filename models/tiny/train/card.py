"""Writes the figures of eval/report.json and of the training log into the model card."""

import argparse
import json
from pathlib import Path

from common import MODEL_DIR

START, END = "<!-- figures -->", "<!-- /figures -->"


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def percent(x):
    """A share as per cent with one decimal."""
    return f"{100 * x:.1f} %"


def bar(shares):
    """One character per expert, its height the expert's share relative to the busiest."""
    steps, top = "▁▂▃▄▅▆▇█", max(shares)
    return "".join(steps[min(7, int(8 * s / top))] for s in shares)


def figures(report, training):
    """The measured part of the card as Markdown."""
    held, chat = report["held_out"], report["chat"]
    recall = [(n, r["prompts"], r["mean_tokens"], percent(r["accuracy"])) for n, r in report["recall_chat"].items()]
    text = report["recall_text_by_pairs"].items()
    length = report["recall_text_by_tokens_up_to"].items()
    usage = [(u["layer"], f"`{bar(u['shares'])}`", u["max_over_mean"], u["min_over_mean"], u["entropy"]) for u in report["expert_usage"]]
    parts = ["### Training run\n", table(("figure", "value"), training.items()),
             "\n### Language\n", table(("figure", "value"), [
                 ("perplexity of assistant tokens, held-out phrasings", f"{held['perplexity']:.3f} ({held['tokens']} tokens)"),
                 ("chat prompts answered as expected (greedy)", f"{percent(chat['pass'])} of {chat['prompts']}"),
                 ("... with thinking / without", f"{percent(chat['thinking'])} / {percent(chat['direct'])}"),
                 ("turns that end by themselves", percent(chat["ended"])),
                 ("MTP layer agrees with the main head on the next but one token", percent(held["mtp_agreement"]))]),
             "\n### Recall through the chat template (`eval/recall.jsonl`; every answer token is the greedy choice, after the usual thought when thinking is on)\n",
             table(("pairs", "prompts", "mean prompt tokens", "accuracy"), recall),
             "\n### Recall in plain text (answer tokens)\n",
             table(("pairs", *(n for n, _ in text)), [("accuracy", *(percent(a) for _, a in text))]), "",
             table(("tokens up to", *(n for n, _ in length)), [("accuracy", *(percent(a) for _, a in length))]),
             "\nThe same with two-digit numbers as values (5 % of the recall samples), per token:\n",
             table(("pairs", *report["recall_text_numbers_by_pairs"]),
                   [("accuracy", *(percent(a) for a in report["recall_text_numbers_by_pairs"].values()))]),
             "\n### Expert usage on the training mixture (16 experts, top 2)\n",
             table(("layer", "experts 0 to 15", "busiest / mean", "idlest / mean", "entropy (1 = even)"), usage),
             "\nBusiest / mean when the traffic is of one kind:\n",
             table(("traffic", *(str(u["layer"]) for u in report["expert_usage"])),
                   [(k, *v) for k, v in report["busiest_over_mean_by_kind"].items()])]
    return "\n".join(parts) + "\n"


def training_facts(log):
    """The latest value of every figure in the training log."""
    last = {}
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            last |= json.loads(line)
    return {"optimiser steps": last["step"], "tokens seen": f"{last['tok']:,}", "training time": f"{last['s'] / 60:.0f} minutes on 2 shared CPU cores",
            "last loss (weighted mixture)": last["loss"]}


def main():
    """Command line; see README.md beside this file."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--log", type=Path, required=True, help="what train.py printed")
    args = p.parse_args()
    report = json.loads((MODEL_DIR / "eval/report.json").read_text())
    report["training"] = training_facts(args.log)
    (MODEL_DIR / "eval/report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    card = (MODEL_DIR / "README.md").read_text()
    head, rest = card.split(START)
    tail = rest.split(END)[1]
    (MODEL_DIR / "README.md").write_text(f"{head}{START}\n\n{figures(report, report['training'])}\n{END}{tail}")


if __name__ == "__main__":
    main()
