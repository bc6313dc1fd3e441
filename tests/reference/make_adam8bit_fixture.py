"""tests/fixtures/optim/adam8bit.{json,safetensors}: weights after steps 1 and 10 of bitsandbytes' AdamW8bit.

    python tests/reference/make_adam8bit_fixture.py        # needs torch, bitsandbytes and safetensors

Weights and gradients are formulas of exact binary fractions (`formula` here, the same in tests/ops/adamw_8bit_test.cc), so
the file holds results alone. On the CPU bitsandbytes finds codes by a table of 65,536 equal steps of [-1, 1] (on a GPU, by
comparison): numbers below 1.5e-5 of their block's largest are all one code. Gradients of the kind `wide` meet that,
those of `even` do not.
"""
import importlib.metadata
import json
from pathlib import Path

import bitsandbytes
import bitsandbytes.functional
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "fixtures/optim"
STEPS = 10
SETTINGS = {"lr": 0.01, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1}
# Name, elements, type, kind of the gradients. The last is below the size from which moments have 8 bits.
CASES = [("even_f32", 4500, torch.float32, "even"), ("even_bf16", 4500, torch.bfloat16, "even"),
         ("wide_f32", 4500, torch.float32, "wide"), ("small_bf16", 300, torch.bfloat16, "even")]


def formula(count, a, b):
    """(i * a + b) % 2003 - 1001, over 1024."""
    return ((torch.arange(count, dtype=torch.int64) * a + b) % 2003 - 1001).to(torch.float32) / 1024


def gradient(count, kind, step):
    x = formula(count, 7919, 104729 * step)
    if kind == "even":  # magnitudes of 1/2 to 1
        return torch.where(x < 0, x / 2 - 0.5, x / 2 + 0.5)
    return x * x * x


def main():
    tensors, cases = {}, []
    for name, count, dtype, kind in CASES:
        p = torch.nn.Parameter(formula(count, 31, 7).to(dtype))
        optimizer = bitsandbytes.optim.AdamW8bit([p], lr=SETTINGS["lr"], betas=SETTINGS["betas"], eps=SETTINGS["eps"],
                                                 weight_decay=SETTINGS["weight_decay"])
        for step in range(1, STEPS + 1):
            # bitsandbytes wants gradients in the parameter's type; those of both kinds are rounded to it here.
            p.grad = gradient(count, kind, step).to(dtype)
            optimizer.step()
            if step in (1, STEPS):
                tensors[f"{name}.{step}"] = p.detach().float().clone()
        cases.append({"name": name, "count": count, "bf16": dtype == torch.bfloat16, "kind": kind,
                      "eight_bits": optimizer.state[p]["state1"].dtype == torch.uint8})
    tensors["signed_map"] = bitsandbytes.functional.create_dynamic_map(signed=True)
    tensors["unsigned_map"] = bitsandbytes.functional.create_dynamic_map(signed=False)
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "adam8bit.safetensors")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "bitsandbytes")}
    facts = {"versions": versions, "steps": STEPS, **SETTINGS, "cases": cases}
    (OUT / "adam8bit.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
