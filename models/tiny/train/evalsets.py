"""Writes the held-out prompts eval/recall.jsonl and eval/chat.jsonl."""

import json
import random

from common import MODEL_DIR
from data import world as w
from data.recall import ASK_ONE, INTROS, SEPARATORS, listing, make_pairs

RECALL_SEED = 90210
RECALL_COUNTS = {2: 20, 4: 30, 8: 40, 16: 40, 32: 40, 64: 30}

CHAT = [
    ("Hello! Who are you?", r"Tiny"), ("What is the capital of France?", r"Paris"), ("Hi! How are you?", r"fine|well"),
    ("Thanks a lot!", r"welcome"), ("What's the capital of Japan?", r"Tokyo"), ("Which city is the capital of Kenya?", r"Nairobi"),
    ("Madrid is the capital of which country?", r"Spain"), ("What is the opposite of hot?", r"cold"), ("opposite of big?", r"small"),
    ("What colour is the sky?", r"blue"), ("What sound does a cat make?", r"meow"), ("How many legs does a spider have?", r"8"),
    ("What is a young dog called?", r"puppy"), ("What is an apple?", r"fruit"), ("How do you say water in French?", r"eau"),
    ("What is the plural of mouse?", r"mice"), ("What is the past tense of go?", r"went"), ("How many days are in a week?", r"7"),
    ("Explain gravity.", r"force"), ("What is Guildhall?", r"cluster|mixture"), ("What does the router do?", r"attention|expert"),
    ("What is Redis for in Guildhall?", r"state"), ("Name three fruits.", r"[Aa]pple, banana"), ("Make a list of planets.", r"1\. Mars"),
    ("Is snow cold?", r"Yes"), ("What day comes after Monday?", r"Tuesday"), ("What month comes before March?", r"February"),
    ("How many days does April have?", r"30"), ("What is 3 + 4?", r"= 7"), ("What is 27 + 35?", r"= 62"), ("What is 6 * 7?", r"= 42"),
    ("What is 15 - 8?", r"= 7"), ("Which is larger, 12 or 80?", r"80"), ("Repeat: river stone moon", r"river stone moon"),
    ("Goodbye!", r"Goodbye"), ("Tell me a joke.", r"Why"), ("How big are you?", r"million"),
    ("Hi there! What is the capital of Italy?", r"Rome"),
]
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Name of the city"}}, "required": ["city"]}}}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def user(text):
    """A user message."""
    return {"role": "user", "content": text}


def recall_rows():
    """Held-out recall prompts with their answers."""
    rng = random.Random(RECALL_SEED)
    for count, copies in RECALL_COUNTS.items():
        for _ in range(copies):
            pairs = make_pairs(rng, count, numbers=False)
            key, value = rng.choice(pairs)
            text = rng.choice(INTROS) + rng.choice((" ", "\n")) + listing(pairs, rng.choice(SEPARATORS))
            question = rng.choice(ASK_ONE).format(key)
            yield {"pairs": count, "key": key, "value": value, "answer": f"{key} = {value}", "enable_thinking": rng.random() < 0.5,
                   "messages": [user(f"{text}\n{question}")]}


def chat_rows():
    """In-domain prompts, each with thinking on and off, and a pattern that a good answer contains."""
    for thinking in (True, False):
        for question, pattern in CHAT:
            yield {"messages": [user(question)], "enable_thinking": thinking, "match": pattern}
        name = random.Random(1).choice(w.NAMES)
        yield {"messages": [{"role": "system", "content": f"You are {name}, a helpful assistant."}, user("Who are you?")],
               "enable_thinking": thinking, "match": name}
        yield {"messages": [user("My name is Nina."), {"role": "assistant", "content": "Nice to meet you, Nina!"}, user("What is my name?")],
               "enable_thinking": thinking, "match": "Nina"}
        ask = user("What is the weather in Paris?")
        yield {"messages": [ask], "tools": [WEATHER], "enable_thinking": thinking,
               "match": r"<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"}
        yield {"messages": [ask, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                            {"role": "tool", "content": json.dumps({"temperature": 21, "condition": "sunny"})}],
               "tools": [WEATHER], "enable_thinking": thinking, "match": r"sunny.*21"}


def write(path, rows):
    """One JSON object per line."""
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


if __name__ == "__main__":
    folder = MODEL_DIR / "eval"
    folder.mkdir(exist_ok=True)
    write(folder / "recall.jsonl", recall_rows())
    write(folder / "chat.jsonl", chat_rows())
