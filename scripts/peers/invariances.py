"""What must not change a run: how a step is cut, what is recomputed, how many threads there are."""

import json

from safetensors.torch import load_file

from exports import FAMILIES
from tools import TRAIN_TEXTS, relative_error, write_tokenizer

# Sums in another order; ten AdamW steps carry the last bits on.
LOSS, WEIGHTS = 1e-5, 1e-4


def _run(tools, family, dtype, name, *arguments):
    output, _ = tools.train(tools.base(family, dtype), f"{name}-{family}-{dtype}", "--merge", "false", *arguments)
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert losses[-1] < losses[0], f"{output}: the loss must fall"
    return losses, output / "adapter_model.safetensors"


def _tensors(path):
    return [value for _, value in sorted(load_file(path).items())]


def _close(report, case, what, peer, one, other):
    losses = max(abs(a - b) / b for a, b in zip(one[0], other[0], strict=True))
    report.error(case, f"{what}: loss of each of {len(one[0])} steps", peer, losses, LOSS)
    report.error(case, f"{what}: the adapter", peer, relative_error(_tensors(one[1]), _tensors(other[1])), WEIGHTS)


def _equal(report, case, what, peer, one, others):
    wrong = sum(other[1].read_bytes() != one[1].read_bytes() or other[0] != one[0] for other in others)
    report.count(case, what, peer, wrong, len(others))


def _check_wide(tools, report):
    """A model wide enough that two threads share its products; random weights."""
    directory = tools.work / "wide"
    directory.mkdir()
    config = json.loads((tools.fixtures / "llama_a" / "config.json").read_text())
    config |= {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "num_key_value_heads": 4,
               "vocab_size": 1024}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(directory)
    for dtype in ("float32", "bfloat16"):
        for peft in ("true", "false"):
            weights = []
            for threads in (1, 2):
                output, _ = tools.train(directory / "config.json", f"wide-{dtype}-{peft}-{threads}", "--dtype", dtype,
                                        "--use-peft", peft, "--merge", "false", "--max-steps", 4, "--num-threads",
                                        threads, source="--init")
                weights.append((output / f"{'adapter_' if peft == 'true' else ''}model.safetensors").read_bytes())
            what = f"hidden 512, {'bf16' if dtype == 'bfloat16' else 'f32'}, {'LoRA' if peft == 'true' else 'full'}"
            report.count("", f"{what}: 2 threads; bits", "1 thread", int(weights[0] != weights[1]), 1)


def check(tools, report):
    report.section("Invariances, ten LoRA steps each")
    every = len(TRAIN_TEXTS)
    for family in FAMILIES:
        big = _run(tools, family, "float32", "big", "--per-device-train-batch-size", 4)
        small = _run(tools, family, "float32", "small", "--per-device-train-batch-size", 1,
                     "--gradient-accumulation-steps", 4)
        _close(report, family, "f32, accumulation 4", "batch 4", small, big)
        # Every step sees all documents, in whatever rows they lie.
        packed = _run(tools, family, "float32", "packed", "--packing", "true", "--max-length", 96,
                      "--per-device-train-batch-size", every)
        single = _run(tools, family, "float32", "single", "--max-length", 96, "--per-device-train-batch-size", 1,
                      "--gradient-accumulation-steps", every)
        _close(report, family, "f32, packed", "one by one", packed, single)
        for dtype in ("float32", "bfloat16"):
            short = "bf16" if dtype == "bfloat16" else "f32"
            none, cheap, blocks = (_run(tools, family, dtype, policy, "--recompute", policy)
                                   for policy in ("none", "cheap", "blocks"))
            _equal(report, family, f"{short}, recompute cheap, blocks; bits", "recompute none", none, [cheap, blocks])
            again = _run(tools, family, dtype, "again", "--recompute", "cheap")
            _equal(report, family, f"{short}, a second run; bits", "the first", cheap, [again])
            two = _run(tools, family, dtype, "two", "--recompute", "cheap", "--num-threads", 2)
            _equal(report, family, f"{short}, 2 threads; bits", "1 thread", cheap, [two])
    _check_wide(tools, report)
