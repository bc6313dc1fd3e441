#!/usr/bin/env python3
"""Compares our chat templates with transformers, byte for byte: every template of a folder against a set of
conversations, with and without the generation prompt.

    tests/reference/check_templates.py build/release/serval ../shared/data/templates

Needs the Python package transformers. Where both refuse, they agree.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from jinja_oracle import NOW, chat_template_utils, set_up
from template_conversations import CONVERSATIONS

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def oracle(template, row, prompt, spans):
    context = {k: v for k, v in row.items() if k not in ("messages", "tools", "documents")}
    try:
        if prompt and context.get("continue_final_message"):
            raise ValueError("exclude each other")
        text, indices = chat_template_utils.render_jinja_template(
            conversations=[row["messages"]], tools=row.get("tools"), documents=row.get("documents"),
            chat_template=template, add_generation_prompt=prompt, return_assistant_tokens_mask=spans, **context)
    except Exception as error:  # whatever Python raises, a user sees a refusal
        return {"error": f"{type(error).__name__}: {error}"}
    result = {"text": text[0]}
    if spans and not context.get("continue_final_message"):
        offset = lambda i: len(text[0][:i].encode())
        result["spans"] = [[offset(a), offset(b)] for a, b in indices[0] if a < b]
    return result


def rendered(serval, template_path, rows, prompt, spans, folder):
    path = pathlib.Path(folder) / "rows.jsonl"
    path.write_text("".join(json.dumps({**TOKENS, **row}) + "\n" for row in rows))
    words = [serval, "render", "--template", template_path, "--conversations", path, "--now", str(NOW)]
    run = subprocess.run(words + ["--add-generation-prompt"] * prompt + ["--spans"] * spans, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.split("\n") if line]
    assert len(lines) == len(rows), run.stderr
    return [{"text": line} if isinstance(line, str) else line for line in lines]


def main():
    serval, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    set_up()
    total = same = refused = 0
    differing = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(folder.rglob("*.jinja")):
            template = path.read_text()
            spans = "generation" in template and "endgeneration" in template
            for prompt in (False, True):
                ours = rendered(serval, path, CONVERSATIONS, prompt, spans, scratch)
                for i, (row, mine) in enumerate(zip(CONVERSATIONS, ours)):
                    theirs = oracle(template, {**TOKENS, **row}, prompt, spans)
                    total += 1
                    if "error" in theirs and "error" in mine:
                        refused += 1
                    elif theirs.get("text") == mine.get("text") and theirs.get("spans", mine.get("spans")) == mine.get("spans"):
                        same += 1
                    else:
                        differing.append((f"{path.name} conversation {i} prompt {prompt}", theirs, mine))
    print(f"{total} renderings: {same} equal, {refused} refused by both, {len(differing)} differ")
    for name, theirs, mine in differing[:20]:
        print("---", name)
        print("  theirs:", {k: v[-300:] if isinstance(v, str) else v for k, v in theirs.items()})
        print("  ours:  ", {k: v[-300:] if isinstance(v, str) else v for k, v in mine.items()})
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
