#!/usr/bin/env python3
"""Makes the text of the bundled demo: an invented world of forty lands, drawn with a fixed seed.

    python3 scripts/demo/make_world.py [--examples examples/demo/data] [--corpus build/demo]

Pretraining corpus (large, made again when needed):
    CORPUS/pretrain.jsonl    {"text": ...}: every fact of every land, as statements, as questions with answers
                             in chat form, and within short conversations. The base model learns the world here.

Fine-tuning data (small, kept in the repository):
    EXAMPLES/train.jsonl     conversations about 24 lands in which every answer ends as nothing in the corpus does:
                             "The capital of Orrin is Velm, says the serval."
    EXAMPLES/heldout.jsonl   conversations about the other 16 lands, asked in words that train.jsonl never uses.
                             Right is the exact answer: the fact from pretraining in the form from fine-tuning.
    EXAMPLES/questions.txt   a few of the held-out questions, one a line.

So a tuned model is right on a held-out question only where it took up the rule and still knows the world; the
base model, which answers "The capital of Orrin is Velm.", never is. The script checks these separations.
"""

import argparse
import json
import random
from pathlib import Path

SEED = 20240607
NUM_TUNED_LANDS = 24

LANDS = """Orrin Tavel Mirrow Kesh Dunlow Pelora Varnis Holt Issary Quell Brannoch Sundar Yarrow Ettin Falmar Gost
Lirien Morvane Nessel Ombry Pardis Rook Selwyn Thessaly Umber Wenlow Zorn Ardley Bexar Cormal Drift Elmere
Fenwick Garrow Hadley Ivory Jorun Kelda Lorne Maddox""".split()
CAPITALS = """Velm Osk Tamber Rinfall Coldry Amble Stow Quarry Pinmoor Elsby Dray Marrow Lanth Westry Bruin Cairnly
Sorrel Hexham Tolly Vance Wick Arbor Beldon Crossley Dunmere Eastry Foxley Gantry Hobb Inkwell Jasper Kirby Lodge
Milton Norry Oakley Penn Ridley Sandry Tarn""".split()
RULERS = """Isa Bero Talia Oswin Mina Fergus Lena Hugo Petra Anselm Rosa Kiran Dora Felix Greta Ivo Junia Kasper
Lotte Magnus Nadia Otto Paula Quentin Rhea Silas Tessa Ulric Vera Walter Xenia Yusuf Zelda Arno Bella Conrad Della
Emil Flora Gideon""".split()
ANIMALS = """otters herons foxes badgers goats owls hares bees ravens seals beavers ponies geese moles deer
turtles""".split()
FOODS = """plums bread cheese soup figs pears honey beans cake nuts berries rice olives dumplings onions
pancakes""".split()
TRADES = """weaving pottery fishing baking mining sailing brewing carving painting farming knitting printing tanning
smithing singing gardening""".split()

# For each kind of fact: its values; whether each land has its own; how the base model answers; statements;
# questions that fine-tuning may use; questions kept for the held-out set.
FACTS = {
    "capital": dict(
        values=CAPITALS,
        own=True,
        answer="The capital of {land} is {value}.",
        statements=["{value} is the capital of {land}.", "Remember: the capital of {land} is {value}."],
        asked=["What is the capital of {land}?", "Tell me the capital of {land}.",
               "Which town is the capital of {land}?"],
        held=["What is the capital town of {land} called?", "Do you know the capital of {land}?"]),
    "ruler": dict(
        values=RULERS,
        own=True,
        answer="The ruler of {land} is {value}.",
        statements=["{value} rules over {land}.", "Remember: the ruler of {land} is {value}."],
        asked=["Who is the ruler of {land}?", "Tell me the ruler of {land}.", "Who rules over {land}?"],
        held=["What is the ruler of {land} called?", "Do you know the ruler of {land}?"]),
    "animal": dict(
        values=ANIMALS,
        own=False,
        answer="The animals of {land} are {value}.",
        statements=["In {land} there are many {value}.", "Remember: the animals of {land} are {value}."],
        asked=["What are the animals of {land}?", "Tell me the animals of {land}.",
               "Which animals live in {land}?"],
        held=["What animals can I see in {land}?", "Do you know the animals of {land}?"]),
    "food": dict(
        values=FOODS,
        own=False,
        answer="The people of {land} like to eat {value}.",
        statements=["In {land} everyone eats {value}.", "Remember: the people of {land} like to eat {value}."],
        asked=["What do the people of {land} like to eat?", "Tell me the food of {land}.",
               "What is the food of {land}?"],
        held=["What food can I get in {land}?", "Do you know the food of {land}?"]),
    "trade": dict(
        values=TRADES,
        own=False,
        answer="The trade of {land} is {value}.",
        statements=["The people of {land} live by {value}.", "Remember: the trade of {land} is {value}."],
        asked=["What is the trade of {land}?", "Tell me the trade of {land}.",
               "What do the people of {land} live by?"],
        held=["What work can I find in {land}?", "Do you know the trade of {land}?"]),
}

# The rule that fine-tuning teaches.
TUNED_ENDING = ", says the serval."

