"""Seeded conversations built from the intents: single turns, several turns, system prompts, names."""

from . import chatter
from . import world as w
from .drills import arithmetic
from .tools import USUAL, tool_dialogue

SYSTEMS = ["You are a helpful assistant.", "You are Tiny, a helpful assistant.", "Be brief.", "Answer in one sentence.",
           "You are a friendly assistant. Keep answers short.", "You answer questions about simple facts."]


class Dialogues:
    """Draws conversations; `held_out` keeps one phrasing of each intent apart for evaluation.

    `tools` and `names` are the shares of function calls and of conversations about names.
    Schemas are long: a twentieth of the samples is already a fifth of the tokens.
    """

    def __init__(self, held_out=False, tools=0.05, names=0.09, usual=USUAL):
        self.intents = chatter.facts()
        self.tools, self.names, self.usual = tools, names, usual
        self.held_out = held_out

    def turn(self, rng):
        """One (question, thought, answer); held-out phrasings only when asked for."""
        kind = rng.random()
        if kind < 0.1:
            return greeting_with_question(rng, self.pick(rng))
        if kind < 0.17:
            return arithmetic(rng)
        if kind < 0.24:
            return self.phrase(rng, self.intents[rng.randrange(2 + len(chatter.SMALL_TALK))])
        return self.pick(rng)

    def pick(self, rng):
        return self.phrase(rng, self.intents[rng.randrange(len(self.intents))])

    def phrase(self, rng, intent):
        questions, thought, answers = intent
        # Intents with four or more phrasings lend their last but one to the held-out set.
        if len(questions) >= 4:
            spare = questions[-2]
            questions = [spare] if self.held_out else [q for q in questions if q != spare]
        return rng.choice(questions), thought, rng.choice(answers)

    def sample(self, rng):
        """(messages, tools) of one conversation; the last message is the assistant's."""
        kind = rng.random()
        if kind < self.tools:
            return tool_dialogue(rng, self)
        if kind < self.tools + self.names:
            return name_dialogue(rng, self), None
        messages = []
        if rng.random() < 0.25:
            messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
        turns = rng.choice((1, 1, 1, 2, 2, 3))
        think = rng.random() < 0.6
        for i in range(turns):
            q, t, a = self.turn(rng)
            add_turn(messages, q, t if think else "", a)
        return messages, None


def add_turn(messages, question, thought, answer):
    """Appends a user and an assistant message."""
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": answer, "reasoning_content": thought})


def greeting_with_question(rng, turn):
    """Puts a greeting before the question, as people do."""
    q, t, a = turn
    hello = rng.choice(("Hello!", "Hi!", "Hi there!", "Hello,", "Please tell me:", "I have a question.", "Hey,"))
    return f"{hello} {q}", t, (f"Hello! {a}" if hello[0] == "H" and "I have" not in hello else a)


def name_dialogue(rng, dialogues):
    """System prompts that give the assistant a name, and users who give theirs."""
    messages, think, name = [], rng.random() < 0.6, rng.choice(w.NAMES)
    if rng.random() < 0.5:
        system = rng.choice(("You are {}.", "You are {}, a helpful assistant.", "Your name is {}.", "You are an assistant named {}. Be brief."))
        messages.append({"role": "system", "content": system.format(name)})
        if rng.random() < 0.3:
            q, t, a = dialogues.pick(rng)
            add_turn(messages, q, t if think else "", a)
        q = rng.choice(chatter.WHO[:9] + ["Hello! Who are you?", "Hi! What is your name?"])
        answer = f"I am {name}." if q[0] != "H" else f"Hello! I am {name}."
        add_turn(messages, q, f"The system says that I am {name}." if think else "", answer)
        return messages
    intro = rng.choice(("My name is {}.", "I am {}.", "Hello, my name is {}.", "Hi, I am {}.", "You can call me {}."))
    add_turn(messages, intro.format(name), f"The user is {name}." if think else "", f"Nice to meet you, {name}!")
    if rng.random() < 0.75:
        if rng.random() < 0.5:
            q, t, a = dialogues.pick(rng)
            add_turn(messages, q, t if think else "", a)
        q = rng.choice(("What is my name?", "Do you remember my name?", "Who am I?", "What's my name?"))
        add_turn(messages, q, f"The user said the name is {name}." if think else "", f"Your name is {name}.")
    return messages
