"""Checkpoints and adapters that transformers and PEFT made, read by Serval."""

import importlib.util
import json
import shutil
import sys
import xml.etree.ElementTree

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from tools import load_peer, peer_logits, relative_error


def _documents(expected):
    bounds = expected["cu_seqlens"]
    return [expected["input_ids"][a:b] for a, b in zip(bounds, bounds[1:])]


def check(tools, report):
    report.section("Checkpoints of random weights (tests/fixtures/models), logits in float64 by transformers")
    for directory in sorted(path for path in tools.fixtures.iterdir() if (path / "model.safetensors").exists()):
        expected = json.loads((directory / "expected.json").read_text())
        wanted = load_file(directory / "expected.safetensors")["logits"]
        documents = _documents(expected)
        for dtype, bound in (("float32", 1e-5),
                             ("bfloat16", 2 * expected["transformers_bf16"]["logits_relative_error"])):
            errors = [relative_error(tools.logits(directory, documents, None, dtype, mode), wanted)
                      for mode in ("forward", "cached")]
            short = "bf16" if dtype == "bfloat16" else "f32"
            report.error(directory.name, f"training pass in {short}", "transformers, f64", errors[0], bound)
            report.error(directory.name, f"KV cache in {short}", "transformers, f64", errors[1], bound)
    report.section("Adapters that PEFT wrote (tests/fixtures/models/lora), logits in float64 by PEFT")
    for directory in sorted((tools.fixtures / "lora").iterdir()):
        expected = json.loads((directory / "expected.json").read_text())
        wanted = load_file(directory / "expected.safetensors")["logits"]
        ours = tools.logits(tools.fixtures / expected["base"], _documents(expected), directory)
        report.error(directory.name, "training pass in f32", "PEFT, f64", relative_error(ours, wanted), 1e-5)


def _formula(tools):
    """fill() of the script that made the fixture."""
    sys.path.insert(0, str(tools.reference_scripts))
    path = tools.reference_scripts / "make_qwen_adapter_fixture.py"
    specification = importlib.util.spec_from_file_location("make_qwen_adapter_fixture", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.fill


def check_qwen_adapter(tools, report):
    """A published adapter on a base of its shape, whose weights a formula makes: logits of the last token."""
    directory = tools.fixtures / "qwen_adapter"
    expected = json.loads((directory / "expected.json").read_text())
    adapter = tools.data / expected["adapter"]
    if not adapter.exists():
        report.skip(f"{expected['adapter']} (absent)")
        return
    report.section("A published adapter of Qwen2.5-0.5B-Instruct (r 8, q and v) on weights made by a formula")
    base = tools.work / "qwen-base"
    base.mkdir()
    shutil.copy(directory / "config.json", base)
    model = load_empty(base)
    fill = _formula(tools)
    save_file({name: torch.from_numpy(fill(name, p.numel())).view(p.shape).bfloat16()
               for name, p in model.named_parameters()}, base / "model.safetensors", metadata={"format": "pt"})
    del model
    ids = [expected["input_ids"]]
    ours = [tools.logits(base, ids)[-1], tools.logits(base, ids, adapter)[-1]]
    exact = [torch.tensor(expected[key], dtype=torch.float64) for key in ("base_logits", "adapter_logits")]
    plain = load_peer(base)[0]
    theirs = [peer_logits(plain, ids)[-1]]
    adapted = peft.PeftModel.from_pretrained(plain, adapter).eval()
    theirs.append(peer_logits(adapted, ids)[-1])
    for name, i in (("base", 0), ("with the adapter", 1)):
        report.error("", f"{name}, f32", "transformers and PEFT, f64", relative_error(ours[i], exact[i]), 1e-5)
        report.error("", f"{name}, f32", "transformers and PEFT, f32", relative_error(ours[i], theirs[i]), 1e-5)
    change = (ours[1].double() - ours[0].double())
    report.error("", "what the adapter changes, f32", "PEFT, f64", relative_error(change, exact[1] - exact[0]), 1e-3)
    shutil.rmtree(base)
    results = tools.work / "qwen.xml"
    tools.run(tools.build / "tests" / "train" / "qwen_adapter_tests", f"--gtest_output=xml:{results}")
    properties = {item.get("name"): float(item.get("value"))
                  for item in xml.etree.ElementTree.parse(results).iter("property")}
    report.error("", "with the adapter, weights made in memory (C++ test)", "PEFT, f64",
                 properties["adapted_error"], 1e-5)


def load_empty(directory):
    config = transformers.AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config)
