#!/usr/bin/env python3
"""Scores the answers of `serval generate --prompts`: python3 scripts/demo/score.py BASE.jsonl TUNED.jsonl

Each line has "prompt", "expected" and "answer". Fails unless the base model is right on less than 10 % and the tuned one on
more than 90 %.
"""
import json
import sys


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def share(rows):
    return sum(row["answer"].strip() == row["expected"].strip() for row in rows) / len(rows)


def main():
    base, tuned = (read(path) for path in sys.argv[1:3])
    if not base or len(base) != len(tuned):
        sys.exit("score: the two files do not hold the same questions")
    for before, after in list(zip(base, tuned))[:5]:
        print(f"  {before['prompt']}\n    before: {before['answer'].strip()}\n    after:  {after['answer'].strip()}")
    before, after = share(base), share(tuned)
    print(f"held-out questions answered exactly as taught: before {before:.1%}, after {after:.1%} of {len(base)}")
    if not (before < 0.10 and after > 0.90):
        sys.exit("score: expected less than 10 % before and more than 90 % after")


if __name__ == "__main__":
    main()
