#!/usr/bin/env python3
"""Renders the built-in Ollama (Go) templates with Go's text/template, as Ollama calls it, and compares with the Jinja
template of the same name. Writes tests/fixtures/text/ollama.json: what Go made of each conversation.

    tests/reference/check_ollama.py build/release/serval      # needs go, a tool for this script alone

What Ollama does: system messages are joined into .System, neighbours of one role become one message, and the runner
puts the BOS token before the text by itself. The functions a template may call are json and currentDate.
"""
import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = 1_750_000_000
GO = r"""
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
	"time"
)

type message struct {
	Role, Content, Thinking string
	ToolCalls               []any
}

type request struct {
	Template         string
	System, Prompt   string
	Response         string
	Messages         []*message
	Date             string
}

func render(r request) (text string, problem string) {
	functions := template.FuncMap{
		"json":        func(v any) string { b, _ := json.Marshal(v); return string(b) },
		"currentDate": func(args ...string) string { return r.Date },
		"yesterdayDate": func(args ...string) string { t, _ := time.Parse("2006-01-02", r.Date); return t.AddDate(0, 0, -1).Format("2006-01-02") },
	}
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(r.Template)
	if err != nil {
		return "", err.Error()
	}
	data := map[string]any{"System": r.System, "Prompt": r.Prompt, "Response": r.Response}
	if r.Messages != nil {
		data["Messages"] = r.Messages
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		return "", err.Error()
	}
	return out.String(), ""
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	answers := []map[string]string{}
	for _, r := range requests {
		text, problem := render(r)
		if problem != "" {
			answers = append(answers, map[string]string{"error": problem})
		} else {
			answers = append(answers, map[string]string{"text": text})
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""


def turns(*texts, system=None):
    roles = ["user", "assistant"]
    return ([{"role": "system", "content": system}] if system is not None else []) + [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


CONVERSATIONS = [turns("Hi"), turns("Hi", system="Be terse."), turns("a", "b", "c"), turns("a\nb", "Grüße {{ x }}", "<c> & \"d\"", system="S 1\n\nS 2"),
                 turns("q1", "a1", "q2", "a2", "q3"), turns("1", "2", "3", "4", "5", system="Sys.")]


# Ollama gives a template no date that is written as Llama 3.2 wants it, so the file holds the one of Llama 3.1.
FIXED = {"date_string": "26 Jul 2024"}


def library():
    """Names, files and special tokens as src/text/template_library.cc lists them."""
    source = (ROOT / "src" / "text" / "template_library.cc").read_text()
    table = source[source.index("entries = {"):source.index("return entries;")]
    table = "\n".join(line for line in table.split("\n") if not line.strip().startswith("//"))
    for entry in re.findall(r'\{"([^"]+)",\s*\{[^}]*\},\s*"([^"]+)",\s*"([^"]*)",\s*"([^"]*)",\s*"([^"]*)"', table):
        yield entry


def jinja(serval, name, rows):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps({"messages": row, **FIXED}) + "\n" for row in rows))
        file.flush()
        run = subprocess.run([serval, "render", "--template", name, "--conversations", file.name, "--now", str(NOW), "--add-generation-prompt"], capture_output=True, text=True, env={"TZ": "UTC"})
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def go(requests):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "main.go"
        path.write_text(GO)
        run = subprocess.run(["go", "run", path], input=json.dumps(requests), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def main():
    serval = sys.argv[1]
    date = datetime.datetime.utcfromtimestamp(NOW).strftime("%Y-%m-%d")
    cases, requests, sources = [], [], {}
    for name, file, end_of_turn, bos, eos in library():
        source = (ROOT / "src" / "text" / "templates" / f"{file}.gotmpl").read_text()
        sources[file] = source
        for row, expected in zip(CONVERSATIONS, jinja(serval, name, CONVERSATIONS)):
            text = expected if isinstance(expected, str) else None
            if text is not None and bos and text.startswith(bos):
                text = text[len(bos):]
            system = "\n\n".join(m["content"] for m in row if m["role"] == "system")
            cases.append((name, row, text, expected))
            requests.append({"Template": source, "System": system, "Messages": row, "Date": date})
            if len(row) <= 2 and row[-1]["role"] == "user":
                cases.append((name, "prompt", text, expected))
                requests.append({"Template": source, "System": system, "Prompt": row[-1]["content"], "Date": date})
    answers = go(requests)
    equal, refused, differing, kept = 0, 0, [], []
    for (name, row, text, expected), request, answer in zip(cases, requests, answers):
        got = answer.get("text")
        if row == "prompt" and got is not None and text is not None:
            # What follows .Response is not written before the answer is there.
            got = got[:len(text)] if got.startswith(text) else got
        kept.append({"name": name, **({"messages": row} if row != "prompt" else {"system": request["System"], "prompt": request["Prompt"]}), "text": got})
        if text is None:
            refused += 1  # the Jinja template refuses a system message; Ollama's has to say something
        elif got == text:
            equal += 1
        else:
            differing.append((name, row, text, answer))
    print(f"{len(cases)} renderings: {equal} equal, {refused} refused by the Jinja template, {len(differing)} differ")
    for name, row, text, answer in differing[:int(sys.argv[2]) if len(sys.argv) > 2 else 10]:
        print("---", name, row if row == "prompt" else [(m["role"], m["content"]) for m in row], "\n  jinja", repr(text), "\n  go   ", repr(answer))
    path = ROOT / "tests" / "fixtures" / "text" / "ollama.json"
    path.write_text('{"now": %d, "date": "%s", "cases": [\n' % (NOW, date) + ",\n".join(json.dumps(case, ensure_ascii=False) for case in kept) + '\n],\n"templates": ' + json.dumps(sources, ensure_ascii=False, indent=0) + "}\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
