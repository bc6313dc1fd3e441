#!/usr/bin/env python3
"""Writes tests/fixtures/text/jinja_random.json: random templates of jinja_grammar.py with what jinja2 makes of them.

    tests/reference/make_jinja_random_fixture.py     # needs the Python package transformers
"""
import json
import pathlib
import random
import warnings

import check_jinja
import jinja_oracle
from jinja_grammar import Gen

SEED, BYTES = 78, 190_000


def main():
    warnings.simplefilter("ignore")
    jinja_oracle.set_up()
    cases, size, n = [], 0, 0
    while size < BYTES:
        rng = random.Random(SEED * 1_000_003 + n)
        n += 1
        gen = Gen(rng)
        template, context = gen.template(), gen.context()
        answer = (jinja_oracle.render_within_limits(template, [context]) or [{"text": " at 0x"}])[0]
        text = answer.get("text", "")
        if check_jinja.is_address(text) or check_jinja.has_surrogate(text) or "<class '" in text or check_jinja.is_flaw(answer) or len(text) > 2000 or len(template) > 1500:
            continue
        # One refusal in four is enough: most of them come early.
        if "error" in answer and n % 4:
            continue
        # What of the context the template names; the rest would only make the file larger.
        used = {key: value for key, value in context.items() if key in template or key == "messages"}
        if jinja_oracle.render(template, [used])[0] != answer:
            continue
        case = {"template": template, "context": used, **({"text": text} if "text" in answer else {"error": answer["error"][:80]})}
        line = json.dumps(case, ensure_ascii=True)
        cases.append(line)
        size += len(line) + 2
    path = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "text" / "jinja_random.json"
    path.write_text(f'{{"now": {jinja_oracle.NOW},\n"cases": [\n' + ",\n".join(cases) + "\n]}\n")
    print(f"{len(cases)} cases of {n} templates")


if __name__ == "__main__":
    main()
