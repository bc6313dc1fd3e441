"""A real pretrained model, stories260K: greedy text, logits and NLL against the given ones and transformers."""

import json

import torch

from tools import load_peer, peer_logits, relative_error


def _nll(logits, ids):
    rows = logits.double().log_softmax(-1)
    return torch.stack([-rows[i, token] for i, token in enumerate(ids[1:])])


def check(tools, report):
    directory = tools.data / "models" / "stories260K"
    if not directory.exists():
        report.skip("models/stories260K (absent)")
        return
    report.section("Pretrained weights: stories260K")
    model = directory / "hf"
    greedy = json.loads((directory / "reference_greedy.json").read_text())
    reference = json.loads((directory / "reference_nll.json").read_text())
    wanted_text = (directory / "expected_greedy_200.txt").read_text(encoding="utf-8")
    text = tools.serval("generate", "--model", model, "--raw", "--prompt", "", "--max-new-tokens", 200)
    report.count("", "greedy text, 200 tokens", "the given text", int(text.rstrip("\n") != wanted_text.rstrip("\n")), 1)

    peer, _ = load_peer(model)
    ids = greedy["greedy_ids"]
    for mode, what in (("forward", "training pass"), ("cached", "KV cache")):
        rows = tools.logits(model, [ids], mode=mode)
        wrong = int((rows[:-1].argmax(-1) != torch.tensor(ids[1:])).sum())
        report.count("", f"greedy ids, {what}", "the given ids", wrong, len(ids) - 1)
        exact = torch.tensor(greedy["logits"], dtype=torch.float64)
        report.error("", f"logits of 8 positions, {what}", "the given ones, f64", relative_error(rows[:8], exact), 1e-5)
        report.error("", f"logits of {len(ids)} positions, {what}", "transformers, f32",
                     relative_error(rows, peer_logits(peer, [ids])), 1e-5)
    theirs = peer_logits(peer, [ids])
    report.count("", "greedy ids of transformers", "the given ids",
                 int((theirs[:-1].argmax(-1) != torch.tensor(ids[1:])).sum()), len(ids) - 1)

    ids = reference["ids"]
    given = torch.tensor(reference["nll"], dtype=torch.float64)
    ours, theirs = _nll(tools.logits(model, [ids]), ids), _nll(peer_logits(peer, [ids]), ids)
    report.error("", f"NLL of each of {len(given)} tokens", "the given ones, f64", relative_error(ours, given), 1e-5)
    report.error("", f"NLL of each of {len(given)} tokens", "transformers, f32", relative_error(ours, theirs), 1e-5)
    mean = reference["mean_nll"]
    report.error("", "mean NLL", f"the given {mean:.5f}", abs(ours.mean().item() - mean) / mean, 1e-5)
    narrow = _nll(tools.logits(model, [ids], dtype="bfloat16"), ids)
    usual = _nll(peer_logits(load_peer(model, "bfloat16")[0], [ids]), ids)
    report.error("", "NLL of each token, in bf16", "the given ones, f64; the bound is twice transformers' in bf16",
                 relative_error(narrow, given), 2 * relative_error(usual, given))
