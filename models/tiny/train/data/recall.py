"""Key-value recall: pairs of words (or numbers), then questions about some of them."""

from . import world as w

SEPARATORS = [", ", "; ", "\n"]
INTROS = ["Remember these pairs:", "Remember:", "Here are some pairs:", "Pairs:"]
ASK_ONE = ["What is the value of {}?", "What is {}?", "Give me the value of {}."]
ASK_MANY = ["What are the values of {}?", "Give me the values of {}."]


def make_pairs(rng, count, numbers=None):
    """`count` distinct keys with values that are words or (rarely, unless asked for) two-digit numbers."""
    keys = rng.sample(w.WORDS, count)
    if numbers is None:
        numbers = rng.random() < 0.05
    return [(k, str(rng.randrange(10, 100)) if numbers else rng.choice(w.WORDS)) for k in keys]


def listing(pairs, sep):
    """The pairs as text: `key = value` joined by sep."""
    return sep.join(f"{k} = {v}" for k, v in pairs)


def draw_count(rng, most):
    """Number of pairs, biased to the hard end of 2..most."""
    return rng.randrange(2, most + 1) if rng.random() < 0.5 else rng.randrange(max(2, most // 2), most + 1)


def raw_recall(rng, most, exact=False, numbers=None):
    """[(text, weight)] in plain text with many queries; weight 1 on answers only."""
    pairs = make_pairs(rng, most if exact else draw_count(rng, most), numbers)
    sep = rng.choice(SEPARATORS)
    parts = [(rng.choice(INTROS) + rng.choice((" ", "\n")), 0.0), (listing(pairs, sep) + "\n?\n", 0.0)]
    for k, v in rng.sample(pairs, min(len(pairs), 24)):
        parts += [(f"{k} =", 0.0), (f" {v}", 1.0), (rng.choice(SEPARATORS), 0.0)]
    parts.append(("<|endoftext|>", 0.0))
    return parts


def question(rng, pairs, many):
    """(question, answer) about one pair or several."""
    if not many or len(pairs) < 3:
        k, v = rng.choice(pairs)
        return rng.choice(ASK_ONE).format(k), f"{k} = {v}"
    some = rng.sample(pairs, min(len(pairs), rng.randrange(2, 13)))
    keys = ", ".join(k for k, _ in some)
    return rng.choice(ASK_MANY).format(keys), listing(some, ", ")


def chat_recall(rng, most, dialogues):
    """Messages: the pairs and a question, then further questions, sometimes with other talk between."""
    pairs = make_pairs(rng, draw_count(rng, most))
    think, many = rng.random() < 0.5, rng.random() < 0.6
    intro = rng.choice(INTROS) + rng.choice((" ", "\n")) + listing(pairs, rng.choice(SEPARATORS))
    q, a = question(rng, pairs, many)
    messages = [{"role": "user", "content": f"{intro}\n{q}"},
                {"role": "assistant", "content": a, "reasoning_content": "I look up the pairs." if think else ""}]
    for _ in range(rng.randrange(0, 4)):
        if rng.random() < 0.15:
            q, t, a = dialogues.pick(rng)
        else:
            (q, a), t = question(rng, pairs, many), "I look up the pairs."
        messages.append({"role": "user", "content": q})
        messages.append({"role": "assistant", "content": a, "reasoning_content": t if think else ""})
    return messages
