"""Compares Serval's token ids with the libraries that made each kind of tokenizer file, over the shared datasets and
generated Unicode, and prints a table. Exit code 1 where an id differs.

    python3 tests/reference/check_tokenizer_sources.py TOKENIZE_TOOL DATA [--lines N] [--only NAME] [--keep FOLDER]
"""
import os
import sys
import tempfile

import tokenize_tool
import tokenizer_sources


def main():
    arguments, every = tokenizer_sources.arguments_and_lines(100_000)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or temporary
        os.makedirs(folder, exist_ok=True)
        for source in tokenizer_sources.build_for(folder, arguments):
            lines = [line for line in every if not any(token in line for token in source.skip)]
            ids, wrong = None, []
            try:
                rows = tokenize_tool.rows_of(arguments.tool, source.path, lines, folder)
                ids = [row.ids if source.special else row.plain for row in rows]
            except tokenize_tool.ToolError as error:
                print(f"{source.name:32} {error}", flush=True)
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
