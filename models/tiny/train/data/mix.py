"""Turns samples into packed rows of token ids, loss weights and document ids."""

import random
import re

import numpy as np

from .dialogue import Dialogues, add_turn
from .drills import arithmetic, copying, raw_copy
from .recall import chat_recall, raw_recall

ASSISTANT = re.compile(r"<\|im_start\|>assistant\n(<think>\n\n</think>\n\n|<think>\n)?(.*?<\|im_end\|>)", re.S)
CONTEXT_WEIGHT = 0.1
# Answers are a small part of a recall sample's tokens, so they count more than words of dialogue.
RECALL_GAIN = 3.0
SHARES = {"dialogue": 0.5, "recall": 0.3, "drill": 0.2}


class Mixer:
    """Infinite stream of rows; `most_pairs` is the recall curriculum's level, set by the trainer."""

    def __init__(self, tokenizer, template, seed, held_out=False):
        self.tok, self.template = tokenizer, template
        self.rng = random.Random(seed)
        self.dialogues = Dialogues(held_out)
        self.most_pairs = 4
        self.shares = dict(SHARES)
        self.used = dict.fromkeys(SHARES, 1)
        self.pending = []

    def encode_chat(self, messages, tools=None, context_weight=CONTEXT_WEIGHT):
        """(ids, weights) of a conversation: 1 on what the assistant generates."""
        text = self.template.render(messages=messages, tools=tools, add_generation_prompt=False)
        enc = self.tok.encode(text, add_special_tokens=False)
        weight = np.full(len(text) + 1, context_weight, np.float32)
        for m in ASSISTANT.finditer(text):
            weight[m.start(2):m.end(2)] = 1.0
        return enc.ids, weight[[a for a, _ in enc.offsets]]

    def encode_parts(self, parts):
        """(ids, weights) of [(text, weight)], each part tokenised on its own."""
        ids, weights = [], []
        for text, weight in parts:
            piece = self.tok.encode(text, add_special_tokens=False).ids
            ids += piece
            weights += [weight] * len(piece)
        return ids, np.array(weights, np.float32)

    def sample(self, kind):
        """One encoded sample of the given kind."""
        r = self.rng
        if kind == "dialogue":
            return self.encode_chat(*self.dialogues.sample(r))
        if kind == "recall":
            if r.random() < 0.6:
                return self.encode_parts(raw_recall(r, self.most_pairs))
            return self.encode_chat(chat_recall(r, self.most_pairs, self.dialogues), None, 0.0)
        if r.random() < 0.4:
            return self.encode_parts(raw_copy(r, 40))
        messages, think = [], r.random() < 0.6
        for _ in range(r.choice((1, 2, 3))):
            q, t, a = arithmetic(r) if r.random() < 0.7 else copying(r)
            add_turn(messages, q, t if think else "", a)
        return self.encode_chat(messages)

    def next_sample(self):
        """A sample of the kind that lags most behind its share of tokens."""
        kind = max(self.shares, key=lambda k: self.shares[k] * sum(self.used.values()) - self.used[k])
        ids, weights = self.sample(kind)
        if kind == "recall":
            weights = weights * RECALL_GAIN
        self.used = {k: 0.98 * n + (k == kind) * len(ids) for k, n in self.used.items()}
        return ids, weights

    def row(self, length):
        """Packs samples into `length` tokens; what does not fit waits for a later row."""
        ids, weights = np.zeros(length, np.int64), np.zeros(length, np.float32)
        doc, at, number, misses = np.full(length, -1, np.int64), 0, 0, 0
        while misses < 6 and length - at > 8:
            fit = next((i for i, s in enumerate(self.pending) if len(s[0]) <= length - at), None)
            if fit is None:
                fresh = self.next_sample()
                if len(fresh[0]) <= length:
                    self.pending.append(fresh)
                misses += len(fresh[0]) > length - at
                continue
            s, wt = self.pending.pop(fit)
            ids[at:at + len(s)], doc[at:at + len(s)] = s, number
            weights[at:at + len(s)] = wt
            weights[at] = 0.0
            at, number = at + len(s), number + 1
        return ids, weights, doc

    def batch(self, rows, length):
        """(ids, weights, doc) arrays [rows, length]."""
        return tuple(np.stack(x) for x in zip(*(self.row(length) for _ in range(rows))))
