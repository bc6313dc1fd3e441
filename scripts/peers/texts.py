"""Tokenizers and chat templates on real files."""

import json
import re
import subprocess
import sys

import tokenizers

TEXT_FILES = (".jsonl", ".json", ".txt", ".en")


def _load(path):
    """By the tokenizers package. It cannot read merges of spaces in the old form ("a b"): they become pairs."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]

    def pair(merge):
        if not isinstance(merge, str):
            return merge
        cuts = [(merge[:i], merge[i + 1:]) for i, letter in enumerate(merge) if letter == " "]
        return next(cut for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary and "".join(cut) in vocabulary)

    tokenizer["model"]["merges"] = [pair(merge) for merge in tokenizer["model"]["merges"]]
    peer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    peer.no_truncation()
    peer.no_padding()
    return peer


def check_tokenizers(tools, report):
    """Every line of every text file of the data, with each real tokenizer."""
    if not (tools.data / "tokenizers").exists():
        report.skip("tokenizers (absent)")
        return
    report.section("Tokenizers: ids of every line of the data sets")
    lines = []
    for path in sorted((tools.data / "datasets").rglob("*")):
        if path.suffix in TEXT_FILES:
            lines += path.read_text(encoding="utf-8").split("\n")
    corpus = tools.work / "corpus.txt"
    corpus.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
    files = [*tools.data.glob("tokenizers/*/tokenizer.json"), *tools.data.glob("models/*/hf/tokenizer.json")]
    for path in sorted(files):
        peer = _load(path)
        theirs = [" ".join(map(str, encoding.ids)) for encoding in peer.encode_batch(lines)]
        ours = tools.run(tools.build / "tests" / "text" / "tokenize_tool", path.parent, corpus).split("\n")[:-1]
        wrong = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
        report.count(str(path.parent.relative_to(tools.data)), "lines", "tokenizers", wrong, len(lines))


def check_templates(tools, report):
    if not (tools.data / "templates").exists():
        report.skip("templates (absent)")
        return
    report.section("Chat templates: 52 conversations, with and without generation prompt")
    done = subprocess.run([sys.executable, tools.reference_scripts / "check_templates.py",
                           tools.build / "serval", tools.data / "templates"],
                          capture_output=True, text=True, check=False)
    total, equal, refused, differ = map(int, re.match(
        r"(\d+) renderings: (\d+) equal, (\d+) refused by both, (\d+) differ", done.stdout).groups())
    templates = len(list((tools.data / "templates").rglob("*.jinja")))
    report.count("", f"{templates} templates: {equal:,} renderings equal, {refused:,} refused by both",
                 "transformers and jinja2", differ, total)
