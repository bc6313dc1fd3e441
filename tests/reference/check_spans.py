#!/usr/bin/env python3
"""Checks the spans that `serval render --spans` finds in templates without {% generation %}: each holds what its message
says, and where a template has a twin with {% generation %} (NAME_training.jinja) that renders the same text, the spans
are those that transformers finds in the twin. Prints how many were found, refused (by reason) and different.

    tests/reference/check_spans.py build/release/serval ../shared/data/templates
"""
import collections
import pathlib
import re
import sys
import tempfile

from check_templates import TOKENS, oracle, rendered
from jinja_oracle import set_up
from template_conversations import CONVERSATIONS


def says(message):
    content = message.get("content")
    if isinstance(content, list):
        return [part["text"].strip() for part in content if "text" in part]
    return [content.split("</think>")[-1].strip()] if isinstance(content, str) else []


def main():
    serval, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    verbose = len(sys.argv) > 3
    set_up()
    rows = [row for row in CONVERSATIONS if "continue_final_message" not in row and row["messages"]]
    counts, reasons, wrong, twins = collections.Counter(), collections.Counter(), [], collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(folder.rglob("*.jinja")):
            template = path.read_text()
            if "endgeneration" in template:
                continue
            twin = path.with_name(path.stem + "_training.jinja")
            plain = rendered(serval, path, rows, False, False, scratch)
            for i, (row, text, found) in enumerate(zip(rows, plain, rendered(serval, path, rows, False, True, scratch))):
                where = f"{path.name} conversation {i}"
                if "error" in text:
                    counts["refused by the template"] += 1
                    continue
                if "error" in found:
                    counts["no span"] += 1
                    reasons[re.sub(r".*rest: ", "", found["error"])] += 1
                    if verbose:
                        print("no span:", where, found["error"], repr(text["text"][-400:]))
                    continue
                assert found["text"] == text["text"]
                data = found["text"].encode()
                for (begin, end), k in zip(found["spans"], found["messages"]):
                    counts["spans"] += 1
                    part = data[begin:end].decode()
                    if not all(said in part or said not in found["text"] for said in says(row["messages"][k])):
                        wrong.append((where, "content missing", k, part))
                if not twin.exists():
                    continue
                theirs = oracle(twin.read_text(), {**TOKENS, **row}, False, True)
                if theirs.get("text") != found["text"]:
                    twins["other text"] += 1
                    continue
                merged = []  # marks that touch are one span
                for a, b in theirs["spans"]:
                    if merged and merged[-1][1] == a:
                        merged[-1][1] = b
                    else:
                        merged.append([a, b])
                mine = [list(s) for s in found["spans"]]
                if merged == mine:
                    twins["equal"] += 1
                else:
                    twins["differ"] += 1
                    twins[path.name] += 1
                    if verbose:
                        print("twin:", where, [data[a:b] for a, b in merged], [data[a:b] for a, b in mine])
    print(dict(counts))
    print("twins:", dict(twins))
    for reason, n in reasons.most_common():
        print(f"  {n} x {reason}")
    for w in wrong[:20]:
        print("wrong:", w)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
