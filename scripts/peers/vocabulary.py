"""New tokens: rows that grow, modules_to_save, and adapters that bring their embeddings, against transformers and PEFT."""

import copy
import json

import peft
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from exports import FLOAT32
from tools import load_peer, peer_logits, random_documents, relative_error

FAMILIES = ["llama_a", "llama_tied", "qwen2_a"]
NEW = ["<new_word>", "<|turn|>"]
WORDS = ["--new-tokens", NEW[0], "--new-special-tokens", NEW[1], "--lora-r", 4]
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def _train_data(tools):
    path = tools.work / "new_words.jsonl"
    lines = [f"the {NEW[0]} sat on the {NEW[1]} and saw {word} {NEW[0]}." for word in ("a", "the", "one", "no") * 2]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    return path


def _grown(base, rows):
    """The base as PEFT wants it before it loads an adapter with more rows."""
    model = load_peer(base)[0]
    model.resize_token_embeddings(rows)
    return model.eval()


def _check_ours(tools, report, family):
    base = tools.base(family, "float32")
    data = _train_data(tools)
    start = load_file(base / "model.safetensors")
    plain = load_peer(base)[0]
    tokens = Tokenizer.from_file(str(base / "tokenizer.json")).get_vocab_size()
    rows = plain.config.vocab_size
    assert rows >= tokens + 2, "the fixture has unused rows"

    # No step moves anything: the rows are what they begin as.
    words = [*WORDS, "--dataset", data]
    still, _ = tools.train(base, f"vocabulary-{family}-still", *words, "--learning-rate", 0, "--max-steps", 1,
                           "--resize-vocab-to-multiple-of", 64)
    begun = load_file(still / "merged" / "model.safetensors")[EMBEDDINGS]
    mean = start[EMBEDDINGS][:tokens].double().mean(0)
    report.error(family, "new tokens in unused rows", "the mean of the known rows in f64",
                 relative_error(begun[tokens:tokens + 2], mean.expand(2, -1)), 1e-6)
    report.count(family, "rows rounded up to 64", "config.json",
                 int(begun.shape[0] % 64 != 0 or begun.shape[0] < rows), 1)
    resized = copy.deepcopy(plain)
    resized.resize_token_embeddings(rows + 64, mean_resizing=True)
    known = start[EMBEDDINGS].double().mean(0)
    theirs = resized.get_input_embeddings().weight[rows:].double().mean(0)
    report.error(family, "the mean of all rows", "resize_token_embeddings(mean_resizing=True)",
                 relative_error(theirs.detach(), known), 1e-3)

    for name, more in (("trained", ["--lora-modules-to-save", "embed_tokens,lm_head", "--embedding-learning-rate", 1e-3]),
                       ("frozen", [])):
        output, _ = tools.train(base, f"vocabulary-{family}-{name}", *words, *more)
        saved = load_file(output / "adapter_model.safetensors")
        moved = saved[f"base_model.model.{EMBEDDINGS}"][: tokens].float()
        change = relative_error(moved, start[EMBEDDINGS][: tokens].float())
        assert (change > 1e-3) == (name == "trained"), f"{family}, {name}: embeddings change by {change}"
        documents = random_documents(rows)
        _check_adapter(tools, report, family, f"new tokens, {name} rows", base, output, rows, tokens, documents)

    output, _ = tools.train(base, f"vocabulary-{family}-full", *words[:4], "--dataset", data, "--use-peft", "false")
    theirs, wrong = load_peer(output)
    report.count(family, "new tokens, full: names", "transformers", len(wrong), len(theirs.state_dict()))
    documents = random_documents(rows)
    report.error(family, "new tokens, full: checkpoint", "transformers",
                 relative_error(tools.logits(output, documents), peer_logits(theirs, documents)), FLOAT32)


def _check_adapter(tools, report, family, what, base, output, rows, tokens, documents):
    adapted = peft.PeftModel.from_pretrained(_grown(base, rows), output).eval()
    theirs = peer_logits(adapted, documents)
    report.error(family, f"{what}: adapter", "PEFT", relative_error(tools.logits(base, documents, output), theirs),
                 FLOAT32)
    merged, wrong = load_peer(output / "merged")
    report.count(family, f"{what}: merged checkpoint, names", "transformers", len(wrong), len(merged.state_dict()))
    report.error(family, f"{what}: merged checkpoint", "our adapter in PEFT",
                 relative_error(peer_logits(merged, documents), theirs), FLOAT32)
    report.error(family, f"{what}: merged checkpoint here", "our adapter in PEFT",
                 relative_error(tools.logits(output / "merged", documents), theirs), FLOAT32)
    ids = {NEW[1]: tokens, NEW[0]: tokens + 1}
    wrong = 0
    for path in (output, output / "merged"):
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        for token, number in ids.items():
            wrong += tokenizer.encode(f"the {token}cat").ids.count(number) != 1
    report.count(family, f"{what}: new tokens beside adapter and merged", "tokenizers", wrong, 4)


def _check_grown(tools, report, family):
    """More rows than the base has, in the adapter and in what PEFT makes of it."""
    base, data = tools.base(family, "float32"), _train_data(tools)
    for name, more in (("trained", ["--lora-modules-to-save", "embed_tokens,lm_head"]), ("frozen", [])):
        output, _ = tools.train(base, f"vocabulary-{family}-grown-{name}", *WORDS, "--dataset", data,
                                "--resize-vocab-to-multiple-of", 64, *more)
        rows = load_file(output / "adapter_model.safetensors")[f"base_model.model.{EMBEDDINGS}"].shape[0]
        documents = random_documents(rows)
        adapted = peft.PeftModel.from_pretrained(_grown(base, rows), output).eval()
        theirs = peer_logits(adapted, documents)
        report.error(family, f"grown to a multiple of 64, {name}: adapter", "PEFT",
                     relative_error(tools.logits(base, documents, output), theirs), FLOAT32)
        merged, wrong = load_peer(output / "merged")
        report.count(family, f"grown, {name}: merged checkpoint, names", "transformers", len(wrong),
                     len(merged.state_dict()))
        report.error(family, f"grown, {name}: merged checkpoint", "our adapter in PEFT",
                     relative_error(peer_logits(merged, documents), theirs), FLOAT32)


def _check_theirs(tools, report, family):
    """Adapters that PEFT wrote: the copies that it makes of tied matrices differ."""
    base = tools.base(family, "float32")
    for modules in (["embed_tokens", "lm_head"], ["embed_tokens"], ["lm_head"], ["norm"]):
        model = load_peer(base)[0]
        torch.manual_seed(1)
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
                                 modules_to_save=modules, init_lora_weights=False)
        adapted = peft.get_peft_model(model, config).eval()
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "modules_to_save" in name:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        output = tools.work / f"theirs-{family}-{'-'.join(modules)}"
        adapted.save_pretrained(output)
        documents = random_documents(model.config.vocab_size)
        loaded = peft.PeftModel.from_pretrained(load_peer(base)[0], output).eval()
        theirs = peer_logits(loaded, documents)
        report.error(family, f"PEFT's adapter with modules_to_save {', '.join(modules)}", "PEFT",
                     relative_error(tools.logits(base, documents, output), theirs), FLOAT32)


def check(tools, report):
    report.section("New tokens and modules that train whole")
    for family in FAMILIES:
        _check_ours(tools, report, family)
        _check_grown(tools, report, family)
        _check_theirs(tools, report, family)
