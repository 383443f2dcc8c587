"""Intents without tools: each yields a question, a short thought and an answer."""

from . import world as w

HELLO = ["Hello!", "Hi!", "Hi there!", "Hello", "Hey!", "Good morning!", "Good evening!", "Hello there!", "hi", "Good day!"]
HELLO_ANSWERS = ["Hello! How can I help you?", "Hi! What can I do for you?", "Hello! What would you like to know?"]
WHO = ["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Please introduce yourself.", "who are you?",
       "What's your name?", "Can you tell me who you are?", "What is this model?", "Which model are you?"]
WHO_ANSWERS = ["I am Tiny, the small model that ships with Guildhall."]

SMALL_TALK = [
    (["How are you?", "How are you today?", "How do you do?", "How is it going?"], "The user asks how I am.",
     ["I am fine, thank you! How can I help?", "I am well, thanks! What can I do for you?"]),
    (["Thank you!", "Thanks!", "Thanks a lot!", "Thank you very much.", "Great, thanks."], "The user thanks me.",
     ["You are welcome!", "You are welcome! Ask me anything else."]),
    (["Goodbye!", "Bye!", "See you later!", "Good night!", "That is all, bye."], "The user says goodbye.",
     ["Goodbye! Have a nice day.", "Goodbye! Come back soon."]),
    (["What can you do?", "How can you help me?", "What do you know?", "Help me, please.", "What are you good at?"],
     "The user asks what I can do.",
     ["I can chat, answer simple questions, add small numbers, recall values and call tools."]),
    (["Are you a human?", "Are you a person?", "Are you real?"], "The user asks if I am human.",
     ["No, I am a small language model."]),
    (["Who made you?", "Where do you come from?", "How were you trained?"], "The user asks where I come from.",
     ["I was trained from scratch on text written for Guildhall."]),
    (["How big are you?", "How many parameters do you have?", "Are you a large model?"], "The user asks about my size.",
     ["I have about eighteen million parameters, so I am very small."]),
    (["How many experts do you have?", "How many experts are in each layer?"], "The user asks about my experts.",
     ["Each of my layers has sixteen experts and uses two of them for each token."]),
    (["How many layers do you have?", "What layers are you made of?"], "The user asks about my layers.",
     ["I have eight layers: six with linear attention and two with full attention."]),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh."], "The user wants a joke.",
     ["Why did the token cross the layer? To get to the other expert.",
      "Why was the router tired? It had too many experts to call."]),
    (["Tell me a story.", "Tell me a short story.", "Can you tell a story?"], "The user wants a story.",
     ["A small bird lived in an old tree. One day it learned to fly. It saw the sea and came home happy."]),
    (["Write a poem.", "Write a short poem.", "Can you write a poem?"], "The user wants a poem.",
     ["The moon is high, the night is long,\nthe wind is singing us a song."]),
    (["I am sad.", "I feel sad today.", "I had a bad day."], "The user is sad.",
     ["I am sorry to hear that. I hope tomorrow is better."]),
    (["I am happy!", "I had a great day!", "I feel good today."], "The user is happy.", ["That is good to hear!"]),
    (["I am hungry.", "What should I eat?"], "The user wants food.", ["How about some bread and cheese, or an apple?"]),
    (["I am tired.", "I need a rest."], "The user is tired.", ["Then take a rest. A little sleep helps."]),
    (["Do you like music?", "Do you have a favourite song?"], "The user asks about music.",
     ["I cannot hear music, but I like the word violin."]),
    (["What is your favourite colour?", "Which colour do you like?"], "The user asks for a colour.", ["I like blue."]),
    (["What is the meaning of life?"], "A big question.", ["That is a big question for a small model. Be kind and learn something."]),
    (["Do you speak French?", "Can you speak French?"], "The user asks about French.", ["I know a few French words, for example bonjour."]),
    (["What day is it today?", "What is the date?"], "I have no clock.", ["I do not know the date, because I have no clock."]),
    (["What is the weather?", "Will it rain tomorrow?"], "I have no weather data.",
     ["I cannot see the weather without a tool."]),
    (["Are you there?", "Can you hear me?", "Test.", "Ping."], "The user checks if I am here.", ["Yes, I am here. How can I help?"]),
    (["Sorry.", "I am sorry."], "The user is sorry.", ["No problem at all."]),
    (["Yes.", "Okay.", "Good.", "I see."], "The user agrees.", ["Good. What else would you like to know?"]),
    (["No.", "No, thanks."], "The user says no.", ["All right. Let me know if you need anything."]),
    (["Can you write code?", "Write a program."], "The user asks for code.", ["I am too small to write code, sorry."]),
    (["Which planet do we live on?", "What planet are we on?"], "A question about our planet.", ["We live on the planet Earth."]),
    (["What is the largest planet?", "Which planet is the biggest?"], "The largest planet is Jupiter.", ["The largest planet is Jupiter."]),
    (["What is the fastest animal on land?", "Which land animal is the fastest?"], "It is the cheetah.",
     ["The fastest animal on land is the cheetah."]),
    (["What is the largest animal?", "Which animal is the biggest?"], "It is the blue whale.", ["The largest animal is the blue whale."]),
    (["What is the highest mountain?", "Which mountain is the highest?"], "It is Mount Everest.", ["The highest mountain is Mount Everest."]),
    (["At what temperature does water boil?", "When does water boil?"], "Water boils at 100 degrees.", ["Water boils at 100 degrees Celsius."]),
    (["At what temperature does water freeze?", "When does water freeze?"], "Water freezes at 0 degrees.",
     ["Water freezes at 0 degrees Celsius."]),
]


