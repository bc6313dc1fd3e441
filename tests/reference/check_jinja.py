#!/usr/bin/env python3
"""Renders random templates with jinja2, set up as transformers does, and with Serval's engine, and compares.

    tests/reference/check_jinja.py build/release/tests/text/render_tool 20000 [seed]

A case is equal where both give the same text or both refuse. Templates come from jinja_grammar.py; each is rendered with
a few random contexts.

Left out, because Serval refuses them by design: bytes (str.encode, int.to_bytes), characters by name (\\N{...}), complex
numbers, formats wider than 10,000 characters, integers of more than 4,300 digits, ranges
of integers beyond 64 bits, what the limits of work and memory end; slices of what has none, which jinja2
takes for undefined if all of the expression is constant; what makes jinja2 fail an assertion of its own
or write wrong Python; and an {% autoescape %} by a variable, which constants do not follow. An unknown filter or test behind
an `and` or `or` that a constant decides is an error here and is dropped there; views of dicts have no order as sets here. No template asks for random or lipsum, nor prints an object whose text is its address: lazy sequences and methods are used, never
written.
Differences are printed, the shortest templates first.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings

import jinja_oracle
from jinja_grammar import Gen

ROWS = 3
BY_DESIGN = ("a complex number", "unhashable type: 'slice'", "object is not subscriptable", "in a format is above", "of more than 4300 digits", "gives bytes", "does not fit 64 bits here",
             "too much work (limit", "too much memory (limit", "too much text (limit")


def cases_of(seed, count):
    for n in range(count):
        gen = Gen(random.Random(seed * 1_000_003 + n))
        yield gen.template(), [gen.context() for _ in range(ROWS)]


def ours(tool, seed, count):
    """The answers of the tool, which runs beside the oracle; it reads all of its requests from a file."""
    requests = tempfile.TemporaryFile()
    for template, contexts in cases_of(seed, count):
        requests.write(json.dumps({"template": template, "now": jinja_oracle.NOW, "contexts": contexts}).encode() + b"\n")
    requests.seek(0)
    return subprocess.Popen([tool], stdin=requests, stdout=subprocess.PIPE, env={**os.environ, "TZ": "UTC"})


def has_surrogate(text):
    return any(0xD800 <= ord(c) < 0xE000 for c in text)


def is_address(text):
    return " at 0x" in text.lower()


def is_flaw(answer):
    """What is a fault of jinja2's own, not of the template."""
    return answer.get("error", "").startswith(("AssertionError", "SyntaxError", "NameError: name 'nan'", "NameError: name 'inf'"))


def main():
    tool, count = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    warnings.simplefilter("ignore")
    jinja_oracle.set_up()
    equal = refused = skipped = 0
    differing = []
    mine = ours(tool, seed, count)
    for template, contexts in cases_of(seed, count):
        line = mine.stdout.readline()
        if not line:
            print("the tool ended at", repr(template), contexts)
            return 1
        theirs = jinja_oracle.render_within_limits(template, contexts)
        if theirs is None:
            skipped += ROWS
            continue
        for row, a, b in zip(contexts, theirs, json.loads(line)):
            text = a.get("text", "")
            if is_flaw(a) or has_surrogate(text) or is_address(text) or any(reason in b.get("error", "") for reason in BY_DESIGN):
                skipped += 1
            elif "error" in a and "error" in b:
                refused += 1
            elif "text" in a and text == b.get("text"):
                equal += 1
            else:
                differing.append((template, row, a, b))
                break
    mine.wait()
    print(f"{count} templates: {equal} renderings equal, {refused} refused by both, {skipped} skipped, {len(differing)} templates differ")
    for template, row, a, b in sorted(differing, key=lambda d: len(d[0]))[:int(os.environ.get("SHOW", "40"))]:
        print("---", repr(template)[:500])
        print("  theirs:", repr(a)[:400])
        print("  ours:  ", repr(b)[:400])
        if os.environ.get("ROWS"):
            print("  row:", json.dumps(row, ensure_ascii=False)[:1500])
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
