"""Makes tests/fixtures/models/vocabulary: what transformers makes of grown embeddings, and adapters that PEFT wrote
with modules_to_save on a base whose head is tied, with their logits.

    python3 tests/reference/make_vocabulary_fixtures.py

Seeds 1 and 2. The base is the committed fixture llama_tied.
"""

import json
import os
import shutil

import peft
import torch

import model_fixture_tools as tools

OUT = os.path.join(tools.FIXTURES, "vocabulary")
BASE = os.path.join(tools.FIXTURES, "llama_tied")
TOKENS = [1, 17, 40, 9, 25, 8, 31, 6]


def base():
    return tools.transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32,
                                                                   attn_implementation="sdpa").eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]


def grown():
    model = base()
    rows = model.config.vocab_size
    torch.manual_seed(1)
    model.resize_token_embeddings(rows + 7, mean_resizing=True)
    table = model.get_input_embeddings().weight.detach()
    return {"rows": rows, "new_rows": table[rows:].tolist()}


def saved_modules(name, modules, **more):
    """Each copy that PEFT makes is moved by itself, so a tied head comes apart."""
    torch.manual_seed(2)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM",
                             modules_to_save=modules, init_lora_weights=False, **more)
    adapted = peft.get_peft_model(base(), config).eval()
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if "modules_to_save" in parameter_name or "trainable_tokens" in parameter_name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    directory = os.path.join(OUT, name)
    adapted.save_pretrained(directory)
    os.remove(os.path.join(directory, "README.md"))
    path = os.path.join(directory, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        written = json.load(file)
    written["base_model_name_or_path"] = "llama_tied"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(written, file, indent=2, sort_keys=True)
    return logits(peft.PeftModel.from_pretrained(base(), directory).eval()).tolist()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    tools.write_json(os.path.join(OUT, "expected.json"), {
        "script": "tests/reference/make_vocabulary_fixtures.py", "versions": tools.versions(), "grown": grown(),
        "input_ids": TOKENS, "base_logits": logits(base()).tolist(),
        "adapters": {"both": saved_modules("both", ["embed_tokens", "lm_head"]),
                     "embeddings": saved_modules("embeddings", ["embed_tokens"]),
                     "norm": saved_modules("norm", ["norm"]),
                     "rows": saved_modules("rows", None, trainable_token_indices=[40, 9])},
    })


if __name__ == "__main__":
    main()
