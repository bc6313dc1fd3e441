#!/usr/bin/env python3
"""Writes tests/fixtures/text/jinja_random.json: random templates of check_jinja.py's grammar with what jinja2 makes of them.

    tests/reference/make_jinja_random_fixture.py     # needs the Python package transformers
"""
import json
import os
import pathlib
import random
import time
import warnings

import check_jinja

SEED, BYTES = 77, 150_000


def main():
    warnings.simplefilter("ignore")
    check_jinja.chat_template_utils.datetime = check_jinja.FixedDate
    os.environ["TZ"] = "UTC"
    time.tzset()
    cases, size, n = [], 0, 0
    while size < BYTES:
        rng = random.Random(SEED * 1_000_003 + n)
        n += 1
        gen = check_jinja.Gen(rng)
        template, context = gen.template(), gen.context()
        answer = check_jinja.oracle(template, [context])[0]
        text = answer.get("text", "")
        if " at 0x" in text.lower() or "<class '" in text or "<built-in" in text or "AssertionError" in answer.get("error", "") or len(text) > 2000:
            continue
        # What of the context the template names; the rest would only make the file larger.
        used = {key: value for key, value in context.items() if key in template or key == "messages"}
        if check_jinja.oracle(template, [used])[0] != answer:
            continue
        case = {"template": template, "context": used, **({"text": text} if "text" in answer else {"error": answer["error"][:80]})}
        line = json.dumps(case, ensure_ascii=True)
        cases.append(line)
        size += len(line) + 2
    path = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "text" / "jinja_random.json"
    path.write_text(f'{{"now": {check_jinja.NOW},\n"cases": [\n' + ",\n".join(cases) + "\n]}\n")
    print(f"{len(cases)} cases of {n} templates")


if __name__ == "__main__":
    main()
