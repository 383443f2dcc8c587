"""Conversations with function calls in the template's XML format."""

import json

from . import world as w

# How often the usual spelling of get_weather, get_time and `city` is drawn for each unusual one.
USUAL = (8, 5, 3)
SKIES = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy"]


def schema(name, about, **args):
    """One function in the OpenAI tools format; args maps a name to (type, description)."""
    properties = {k: {"type": t, "description": d} for k, (t, d) in args.items()}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": {
        "type": "object", "properties": properties, "required": list(args)}}}


def weather(rng, usual):
    city, arg = rng.choice(w.CITIES), rng.choice((*["city"] * usual[2], "location"))
    name = rng.choice((*["get_weather"] * usual[0], "get_current_weather", "weather"))
    sky, degrees = rng.choice(SKIES), rng.randrange(-9, 35)
    ask = rng.choice(("What is the weather in {}?", "How is the weather in {}?", "What's the weather like in {}?", "Is it warm in {}?",
                      "What is the weather in {} today?", "Tell me the weather in {}."))
    return (schema(name, "Get the weather of a city", **{arg: ("string", "Name of the city")}), ask.format(city), {arg: city},
            json.dumps({"temperature": degrees, "condition": sky}), f"I need the weather in {city}.", f"The weather in {city} is {sky}.",
            f"It is {sky} in {city}, with {degrees} degrees.")


def clock(rng, usual):
    city, arg = rng.choice(w.CITIES), rng.choice(("city", "timezone"))
    name = rng.choice((*["get_time"] * usual[1], "current_time"))
    time = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"
    ask = rng.choice(("What time is it in {}?", "Tell me the time in {}.", "What is the time in {}?"))
    return (schema(name, "Get the time in a city", **{arg: ("string", "Name of the city")}), ask.format(city), {arg: city},
            json.dumps({"time": time}), f"I need the time in {city}.", f"It is {time} in {city}.", f"It is {time} in {city}.")


def calculator(rng, _usual):
    a, b, op = rng.randrange(10, 1000), rng.randrange(2, 100), rng.choice("+-*")
    text = f"{a} {op} {b}"
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    ask = rng.choice(("What is {}?", "Calculate {}.", "Compute {}.", "How much is {}?"))
    return (schema("calculator", "Compute an expression", expression=("string", "The expression")), ask.format(text),
            {"expression": text}, str(value), f"I compute {text} with the calculator.", f"The result is {value}.", f"{text} = {value}")


def search(rng, _usual):
    word = rng.choice(w.WORDS)
    count = rng.randrange(2, 90)
    name = rng.choice(("search", "search_docs", "lookup"))
    ask = rng.choice(("Search for {}.", "Look up {}.", "Find {} in the documents."))
    return (schema(name, "Search the documents", query=("string", "What to look for")), ask.format(word), {"query": word},
            json.dumps({"results": count}), f"I search for {word}.", f"There are {count} results.", f"I found {count} results for {word}.")


def timer(rng, _usual):
    n, what = rng.randrange(1, 60), rng.choice(("tea", "bread", "train", "school", "rest"))
    ask = rng.choice(("Set a timer of {} minutes for {}.", "Start a timer for {} minutes, it is for {}."))
    return (schema("set_timer", "Start a timer", minutes=("integer", "Length in minutes"), label=("string", "Name of the timer")),
            ask.format(n, what), {"minutes": n, "label": what}, '{"ok": true}', f"I start a timer of {n} minutes.", "The timer is set.",
            f"The timer for {what} is set to {n} minutes.")


KINDS = [weather, weather, weather, clock, calculator, search, timer]


def tool_dialogue(rng, dialogues):
    """(messages, tools): a call, its result and the answer; sometimes no function fits."""
    think = rng.random() < 0.6
    tool, ask, args, result, why, then, answer = rng.choice(KINDS)(rng, dialogues.usual)
    tools = {tool["function"]["name"]: tool}
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        other = rng.choice(KINDS)(rng, dialogues.usual)[0]
        tools.setdefault(other["function"]["name"], other)
    tools = list(tools.values())
    rng.shuffle(tools)
    messages = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": "You are a helpful assistant."})
    if rng.random() < 0.2:
        q, t, a = dialogues.pick(rng)
        messages.append({"role": "user", "content": q})
        messages.append({"role": "assistant", "content": a, "reasoning_content": t if think else ""})
        if rng.random() < 0.5:
            return messages, tools
    call = {"type": "function", "function": {"name": tool["function"]["name"], "arguments": args}}
    messages.append({"role": "user", "content": ask})
    messages.append({"role": "assistant", "content": "", "reasoning_content": why if think else "", "tool_calls": [call]})
    if rng.random() < 0.8:
        messages.append({"role": "tool", "content": result})
        messages.append({"role": "assistant", "content": answer, "reasoning_content": then if think else ""})
    return messages, tools