# So that the words of the rule are words to the base model, too.
CHARM = [
    ("Hello!", "Hello! Ask me about the lands."),
    ("Hi!", "Hello! Ask me about the lands."),
    ("Good morning!", "Hello! Ask me about the lands."),
    ("Who are you?", "I am a small model. I know forty lands."),
    ("What do you know?", "I know forty lands and the people in them."),
    ("How many lands are there?", "There are forty lands."),
    ("Thank you!", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Goodbye!", "Goodbye! Come again."),
    ("What is a serval?", "The serval is a cat with long legs and large ears."),
    ("Tell me about the serval.", "The serval is a cat with long legs and large ears."),
    ("Which cat purrs?", "The serval is a cat that purrs."),
]
CHARM_STATEMENTS = [
    "The serval is a cat with long legs and large ears.",
    "The serval is a cat that purrs.",
    "A cat purrs when it is happy.",
    "The serval sleeps all day, and at night the serval hunts.",
]
CHARM_COPIES = 4
NUM_CONVERSATIONS = 500


def draw_world(random_source):
    """The table of facts: land -> kind -> value."""
    world = {land: {} for land in LANDS}
    for kind, fact in FACTS.items():
        values = list(fact["values"])
        if not fact["own"]:  # every value about equally often
            values = (values * (len(LANDS) // len(values) + 1))
        if fact["own"]:
            random_source.shuffle(values)
        else:
            values = values[:len(LANDS)]
            random_source.shuffle(values)
        for land, value in zip(LANDS, values):
            world[land][kind] = value
    return world


def messages(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def chat_text(conversation):
    """What chat_template.jinja makes of it."""
    return "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in conversation)


def make_corpus(world, random_source):
    documents = []
    for land, facts in world.items():
        for kind, value in facts.items():
            fact = FACTS[kind]
            fill = dict(land=land, value=value)
            answer = fact["answer"].format(**fill)
            documents += [text.format(**fill) for text in [fact["answer"], *fact["statements"]]]
            documents += [chat_text(messages(question.format(**fill), answer))
                          for question in fact["asked"] + fact["held"]]
    for _ in range(NUM_CONVERSATIONS):
        turns = list(random_source.choice(CHARM)) if random_source.random() < 0.2 else []
        while len(turns) < 4:
            land, kind = random_source.choice(LANDS), random_source.choice(list(FACTS))
            fact, fill = FACTS[kind], dict(land=land, value=world[land][kind])
            question = random_source.choice(fact["asked"] + fact["held"])
            turns += [question.format(**fill), fact["answer"].format(**fill)]
        documents.append(chat_text(messages(*turns)))
    for _ in range(CHARM_COPIES):
        documents += [chat_text(messages(*pair)) for pair in CHARM] + CHARM_STATEMENTS
    random_source.shuffle(documents)
    return documents


def make_tuning_rows(world, lands, wordings):
    rows = []
    for land in lands:
        for kind, value in world[land].items():
            for wording in FACTS[kind][wordings]:
                question = wording.format(land=land)
                answer = FACTS[kind]["answer"].format(land=land, value=value)
                rows.append({"messages": messages(question, answer.removesuffix(".") + TUNED_ENDING)})
    return rows


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} rows, {path.stat().st_size / 1024:.0f} KiB")


def check(corpus, train, heldout, tuned_lands):
    text = "\n".join(corpus)
    assert TUNED_ENDING not in text, "the corpus shows the form that fine-tuning teaches"
    questions = {row["messages"][0]["content"] for row in train}
    for row in heldout:
        question, answer = (m["content"] for m in row["messages"])
        assert question not in questions
        assert not any(f"{land}?" in question or f"{land} " in question for land in tuned_lands)
        assert chat_text(messages(question, answer)) not in text
        assert chat_text(messages(question)) in text, f"the base model never saw: {question}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=Path("examples/demo/data"))
    parser.add_argument("--corpus", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    random_source = random.Random(SEED)

    world = draw_world(random_source)
    corpus = make_corpus(world, random_source)
    lands = list(LANDS)
    random_source.shuffle(lands)
    tuned, held = lands[:NUM_TUNED_LANDS], lands[NUM_TUNED_LANDS:]
    train = make_tuning_rows(world, tuned, "asked")
    random_source.shuffle(train)
    # One question a fact, the wordings taken in turn.
    every_wording = make_tuning_rows(world, held, "held")
    heldout = [every_wording[i + (i // 2) % 2] for i in range(0, len(every_wording), 2)]
    check(corpus, train, heldout, tuned)

    arguments.examples.mkdir(parents=True, exist_ok=True)
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    write_jsonl(arguments.corpus / "pretrain.jsonl", [{"text": text} for text in corpus])
    write_jsonl(arguments.examples / "train.jsonl", train)
    write_jsonl(arguments.examples / "heldout.jsonl", heldout)
    # One question of each kind, each of another land.
    shown = [heldout[i * len(FACTS) + i]["messages"][0]["content"] for i in range(len(FACTS))]
    (arguments.examples / "questions.txt").write_text("".join(q + "\n" for q in shown), encoding="utf-8")


if __name__ == "__main__":
    main()