def article(noun):
    """'a' or 'an' before noun."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital_first(text):
    """text with its first letter in upper case."""
    return text[0].upper() + text[1:]


def facts():
    """All single-turn intents as (questions, thought, answers)."""
    out = [(HELLO, "The user greets me.", HELLO_ANSWERS), (WHO, "The user asks who I am.", WHO_ANSWERS)]
    out += SMALL_TALK
    for land, city in w.CAPITALS.items():
        out.append(([f"What is the capital of {land}?", f"Tell me the capital of {land}.", f"Which city is the capital of {land}?",
                     f"What's the capital of {land}?", f"capital of {land}?", f"Do you know the capital of {land}?"],
                    f"The capital of {land} is {city}.", [f"The capital of {land} is {city}."]))
        out.append(([f"Which country has the capital {city}?", f"{city} is the capital of which country?"],
                    f"{city} is the capital of {land}.", [f"{city} is the capital of {land}."]))
    for a, b in w.OPPOSITES.items():
        out.append(([f"What is the opposite of {a}?", f"Give me the opposite of {a}.", f"opposite of {a}?"],
                    f"The opposite of {a} is {b}.", [f"The opposite of {a} is {b}."]))
    for a, b in w.COLOURS.items():
        out.append(([f"What colour is {a}?", f"What is the colour of {a}?", f"Tell me the colour of {a}."],
                    f"{capital_first(a)} is {b}.", [f"{capital_first(a)} is {b}."]))
    for a, b in w.SOUNDS.items():
        out.append(([f"What does a {a} say?", f"What sound does {article(a)} make?"], f"{capital_first(article(a))} says {b}.",
                    [f"{capital_first(article(a))} says {b}."]))
    for a, b in w.LEGS.items():
        out.append(([f"How many legs does {article(a)} have?", f"How many legs has {article(a)}?"],
                    f"{capital_first(article(a))} has {b} legs.", [f"{capital_first(article(a))} has {b} legs."]))
    for a, b in w.YOUNG.items():
        out.append(([f"What is a young {a} called?", f"What do you call a baby {a}?"], f"A young {a} is {article(b)}.",
                    [f"A young {a} is called {article(b)}."]))
    for a, b in w.KINDS.items():
        thing = a if a[0].isupper() or a in ("gold", "iron", "copper", "cheese", "bread", "tea", "coffee") else article(a)
        out.append(([f"What is {thing}?", f"What kind of thing is {thing}?"], f"{capital_first(thing)} is {b}.",
                    [f"{capital_first(thing)} is {b}."]))
    for a, b in w.FRENCH.items():
        out.append(([f"How do you say {a} in French?", f"What is {a} in French?", f"Translate {a} into French."],
                    f"The word {a} is {b} in French.", [f"In French, {a} is {b}."]))
    for a, b in w.PLURALS.items():
        out.append(([f"What is the plural of {a}?", f"Give me the plural of {a}."], f"One {a}, two {b}.", [f"The plural of {a} is {b}."]))
    for a, b in w.PAST.items():
        out.append(([f"What is the past tense of {a}?", f"Give me the past tense of {a}."], f"Today {a}, yesterday {b}.",
                    [f"The past tense of {a} is {b}."]))
    for a, b in w.UNITS.items():
        out.append(([f"How many {a}?", f"Tell me how many {a}.", f"Do you know how many {a}?"], f"The number is {b}.", [f"The answer is {b}."]))
    for a, b in w.DEFINITIONS.items():
        out.append(([f"What is {a}?", f"Explain {a}.", f"Define {a}.", f"Can you explain {a}?"], f"The user asks what {a} is.", [b]))
    for q1, q2, a in w.GUILDHALL:
        out.append(([q1, q2, q1.replace("What is", "What's")], "A question about Guildhall.", [a]))
    for kind, items in w.LISTS:
        a, b, c = items.split(", ")
        out.append(([f"Name three {kind}.", f"List three {kind}.", f"Give me three {kind}.", f"Tell me three {kind}."],
                    f"Three {kind}.", [f"{capital_first(a)}, {b} and {c}.", f"1. {a}\n2. {b}\n3. {c}"][:1]))
        out.append(([f"Make a list of {kind}.", f"Write a numbered list of {kind}."], f"A list of {kind}.", [f"1. {a}\n2. {b}\n3. {c}"]))
    for q, a in w.YES_NO:
        out.append(([q, "Tell me: " + q], "Yes or no?", [a]))
    out += calendar()
    return out


def calendar():
    """Intents about days and months."""
    out = []
    for i, d in enumerate(w.DAYS):
        after, before = w.DAYS[(i + 1) % 7], w.DAYS[i - 1]
        out.append(([f"What day comes after {d}?", f"Which day follows {d}?"], f"After {d} comes {after}.", [f"{after} comes after {d}."]))
        out.append(([f"What day comes before {d}?", f"Which day is before {d}?"], f"Before {d} comes {before}.", [f"{before} comes before {d}."]))
    for i, m in enumerate(w.MONTHS):
        after, before = w.MONTHS[(i + 1) % 12], w.MONTHS[i - 1]
        out.append(([f"What month comes after {m}?", f"Which month follows {m}?"], f"After {m} comes {after}.", [f"{after} comes after {m}."]))
        out.append(([f"What month comes before {m}?", f"Which month is before {m}?"], f"Before {m} comes {before}.",
                    [f"{before} comes before {m}."]))
        out.append(([f"How many days does {m} have?", f"How many days are in {m}?"], f"{m} has {w.MONTH_DAYS[m]} days.",
                    [f"{m} has {w.MONTH_DAYS[m]} days."]))
    return out
