#!/usr/bin/env python3
"""Compares our chat templates with transformers, byte for byte: every template of a folder against a set of
conversations, with and without the generation prompt.

    tests/reference/check_templates.py build/release/tests/text/render_tool ../shared/data/templates

Needs the Python package transformers. Where both refuse, they agree.
"""
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import transformers.utils.chat_template_utils as chat_template_utils

NOW = 1_750_000_000
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a \"place\" – now & <later>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Zürich, 東京, …"},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                "days": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                "detail": {"type": "object", "properties": {"wind": {"type": "boolean"}}, "required": ["wind"]},
            },
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "", "parameters": {"type": "object", "properties": {}}}}
NESTED = {"place": "Zürich", "n": 3, "f": 1.5, "none": None, "flag": True, "list": [1, {"a": "b\n\"c\""}], "deep": {"x": {"y": []}}}
LONG_ID = "abcdef123"

CONVERSATIONS = [
    {"messages": [user("Hello")]},
    {"messages": [user("Hi"), assistant("Hello!"), user("Bye")]},
    {"messages": [{"role": "system", "content": "You are terse."}, user("Hi"), assistant("Yes.")]},
    {"messages": [{"role": "system", "content": ""}, user(""), assistant("")]},
    {"messages": [user("Grüße, 世界 🌍 \u00a0 é"), assistant("  spaces \n\n around  \n")]},
    {"messages": [user("a"), assistant(None), user("b")]},
    {"messages": [user("1+1?"), assistant("2", reasoning_content="one and one")]},
    {"messages": [user("1+1?"), assistant("2", thinking="older name"), user("3+3?"), assistant("6", reasoning="oldest")]},
    {"messages": [user("q"), assistant("<think>\ninside\n</think>\n\nanswer"), user("again"), assistant("<think></think>x")]},
    {"messages": [user("weather?")], "tools": [WEATHER]},
    {"messages": [user("weather?")], "tools": [WEATHER, TIME]},
    {"messages": [{"role": "system", "content": "S"}, user("w"), assistant("", tool_calls=[call("get_weather", NESTED, id=LONG_ID)]),
                  {"role": "tool", "name": "get_weather", "tool_call_id": LONG_ID, "content": "{\"t\": 20}"}, assistant("20°")],
     "tools": [WEATHER]},
    {"messages": [user("w"), assistant(None, tool_calls=[call("get_weather", json.dumps(NESTED), id=LONG_ID)]),
                  {"role": "tool", "name": "get_weather", "tool_call_id": LONG_ID, "content": "rain"}], "tools": [WEATHER]},
    {"messages": [user("w"), assistant("calling", tool_calls=[call("get_weather", {"place": "A"}, id=LONG_ID), call("time", {}, id="abcdef124")]),
                  {"role": "tool", "name": "get_weather", "tool_call_id": LONG_ID, "content": "x"},
                  {"role": "tool", "name": "time", "tool_call_id": "abcdef124", "content": "y"}, assistant("z"), user("u")],
     "tools": [WEATHER, TIME]},
    {"messages": [user("w"), assistant("", tool_calls=[{"name": "time", "arguments": {}}]), {"role": "tool", "content": {"a": [1, 2.0]}}]},
    {"messages": [user([{"type": "text", "text": "parts"}, {"type": "text", "text": " two"}]), assistant([{"type": "text", "text": "ok"}])]},
    {"messages": [user([{"type": "image"}, {"type": "text", "text": "what?"}]), assistant("a cat")]},
    {"messages": [user([{"type": "image", "image": "x.png"}, {"type": "video", "video": "v"}, {"type": "audio", "audio": "a"}])]},
    {"messages": [user("a"), user("b")]},
    {"messages": [assistant("first"), user("second")]},
    {"messages": []},
    {"messages": [{"role": "developer", "content": "dev"}, user("x")]},
    {"messages": [{"role": "unknown", "content": "?"}]},
    {"messages": [user("x")], "enable_thinking": False},
    {"messages": [user("x"), assistant("y", reasoning_content="r"), user("z")], "enable_thinking": True, "thinking": True},
    {"messages": [user("x")], "documents": [{"title": "T", "text": "body", "nested": [1]}], "tools": [TIME]},
    {"messages": [user("line\r\nbreaks\rand\ttabs"), assistant("{{ not }} {% a template %} {# at all #}")]},
    {"messages": [user("x"), assistant("y", tool_calls=[]), user("z")], "tools": []},
    {"messages": [{"role": "system", "content": [{"type": "text", "text": "sys"}]}, user("x"), assistant("", reasoning_content="only thought")]},
    {"messages": [user("a" * 3000), assistant("b\n" * 500), user("c")], "reasoning_effort": "high"},
    {"messages": [{"role": "user"}, {"role": "assistant", "content": "no content above"}]},
]


def oracle(job, spans):
    context = {k: v for k, v in job["context"].items() if k not in ("messages", "tools", "documents")}
    try:
        text, indices = chat_template_utils.render_jinja_template(
            conversations=[job["context"]["messages"]], tools=job["context"].get("tools"),
            documents=job["context"].get("documents"), chat_template=job["template"],
            add_generation_prompt=job["add_generation_prompt"], return_assistant_tokens_mask=spans, **context)
    except Exception as error:  # whatever Python raises, a user sees a refusal
        return {"error": f"{type(error).__name__}: {error}"}
    result = {"text": text[0]}
    if spans:
        offset = lambda i: len(text[0][:i].encode())
        result["spans"] = [[offset(a), offset(b)] for a, b in indices[0]]
    return result


def main():
    tool, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    chat_template_utils.datetime = FixedDate
    jobs, names = [], []
    for path in sorted(folder.rglob("*.jinja")):
        template = path.read_text()
        for i, conversation in enumerate(CONVERSATIONS):
            for prompt in (False, True):
                jobs.append({"template": template, "context": {**TOKENS, **conversation}, "add_generation_prompt": prompt, "now": NOW})
                names.append(f"{path.name} conversation {i} prompt {prompt}")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(jobs, file)
        file.flush()
        ours = json.loads(subprocess.run([tool, file.name], check=True, capture_output=True).stdout)
    same = refused = 0
    differing = []
    for name, job, mine in zip(names, jobs, ours):
        theirs = oracle(job, "generation" in job["template"] and "endgeneration" in job["template"])
        if "error" in theirs and "error" in mine:
            refused += 1
        elif theirs.get("text") == mine.get("text") and theirs.get("spans", mine.get("spans")) == mine.get("spans"):
            same += 1
        else:
            differing.append((name, theirs, mine))
    print(f"{len(jobs)} renderings: {same} equal, {refused} refused by both, {len(differing)} differ")
    for name, theirs, mine in differing[:20]:
        print("---", name)
        print("  theirs:", {k: v[-300:] if isinstance(v, str) else v for k, v in theirs.items()})
        print("  ours:  ", {k: v[-300:] if isinstance(v, str) else v for k, v in mine.items()})
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
