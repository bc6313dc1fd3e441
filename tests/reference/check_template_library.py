#!/usr/bin/env python3
"""Compares the built-in chat templates with the real ones, over the conversations of template_conversations.py: equal text
wherever the real one renders (a built-in one may accept more). Spans must be those of the twin with {% generation %}.

    tests/reference/check_template_library.py build/release/serval ../shared/data/templates [chat_templates.py of unsloth]

Where the file of Unsloth's templates is given, those that have no real file here are compared with it.
"""
import pathlib
import re
import sys
import tempfile

from check_templates import oracle, rendered
from jinja_oracle import set_up
from template_conversations import CONVERSATIONS

REAL = {"llama-3": "trl/llama3", "llama-3.1": "models/meta-llama-Llama-3.1-8B-Instruct", "llama-3.2": "models/meta-llama-Llama-3.2-3B-Instruct", "llama-3.3": "models/meta-llama-Llama-3.3-70B-Instruct",
        "gemma": "trl/gemma", "gemma2": "models/google-gemma-2-2b-it", "gemma-3": "trl/gemma3", "phi-3": "trl/phi3", "phi-3.5": "models/microsoft-Phi-3.5-mini-instruct",
        "qwen-2.5": "models/Qwen-Qwen2.5-7B-Instruct", "qwen-3": "trl/qwen3", "qwen3-instruct": "trl/qwen3_instruct_2507", "lfm-2": "trl/lfm2", "lfm-2.5": "models/LFM2.5-Instruct", "mistral-nemo": "models/mistralai-Mistral-Nemo-Instruct-2407",
        "gpt-oss": "trl/gptoss", "gemma-4": "models/google-gemma-4-31B-it"}
UNSLOTH = ["unsloth", "zephyr", "chatml", "mistral", "llama", "vicuna", "vicuna_old", "alpaca", "gemma_chatml", "phi-4", "gemma-3n", "qwen3-thinking", "starling", "yi-chat"]


def unsloth_templates(path):
    """The assignments of literals in the file, without importing what it needs."""
    source = pathlib.Path(path).read_text()
    start, end = source.index("unsloth_template = "), source.index("def _change_system_message")
    names = {"CHAT_TEMPLATES": {}, "DEFAULT_SYSTEM_MESSAGE": {}, "_ollama_template": lambda name: None}
    exec(source[start:end], names)
    return {name: entry[0].replace("{system_message}", (names["DEFAULT_SYSTEM_MESSAGE"].get(name) or "").replace("'", "\\'")) for name, entry in names["CHAT_TEMPLATES"].items()}


def main():
    serval, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    set_up()
    pairs = {name: (folder / (path + ".jinja")).read_text() for name, path in REAL.items()}
    if len(sys.argv) > 3:
        known = unsloth_templates(sys.argv[3])
        pairs.update({name: known[name] for name in UNSLOTH})
    tokens = {"bos_token": "<BOS>", "eos_token": "</s>"}
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, template in pairs.items():
            equal = more = both = 0
            different = []
            for prompt in (False, True):
                rows = [{**tokens, **row} for row in CONVERSATIONS]
                for i, (row, mine) in enumerate(zip(rows, rendered(serval, name, rows, prompt, False, scratch))):
                    theirs = oracle(template, row, prompt, False)
                    if "error" in theirs:
                        both, more = both + ("error" in mine), more + ("error" not in mine)
                    elif theirs["text"] == mine.get("text"):
                        equal += 1
                    else:
                        different.append((i, prompt, theirs, mine))
            print(f"{name}: {equal} equal, {both} refused by both, {more} accepted here alone, {len(different)} differ")
            failed += len(different) > 0
            for i, prompt, theirs, mine in different[:2]:
                print("   ", i, prompt, "\n      theirs", repr(theirs)[-300:], "\n      ours  ", repr(mine)[-300:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
