"""Accepts and refuses mutated safetensors files with the wheel and with a program of ours, and compares.

    python3 tests/reference/check_safetensors_parity.py PROGRAM [--count 5000] [--seed 1]

PROGRAM reads paths from stdin, one a line, and prints "ok" or a refusal for each (tests/formats/accept_tool.cc).
Serval may be stricter than the wheel where the format's rules are: each such kind is listed in STRICTER, and a
duplicate name is refused whatever else is wrong. It never accepts what the wheel refuses, but for the number -0.
"""

import argparse
import collections
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import safetensors

TYPES = {"F32": 32, "BF16": 16, "F16": 16, "U8": 8, "I64": 64, "F8_E4M3": 8, "F4": 4, "BOOL": 8, "F64": 64, "C64": 64}
# Part of our refusal -> why the wheel lets it pass.
STRICTER = {
    "__metadata__ is no object": "null is taken for absent metadata by the wheel",
    "does not begin": "the format says that the header begins with '{'",
    "is no size": "sizes between 2^63 and 2^64",
}


def random_file(rng):
    """Header text and data of a right file."""
    header, offset = {}, 0
    if rng.random() < 0.5:
        header["__metadata__"] = {"format": "pt"}
    for i in range(rng.randrange(4)):
        dtype = rng.choice(list(TYPES))
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rng.randrange(4))]
        bits = TYPES[dtype]
        for dim in shape:
            bits *= dim
        size = -(-bits // 8)
        header[f"t{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return json.dumps(header, separators=(",", ":")), bytes(offset)


NUMBERS = ["0", "1", "-1", "2", "7", "4294967296", "18446744073709551615", "9223372036854775808", "1e3", "2.0", "null",
           '"1"', "[]", "-0", "01"]
SNIPPETS = ['{', '}', '[', ']', ',', ':', '"', ' ', '\n', '\\', '"x":1,', '"a":null,', "\x00", "\u00e9", '"__metadata__":{},']


def mutate_header(rng, text):
    kind = rng.randrange(7)
    at = rng.randrange(len(text) + 1)
    if kind == 0:
        return text[:at] + text[at + rng.randrange(1, 6):]
    if kind == 1:
        return text[:at] + rng.choice(SNIPPETS) + text[at:]
    if kind == 2:
        digits = [i for i, c in enumerate(text) if c.isdigit()]
        if not digits:
            return text + " "
        at = rng.choice(digits)
        return text[:at] + rng.choice(NUMBERS) + text[at + 1:]
    if kind == 3:
        return text + rng.choice([" ", "\n", "\t ", "x", "\x00", "{}"])
    if kind == 4:
        return text.replace("t1", "t0", 1)
    if kind == 5:
        return text.replace(rng.choice(list(TYPES)), rng.choice(list(TYPES) + ["I9"]), 1)
    return text[:at] + text[rng.randrange(len(text) + 1):][:20] + text[at:]


def mutated_bytes(rng):
    text, data = random_file(rng)
    for _ in range(rng.randrange(3)):
        text = mutate_header(rng, text)
    header = text.encode("utf-8", "surrogatepass")
    content = bytearray(struct.pack("<Q", len(header)) + header + data)
    kind = rng.randrange(12)
    if kind == 0:
        content = content[:rng.randrange(len(content) + 1)]
    elif kind == 1:
        content += bytes(rng.randrange(1, 9))
    elif kind == 2:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def has_duplicate_names(content):
    def refuse_duplicates(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise KeyError
        return dict(pairs)

    try:
        json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]], object_pairs_hook=refuse_duplicates)
    except KeyError:
        return True
    return False


def known_difference(wheel, answer, content):
    """Why the two may differ on this file, or None."""
    if not wheel:
        return "the number -0 is 0 here, no size for the wheel" if b"-0" in content else None
    if has_duplicate_names(content):
        return "the format forbids duplicate names; the wheel keeps the last"
    return next((reason for part, reason in STRICTER.items() if part in answer), None)


def wheel_accepts(path):
    try:
        with safetensors.safe_open(path, framework="numpy"):
            return True
    except Exception:  # every kind of refusal counts
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(directory, str(i)) for i in range(options.count)]
        for path in paths:
            with open(path, "wb") as file:
                file.write(mutated_bytes(rng))
        answers = subprocess.run([options.program], input="\n".join(paths) + "\n", capture_output=True, text=True,
                                 check=True).stdout.splitlines()
        assert len(answers) == len(paths)
        counts, wrong = collections.Counter(), 0
        for path, answer in zip(paths, answers):
            wheel, ours = wheel_accepts(path), answer == "ok"
            counts["both accept" if wheel and ours else "both refuse" if not wheel and not ours else "differ"] += 1
            if wheel == ours:
                continue
            with open(path, "rb") as file:
                content = file.read()
            reason = known_difference(wheel, answer, content)
            if reason is None:
                wrong += 1
                print("wheel accepts:", wheel, "serval:", answer, content[:400])
            else:
                counts[f"known: {reason}"] += 1
    for kind, count in sorted(counts.items()):
        print(f"{count:6} {kind}")
    sys.exit(1 if wrong else 0)


main()
