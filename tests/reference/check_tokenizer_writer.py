"""Writes every kind of tokenizer that Serval reads as tokenizer.json, with two tokens added, and compares the ids and
the decoded texts that `tokenizers` and `transformers` make of the files with Serval's own of the source and of the
files. Prints a table. Exit code 1 where more differs than the kind is known for.

    python3 tests/reference/check_tokenizer_writer.py TOKENIZE_TOOL DATA [--lines N] [--only NAME] [--keep FOLDER]
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

import tokenize_tool
import tokenizer_sources
from tokenizers import Tokenizer

NEW = ["<new_word>", "<|new_special|>"]
# Share of the lines that may differ: a tokenizer.json has no way to say these kinds exactly (docs/tokenizers.md).
OWN_PARTS = ("LlamaTokenizer", "LlamaTokenizerFast")  # transformers 5 disregards what the file says
KNOWN = {"spm-unigram": 0.05, "spm-bpe-nmt": 0.05, "spm-bpe-suffix": 0.05, "spm-bpe-no-prefix": 0.05, "gguf-t5": 0.05}


def records_of(tool, path, lines, folder):
    return [(row.ids, row.plain, row.decoded, row.skipped) for row in tokenize_tool.rows_of(tool, path, lines, folder)]


def library_rows(path, lines):
    tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    special = [e.ids for e in tokenizer.encode_batch(lines)]
    plain = [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
    return list(zip(special, plain, tokenizer.decode_batch(special, skip_special_tokens=False),
                    tokenizer.decode_batch(special, skip_special_tokens=True)))


def main():
    arguments, every = tokenizer_sources.arguments_and_lines(20_000)
    lines = [line + NEW[i // 3 % 2] + line[:5] if i % 3 == 0 else line for i, line in enumerate(every)]
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or temporary
        os.makedirs(folder, exist_ok=True)
        paths = [(s.name, s.path) for s in tokenizer_sources.build_for(folder, arguments)]
        for path in sorted(glob.glob(os.path.join(arguments.data, "tokenizers", "*", "tokenizer.json"))):
            name = "file-" + os.path.basename(os.path.dirname(path))
            if arguments.only in name:
                paths.append((name, os.path.dirname(path)))
        for path in sorted(glob.glob(os.path.join(arguments.data, "tokenizers", "ggml-vocab", "*.gguf"))):
            if arguments.only in os.path.basename(path):
                paths.append((os.path.basename(path)[:-5], path))
        for name, path in paths:
            written = os.path.join(folder, "written-" + name)
            # The source with the same tokens is what is asked for; ours reads it back from a first writing.
            result = subprocess.run([arguments.tool, "--write", path, written, *NEW], capture_output=True, text=True)
            if result.returncode:
                print(f"{name:32} {result.stderr.strip()[:160]}", flush=True)
                failed = failed or "GGUF" not in result.stderr
                continue
            used = [line for line in lines if "<unk>" not in line]
            source = records_of(arguments.tool, path + "", [line for line in used if not any(t in line for t in NEW)], folder)
            again = records_of(arguments.tool, written, used, folder)
            try:
                library = library_rows(written, used)
            except Exception as error:
                try:
                    Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
                    failed = True
                    print(f"{name:32} {error}   <--", flush=True)
                except Exception:
                    print(f"{name:32} tokenizers refuses the source too: {error}", flush=True)
                continue
            without = [row for line, row in zip(used, again) if not any(t in line for t in NEW)]
            lost = sum(a != b for a, b in zip(source, without))
            ids = [i for i, (a, b) in enumerate(zip(again, library)) if a[:2] != (b[0], b[1])]
            texts = [i for i, (a, b) in enumerate(zip(again, library)) if a[2:] != b[2:]]
            auto = "-"
            try:
                from transformers import AutoTokenizer
                tokenizer = AutoTokenizer.from_pretrained(written)
                some = range(0, len(used), 20)
                wrong = [i for i in some if tokenizer.encode(used[i]) != again[i][0]]
                auto = f"{len(wrong)} of {len(some)}"
                if wrong and arguments.only:
                    i = wrong[0]
                    print("  transformers", repr(used[i][:80]), tokenizer.encode(used[i])[:20], again[i][0][:20])
            except Exception as error:  # what transformers says is the result
                auto = "error: " + str(error)[:80]
            if json.load(open(os.path.join(written, "tokenizer_config.json"))).get("tokenizer_class") in OWN_PARTS:
                auto = "0 of 0 (its class makes parts of its own)"
            bound = max([share for kind, share in KNOWN.items() if name.startswith(kind)] or [0]) * len(used)
            bad = lost > bound or ids or texts or auto.startswith("error") or not auto.startswith("0 ")
            failed = failed or bad
            print(f"{name:32} {len(used):7} lines; lost by writing {lost:5}; tokenizers: ids {len(ids):4} texts {len(texts):4};"
                  f" transformers {auto}{'   <--' if bad else ''}", flush=True)
            for i in ids[:2] + texts[:2]:
                print(f"  {used[i][:120]!r}\n    serval     {again[i][0][:24]} {again[i][2][:60]!r}"
                      f"\n    tokenizers {library[i][0][:24]} {library[i][2][:60]!r}")
            if lost and arguments.only:
                plain = [line for line in used if not any(t in line for t in NEW)]
                for line, a, b in [(p, a, b) for p, a, b in zip(plain, source, without) if a != b][:4]:
                    print(f"  {line[:120]!r}\n    source  {a[0][:24]} {a[2][:60]!r}\n    written {b[0][:24]} {b[2][:60]!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
