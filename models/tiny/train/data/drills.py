"""Arithmetic and copying: short exercises with one right answer."""

from . import world as w


def addition_steps(a, b):
    """Column addition of two numbers below 100, in words short enough for a thought."""
    units = a % 10 + b % 10
    carry = units // 10
    tens = f"{a // 10} + {b // 10}" + (" + 1" if carry else "")
    return f"{a % 10} + {b % 10} = {units}. {tens} = {a // 10 + b // 10 + carry}."


def arithmetic(rng):
    """One (question, thought, answer) about numbers."""
    kind = rng.random()
    ask = rng.choice(("What is {}?", "What is {}?", "Compute {}.", "How much is {}?", "{} = ?", "Calculate {}."))
    if kind < 0.45:
        top = rng.choice((10, 20, 100))
        a, b = rng.randrange(top), rng.randrange(top)
        thought = f"{a} + {b} = {a + b}." if a < 10 and b < 10 else addition_steps(a, b)
        return ask.format(f"{a} + {b}"), thought, f"{a} + {b} = {a + b}"
    if kind < 0.6:
        a, b = sorted((rng.randrange(21), rng.randrange(21)), reverse=True)
        return ask.format(f"{a} - {b}"), f"{a} - {b} = {a - b}.", f"{a} - {b} = {a - b}"
    if kind < 0.8:
        a, b = rng.randrange(1, 11), rng.randrange(1, 11)
        return ask.format(f"{a} * {b}"), f"{a} * {b} = {a * b}.", f"{a} * {b} = {a * b}"
    if kind < 0.9:
        a = rng.randrange(100)
        q = rng.choice(("What number comes after {}?", "Which number follows {}?"))
        return q.format(a), f"{a} + 1 = {a + 1}.", f"{a + 1} comes after {a}."
    a, b = rng.sample(range(100), 2)
    q = rng.choice(("Which is larger, {} or {}?", "Which number is larger: {} or {}?"))
    return q.format(a, b), f"{max(a, b)} is larger than {min(a, b)}.", f"{max(a, b)} is larger."


def copying(rng, longest=12):
    """One (question, thought, answer) that asks for a verbatim copy."""
    n = rng.randrange(1, longest + 1)
    kind = rng.random()
    if kind < 0.5:
        text = " ".join(rng.choice(w.WORDS) for _ in range(n))
    elif kind < 0.75:
        text = "".join(rng.choice("0123456789") for _ in range(n))
    else:
        text = ", ".join(rng.choice(w.NAMES + w.CITIES) for _ in range(min(n, 6)))
    q = rng.choice(("Repeat: {}", "Repeat after me: {}", "Say this: {}", "Copy this text: {}", "Please repeat: {}"))
    return q.format(text), "I repeat the text.", text


def raw_copy(rng, longest):
    """[(text, weight)]: random words, then the same words again; only the second half counts."""
    words = [rng.choice(w.WORDS + w.NAMES) for _ in range(rng.randrange(4, longest + 1))]
    line = "".join(" " + x for x in words)
    return [("Copy:" + line + "\n", 0.0), ("Copy:", 0.0), (line, 1.0), ("<|endoftext|>", 0.0)]
