#!/usr/bin/env python3
"""examples/tiny/questions.txt: the text that examples/tiny.toml trains on. Facts and templates are written here, nothing is copied.

  python3 tools/make_tiny_text.py >examples/tiny/questions.txt
"""
import random

CAPITALS = dict(
    Austria="Vienna", Belgium="Brussels", Bulgaria="Sofia", Canada="Ottawa", Chile="Santiago", China="Beijing", Cuba="Havana",
    Denmark="Copenhagen", Egypt="Cairo", England="London", Finland="Helsinki", France="Paris", Germany="Berlin", Greece="Athens",
    Hungary="Budapest", Iceland="Reykjavik", Ireland="Dublin", Italy="Rome", Japan="Tokyo", Kenya="Nairobi", Norway="Oslo",
    Peru="Lima", Poland="Warsaw", Portugal="Lisbon", Romania="Bucharest", Russia="Moscow", Scotland="Edinburgh", Spain="Madrid",
    Sweden="Stockholm", Turkey="Ankara", Ukraine="Kyiv", Wales="Cardiff")
OPPOSITES = """hot cold|big small|up down|day night|black white|open closed|wet dry|fast slow|old young|high low|long short|full empty
rich poor|loud quiet|early late|left right|good bad|light dark|hard soft|near far|happy sad|clean dirty|strong weak|thick thin"""
SOUNDS = dict(dog="barks", cat="meows", cow="moos", lion="roars", duck="quacks", bee="buzzes", snake="hisses", wolf="howls", owl="hoots",
              horse="neighs", sheep="bleats", frog="croaks")
COLOURS = dict(snow="white", grass="green", blood="red", coal="black", sky="blue", gold="yellow", milk="white", soot="black", leaf="green", sea="blue")
WORDS = """apple bread chair cloud dance earth field glass green heart horse house light lemon money month mouse music night ocean paper
piano plant river rose salt sand school ship shoe smile snow spring star stone storm summer table train tree water white winter wood world"""
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()


def questions():
    for a in range(2, 13):
        for b in range(2, 13):
            yield f"What is {a} times {b}?", f"{a} times {b} is {a * b}."
    for a in range(1, 13):
        for b in range(1, 13):
            yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    for country, city in CAPITALS.items():
        yield f"What is the capital of {country}?", f"The capital of {country} is {city}."
        yield f"Where is {city}?", f"{city} is the capital of {country}."
    for pair in OPPOSITES.replace("\n", "|").split("|"):
        a, b = pair.split()
        yield f"What is the opposite of {a}?", f"The opposite of {a} is {b}."
        yield f"What is the opposite of {b}?", f"The opposite of {b} is {a}."
    for animal, sound in SOUNDS.items():
        yield f"What does a {animal} do?", f"A {animal} {sound}."
    for thing, colour in COLOURS.items():
        yield f"What colour is {thing}?", f"It is {colour}."
    for word in WORDS.split():
        yield f"Spell the word {word}.", "-".join(word) + "."
        yield f"How many letters has the word {word}?", f"It has {SMALL[len(word)]} letters."
    for names, what in ((DAYS, "day"), (MONTHS, "month")):
        for a, b in zip(names, names[1:] + names[:1]):
            yield f"Which {what} comes after {a}?", f"{b} comes after {a}."
            yield f"Which {what} comes before {b}?", f"{a} comes before {b}."
    for number, name in enumerate(SMALL):
        yield f"Write {number} as a word.", f"{name}."
    for hello in ("Hello", "Hi", "Good morning", "Good evening", "Hello there"):
        yield f"{hello}!", f"{hello}! What would you like to know?"
        yield f"{hello}.", f"{hello}! What would you like to know?"
    yield "Who are you?", "I am a very small model that Hadal trained."
    yield "What are you?", "I am a very small model that Hadal trained."
    yield "Thank you.", "You are welcome."
    yield "Thanks!", "You are welcome."
    yield "Goodbye.", "Goodbye!"


# In many orders, so that what is learnt is what answers a question, not what comes behind the one before; and in several forms, so that what is
# kept apart for validation (all copies of a text) is a form of a question, not a fact.
GREETINGS = 15  # at the end: in one form
FORMS = ["{}", "Tell me: {}", "Another question: {}", "And now: {}"]
asked = list(dict.fromkeys(questions()))
draw = random.Random(1)


def document(number, question, answer):
    form = draw.choices(FORMS, [6, 2, 2, 2])[0] if number < len(asked) - GREETINGS else FORMS[0]
    return f"Q: {form.format(question)}\nA: {answer}"


print("\n\n".join(document(i, *asked[i]) for _ in range(16) for i in draw.sample(range(len(asked)), len(asked))))
