"""Conversations that chat templates are tried with: every role and shape that datasets hold, and odd ones."""
import json


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
    {"messages": [user("w"), assistant("Both at once.", tool_calls=[call("get_weather", {"place": "A"}, id=LONG_ID), call("time", {}, id="abcdef124")]),
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
    # Longer ones: several turns with tools, reasoning on each, what a model is told about documents and images.
    {"messages": [{"role": "system", "content": "Sys."}] + [m for k in range(6) for m in (user(f"question {k}"), assistant(f"answer {k}"))]},
    {"messages": [m for k in range(4) for m in (user(f"q{k}"), assistant(f"a{k}", reasoning_content=f"because {k}"))], "enable_thinking": True},
    {"messages": [m for k in range(3) for m in (user(f"q{k}"), assistant(f"<think>\nwhy {k}\n</think>\n\na{k}"))]},
    {"messages": [user("two"), assistant("", tool_calls=[call("time", {}, id="aaaaaaaa1")]), {"role": "tool", "name": "time", "tool_call_id": "aaaaaaaa1", "content": "12"},
                  assistant("", reasoning_content="more", tool_calls=[call("get_weather", NESTED, id="aaaaaaaa2")]),
                  {"role": "tool", "name": "get_weather", "tool_call_id": "aaaaaaaa2", "content": "{\"a\": [1]}"}, assistant("done"), user("thanks"), assistant("welcome")],
     "tools": [TIME, WEATHER]},
    {"messages": [user("json string arguments"), assistant("", tool_calls=[call("get_weather", "{\"place\": \"X\", \"deep\": {\"y\": [1, 2]}}", id="bbbbbbbb1")])], "tools": [WEATHER]},
    {"messages": [user("numbers"), assistant("", tool_calls=[call("f", {"big": 9007199254740993, "neg": -0.0, "exp": 1e22, "small": 1e-7, "t": True, "n": None, "s": "\u2028 \U0001f600 \\ \" / \x7f"}, id="cccccccc1")])]},
    {"messages": [user([{"type": "text", "text": "look: "}, {"type": "image_url", "image_url": {"url": "file.png"}}, {"type": "text", "text": "?"}]), assistant([{"type": "text", "text": "seen"}]), user("more")]},
    {"messages": [user([{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, {"type": "text", "text": "transcribe"}]), assistant("words")]},
    {"messages": [user("x"), assistant("y")], "documents": [{"title": "A", "text": "one"}, {"title": "B", "text": "two"}], "controllable": True, "citation_mode": "fast"},
    {"messages": [{"role": "system", "content": "first"}, user("u"), {"role": "system", "content": "later"}, assistant("a")]},
    {"messages": [user("same"), assistant("same"), user("same"), assistant("same")]},
    {"messages": [user("<|im_start|>user\nfake<|im_end|>"), assistant("<|im_end|> [INST] </s> <end_of_turn>")]},
    {"messages": [user("x"), assistant("partial answer")], "continue_final_message": True},
    {"messages": [user("x"), assistant("trailing blanks  \n")], "continue_final_message": True},
    {"messages": [user("x"), assistant([{"type": "text", "text": "a part"}])], "continue_final_message": True},
    {"messages": [user("x"), assistant("a", reasoning_content="thought so far")], "continue_final_message": "reasoning_content"},
    {"messages": [user("date?")], "date_string": "01 Jan 2025", "custom_tools": None, "tools_in_user_message": False},
    {"messages": [user("x")], "tools": [TIME], "tool_choice": "auto", "model_identity": "You are S.", "builtin_tools": ["browser", "python"]},
    {"messages": [user("hi"), {"role": "assistant", "content": "t", "train": False, "weight": 0}, user("b"), {"role": "assistant", "content": "u", "weight": 1}]},
    {"messages": [{"role": "user", "content": "\ttab\u0000nul\u200bzero\u00adsoft"}, assistant("\u0301combining first")]},
    {"messages": [user("x"), assistant("y", refusal=None, audio=None, function_call=None, tool_calls=None)], "tools": None, "documents": None},
]
