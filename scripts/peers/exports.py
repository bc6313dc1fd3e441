"""Adapters and checkpoints that Serval wrote, read by PEFT and transformers."""

import copy
import re

import peft
import torch
import transformers
from safetensors.torch import load_file

from tools import EVAL_TEXTS, load_peer, peer_logits, random_documents, relative_error

FAMILIES = ["llama_a", "mistral_a", "qwen2_a", "qwen3_a"]
FLOAT32 = 1e-5  # both sides round every product to f32


def _bf16_bound(directory, adapter, documents):
    """Twice the distance of the peers' own bf16 logits from their f32 ones: the two round in other places."""
    wide, narrow = load_peer(directory)[0], load_peer(directory, "bfloat16")[0]
    if adapter:
        wide = peft.PeftModel.from_pretrained(wide, adapter).eval()
        narrow = peft.PeftModel.from_pretrained(narrow, adapter).eval()
    return 2 * relative_error(peer_logits(narrow, documents), peer_logits(wide, documents))


def _compare(tools, report, case, what, peer, model, adapter, theirs, documents, dtype):
    ours = tools.logits(model, documents, adapter)
    report.error(case, f"{what}, computed in f32", peer, relative_error(ours, theirs), FLOAT32)
    if dtype == "bfloat16":
        ours = tools.logits(model, documents, adapter, "bfloat16")
        report.error(case, f"{what}, computed in bf16", peer, relative_error(ours, theirs),
                     _bf16_bound(model, adapter, documents))


def _peer_nll(directory):
    """With the tokenizer that lies in the directory; like TRL, an end token after each text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = load_peer(directory)[0]
    total = count = 0
    for text in EVAL_TEXTS:
        ids = tokenizer(text)["input_ids"]
        ids = ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]
        rows = peer_logits(model, [ids]).double().log_softmax(-1)
        total -= sum(rows[i, token].item() for i, token in enumerate(ids[1:]))
        count += len(ids) - 1
    return total / count


def _check_nll(tools, report, case, what, directory):
    ours, theirs = tools.eval_nll(directory, "--dtype", "float32"), _peer_nll(directory)
    report.error(case, f"{what}: `serval eval`", "transformers with its tokenizer",
                 abs(ours - theirs) / theirs, FLOAT32)


def _check_lora(tools, report, family, dtype):
    base = tools.base(family, dtype)
    output, log = tools.train(base, f"lora-{family}-{dtype}", "--lora-r", 8, "--lora-alpha", 32)
    merged = output / "merged"
    plain = load_peer(base)[0]
    documents = random_documents(plain.config.vocab_size)
    before = peer_logits(plain, documents)
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(plain), output).eval()
    with_adapter = peer_logits(adapted, documents)
    change = relative_error(with_adapter, before)
    assert change > 0.01, f"{family}: the adapter must matter, it changes the logits by {change}"
    _compare(tools, report, family, "LoRA, adapter", "PEFT", base, output, with_adapter, documents, dtype)

    theirs, wrong = load_peer(merged)
    report.count(family, "LoRA, merged checkpoint: names", "transformers", len(wrong), len(theirs.state_dict()))
    with_merged = peer_logits(theirs, documents)
    _compare(tools, report, family, "LoRA, merged checkpoint", "transformers", merged, None, with_merged, documents,
             dtype)
    _check_nll(tools, report, family, "LoRA, merged checkpoint", merged)

    # The sum W + s B A in float64, rounded once: what the merged weights should be.
    written = load_file(merged / "model.safetensors")
    source, delta = load_file(base / "model.safetensors"), load_file(output / "adapter_model.safetensors")
    ours, exact = [], []
    for name, weight in source.items():
        module = "base_model.model." + name.removesuffix(".weight")
        if f"{module}.lora_A.weight" in delta:
            product = delta[f"{module}.lora_B.weight"].double() @ delta[f"{module}.lora_A.weight"].double()
            ours.append(written[name])
            exact.append((weight.double() + 4 * product).to(weight.dtype))
    report.error(family, "LoRA, merged weights", "W + sBA in f64, rounded once", relative_error(ours, exact),
                 1e-7 if dtype == "float32" else 1e-5)
    if dtype == "float32":
        report.error(family, "LoRA, merged checkpoint", "our adapter on the base (logits)",
                     relative_error(with_merged, with_adapter), FLOAT32)
        return
    # In bf16 merging rounds. PEFT's own merge is the measure of how much is usual.
    narrow = peft.PeftModel.from_pretrained(load_peer(base, "bfloat16")[0], output).merge_and_unload()
    usual = relative_error(peer_logits(narrow.float(), documents), with_adapter)
    report.error(family, "LoRA, merged checkpoint",
                 "our adapter on the base (logits); the bound is 1.2 times PEFT's own merge",
                 relative_error(with_merged, with_adapter), 1.2 * usual)
    lost = float(re.search(r"at most ([0-9.]+) % of an adapter", log).group(1))
    report.notes.append(f"{family}: merging into bf16 lost at most {lost} % of a module's adapter, "
                        f"as `serval train` reported")


def _check_full(tools, report, family, dtype):
    base = tools.base(family, dtype)
    output, _ = tools.train(base, f"full-{family}-{dtype}", "--use-peft", "false", "--learning-rate", 1e-3)
    theirs, wrong = load_peer(output)
    documents = random_documents(theirs.config.vocab_size)
    after = peer_logits(theirs, documents)
    change = relative_error(after, peer_logits(load_peer(base)[0], documents))
    assert change > 0.01, f"{family}: training must matter, it changes the logits by {change}"
    report.count(family, "full, checkpoint: names", "transformers", len(wrong), len(theirs.state_dict()))
    _compare(tools, report, family, "full, checkpoint", "transformers", output, None, after, documents, dtype)
    _check_nll(tools, report, family, "full, checkpoint", output)


def check(tools, report):
    torch.manual_seed(0)
    for dtype in ("float32", "bfloat16"):
        name = "bf16" if dtype == "bfloat16" else "f32"
        report.section(f"Trained with Serval, read by the peers: {name} checkpoints")
        for family in FAMILIES:
            _check_lora(tools, report, family, dtype)
            _check_full(tools, report, family, dtype)
