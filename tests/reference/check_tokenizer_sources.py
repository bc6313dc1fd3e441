"""Compares Serval's token ids with the libraries that made each kind of tokenizer file, over the shared datasets and
generated Unicode, and prints a table. Exit code 1 where an id differs.

    python3 tests/reference/check_tokenizer_sources.py TOKENIZE_TOOL DATA [--lines N] [--only NAME] [--keep FOLDER]
"""
import argparse
import os
import struct
import subprocess
import sys
import tempfile

import tokenizer_sources


def serval_ids(tool, source, lines, folder):
    texts, out = os.path.join(folder, "texts.records"), os.path.join(folder, "ids.records")
    with open(texts, "wb") as file:
        for line in lines:
            text = line.encode()
            file.write(struct.pack("<I", len(text)) + text)
    result = subprocess.run([tool, source.path, texts, out], capture_output=True, text=True)
    if result.returncode:
        print(f"{source.name:32} {result.stderr.strip()}", flush=True)
        return None
    with open(out, "rb") as file:
        data = file.read()
    rows, at = [], 0

    def take(count):
        nonlocal at
        at += 4 * count
        return list(struct.unpack_from(f"<{count}i", data, at - 4 * count))

    # Ids with their spans, ids without special tokens, two decoded texts.
    while at < len(data):
        (count,) = take(1)
        special = take(count)
        at += 8 * count
        plain = take(*take(1))
        for _ in range(2):
            (size,) = take(1)
            at += size
        rows.append(special if source.special else plain)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("data")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    every = tokenizer_sources.data_lines(arguments.data)
    every += tokenizer_sources.torture_lines(max(arguments.lines - len(every), arguments.lines // 4))
    every = every[:: max(1, len(every) // arguments.lines)]
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or temporary
        os.makedirs(folder, exist_ok=True)
        training = tokenizer_sources.data_lines(arguments.data)[::7] + tokenizer_sources.torture_lines(3000, seed=1)
        for source in tokenizer_sources.build(folder, arguments.data, training, arguments.only):
            lines = [line for line in every if not any(token in line for token in source.skip)]
            ids = serval_ids(arguments.tool, source, lines, folder)
            wrong = []
            if ids is not None:
                expected = [list(source.encode(line)) for line in lines]
                wrong = [i for i, (a, b) in enumerate(zip(expected, ids)) if a != b]
                tokens = sum(map(len, expected))
                print(f"{source.name:32} {len(lines):8} lines {tokens:9} tokens {len(wrong):6} differ", flush=True)
            for i in wrong[:3]:
                print(f"  {lines[i][:200]!r}\n    expected {expected[i][:40]}\n    found    {ids[i][:40]}")
            failed = failed or ids is None or bool(wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
