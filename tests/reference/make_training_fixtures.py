"""Makes tests/fixtures/models/training/*: 50 optimiser steps, LoRA and full, with loss, grad norm and lr of each.

    python3 tests/reference/make_training_fixtures.py

Run make_model_fixtures.py first: the bases are its directories. Seeds: 6001 and on, in the order of CASES.
"""

import os
import shutil

import peft
import torch
from transformers import get_scheduler

import model_fixture_tools as tools

STEPS = 50
BETAS = (0.9, 0.999)
EPSILON = 1e-8
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": SEVEN}
# micro_batches: documents in each micro-batch of a step, for the steps in turn.
CASES = {
    "lora_llama": {"base": "llama_a", "lora": LORA, "schedule": "linear", "warmup_steps": 5, "learning_rate": 1e-2,
                   "weight_decay": 0.0, "micro_batches": [[3]]},
    "lora_qwen3": {"base": "qwen3_a", "lora": {**LORA, "r": 3, "lora_alpha": 3}, "schedule": "cosine",
                   "warmup_steps": 5, "learning_rate": 1e-2, "weight_decay": 0.01, "micro_batches": [[2]]},
    "lora_qwen2_packed": {"base": "qwen2_a", "lora": LORA, "schedule": "linear", "warmup_steps": 0,
                          "learning_rate": 1e-2, "weight_decay": 0.01, "micro_batches": [[5], [4]]},
    "lora_mistral_accumulation": {"base": "mistral_a", "lora": LORA, "schedule": "cosine", "warmup_steps": 3,
                                  "learning_rate": 1e-2, "weight_decay": 0.0,
                                  "micro_batches": [[1, 2, 1, 1], [2, 1, 1, 3]]},
    "full_llama": {"base": "llama_a", "schedule": "linear", "warmup_steps": 5, "learning_rate": 2e-3,
                   "weight_decay": 0.01, "micro_batches": [[3]]},
    "full_qwen2": {"base": "qwen2_a", "schedule": "cosine", "warmup_steps": 5, "learning_rate": 2e-3,
                   "weight_decay": 0.0, "micro_batches": [[2]]},
    "full_mistral": {"base": "mistral_a", "schedule": "constant_with_warmup", "warmup_steps": 4,
                     "learning_rate": 2e-3, "weight_decay": 0.01, "micro_batches": [[2]]},
    "full_qwen3_accumulation": {"base": "qwen3_a", "schedule": "linear", "warmup_steps": 0, "learning_rate": 2e-3,
                                "weight_decay": 0.01, "micro_batches": [[1, 1, 2, 1]]},
}


def counting_documents(generator):
    """Sequences that count up by 1 to 3 within 24 tokens: learned within a few dozen steps. Lengths 3 to 40."""
    documents = []
    for index, length in enumerate([11, 29, 3, 17, 40, 8, 23, 5, 34, 14, 20, 6]):
        start, offset = torch.randint(24, (2,), generator=generator).tolist()
        tokens = [8 + offset // 2 + (start + i * (1 + index % 3)) % 24 for i in range(length)]
        documents.append(tools.document(tokens, range(2) if index % 2 else ()))
    return documents


def plan_batches(case, documents, generator):
    """For each step, its micro-batches as lists of document numbers."""
    batches = []
    for step in range(STEPS):
        sizes = case["micro_batches"][step % len(case["micro_batches"])]
        order = torch.randperm(len(documents), generator=generator).tolist()
        batches.append([[order.pop() for _ in range(size)] for size in sizes])
    return batches


def build(case, seed):
    model = tools.load_model(case["base"])
    if "lora" not in case:
        return model
    model.name_or_path = model.config._name_or_path = case["base"]
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **case["lora"])
    return peft.get_peft_model(model, config).eval()


def trained_parameters(case, model):
    return tools.adapter_parameters(model) if "lora" in case else dict(model.named_parameters())


def decayed(name):
    """transformers' rule: no decay on norms and biases."""
    return "norm" not in name and not name.endswith("bias")


def train(case, model, documents, batches):
    """One record a step. The loss of a step is the sum of NLL over its labelled tokens, divided by their number."""
    parameters = trained_parameters(case, model)
    groups = [{"params": [p for name, p in parameters.items() if decayed(name)], "weight_decay": case["weight_decay"]},
              {"params": [p for name, p in parameters.items() if not decayed(name)], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=case["learning_rate"],
                                  betas=BETAS, eps=EPSILON)
    scheduler = get_scheduler(case["schedule"], optimizer, num_warmup_steps=case["warmup_steps"],
                              num_training_steps=STEPS)
    records = []
    for micro_batches in batches:
        items = [documents[number] for batch in micro_batches for number in batch]
        count = tools.labelled_tokens(items)
        loss = 0.0
        for item in items:
            part = tools.summed_loss(tools.document_logits(model, item), item) / count
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0).item()
        records.append({"micro_batches": micro_batches, "labelled_tokens": count, "loss": loss, "grad_norm": norm,
                        "lr": scheduler.get_last_lr()[0]})
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return records


def largest_error(records, reference, key):
    return max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(records, reference))


def make_case(name, case, seed):
    directory = os.path.join(tools.FIXTURES, "training", name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    generator = tools.seeded(seed)
    documents = counting_documents(generator)
    batches = plan_batches(case, documents, generator)

    model = build(case, seed)
    if "lora" in case:
        tools.save_adapter(model, os.path.join(directory, "initial_adapter"))
    initial = {key: p.detach().double().clone() for key, p in trained_parameters(case, model).items()}
    single = train(case, model, documents, batches)
    model = tools.exact_float64(build(case, seed))
    records = train(case, model, documents, batches)
    final = trained_parameters(case, model)
    changes = {key: {"norm": p.norm().item(), "change": (p - initial[key]).norm().item()} for key, p in final.items()}
    if "lora" in case:
        tools.write_tensors(os.path.join(directory, "final_adapter.safetensors"),
                            {key: p.float() for key, p in final.items()})

    loss_error = largest_error(single, records, "loss")
    norm_error = largest_error(single, records, "grad_norm")
    path = os.path.join(directory, "training.json")
    tools.write_json(path, {
        "script": "tests/reference/make_training_fixtures.py", "seed": seed, "base": case["base"],
        "method": "lora" if "lora" in case else "full", "computed_in": "float64",
        "versions": tools.versions(), "optimizer": {"name": "adamw", "betas": BETAS, "eps": EPSILON,
                                                    "weight_decay": case["weight_decay"]},
        "not_decayed": [key for key in final if not decayed(key)], "max_grad_norm": 1.0,
        "schedule": {"name": case["schedule"], "learning_rate": case["learning_rate"],
                     "warmup_steps": case["warmup_steps"], "total_steps": STEPS},
        "documents": documents, "steps": records, "final": changes,
        "torch_float32": {"largest_loss_error": loss_error, "largest_grad_norm_error": norm_error},
    })
    print(f"{name}: loss {records[0]['loss']:.4f} -> {records[-1]['loss']:.4f}, clipped "
          f"{sum(r['grad_norm'] > 1 for r in records)}/{STEPS}, float32 off by {loss_error:.1e} {norm_error:.1e}")


if __name__ == "__main__":
    for index, (case_name, settings) in enumerate(CASES.items()):
        make_case(case_name, settings, 6001 + index)
