"""Makes tests/fixtures/formats: files of the safetensors wheel, a checkpoint that transformers cut into shards, and
which modules PEFT adapts, and how, for many adapter_config.json.

    python3 tests/reference/make_formats_fixtures.py
"""

import json
import os
import shutil
import tempfile
import warnings

import numpy
import peft
import safetensors.torch
import torch
import transformers

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "formats")
SEED = 20261121


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def counting(shape, dtype):
    """Element i is i - 3, or i where the type has no sign: the test knows the values without a file."""
    size = int(numpy.prod(shape))
    start = 0 if dtype in (torch.uint8, torch.bool) else -3
    return torch.arange(start, start + size).to(dtype).reshape(shape)


def make_wheel_files():
    tensors = {
        "model.layers.0.weight": counting((3, 5), torch.bfloat16),
        "model.layers.1.weight": counting((2, 2, 3), torch.bfloat16),
        "b": counting((7,), torch.float32),
        "a": counting((4, 2), torch.float32),
        "half": counting((3,), torch.float16),
        "double": counting((2,), torch.float64),
        "long": counting((3,), torch.int64),
        "int": counting((5,), torch.int32),
        "byte": counting((3,), torch.uint8),
        "scalar": counting((), torch.float32),
        "empty": counting((0, 4), torch.float32),
        "größe \"q\"\t1": counting((1,), torch.float32),
    }
    safetensors.torch.save_file(tensors, os.path.join(FIXTURES, "numbers.safetensors"), {"format": "pt"})
    others = {
        "bool": counting((3,), torch.bool),
        "e4m3": counting((2, 3), torch.float8_e4m3fn),
        "e5m2": counting((4,), torch.float8_e5m2),
        "int8": counting((3,), torch.int8),
        "int16": counting((3,), torch.int16),
        "uint16": torch.tensor([1, 2, 3], dtype=torch.uint16),
        "uint32": torch.tensor([1, 2, 3], dtype=torch.uint32),
        "uint64": torch.tensor([1, 2, 3], dtype=torch.uint64),
        "complex": torch.tensor([1 + 2j], dtype=torch.complex64),
        "weight": counting((2, 2), torch.float32),
    }
    safetensors.torch.save_file(others, os.path.join(FIXTURES, "other_types.safetensors"), {"format": "pt"})


def tiny_llama():
    torch.manual_seed(SEED)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False)
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


# Embeddings and head have 2048 bytes: with 1500 they are shards alone, with 4000 they fill up others.
LIMITS = [1500, 4000]


def make_checkpoints():
    model = tiny_llama()
    for limit in LIMITS:
        directory = os.path.join(FIXTURES, f"sharded_{limit}")
        model.save_pretrained(directory, max_shard_size=limit)
        for name in ("config.json", "generation_config.json"):
            os.remove(os.path.join(directory, name))
    directory = os.path.join(FIXTURES, "whole")
    model.save_pretrained(directory)
    for name in ("config.json", "generation_config.json"):
        os.remove(os.path.join(directory, name))
    write_json(os.path.join(FIXTURES, "order.json"), list(model.state_dict()))


class Experts(torch.nn.Module):
    """Names with two numbers, and names whose first part comes before a number."""

    def __init__(self):
        super().__init__()
        def layer():
            return torch.nn.ModuleDict({
                "up_proj": torch.nn.Linear(4, 4),
                "experts": torch.nn.ModuleList(
                    torch.nn.ModuleDict({"up_proj": torch.nn.Linear(4, 4)}) for _ in range(3))})
        self.layers = torch.nn.ModuleList(layer() for _ in range(3))
        self.model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList(layer() for _ in range(3)),
                                          "up_proj": torch.nn.Linear(4, 4), "my_up_proj": torch.nn.Linear(4, 4)})


SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6}
LLAMA_CASES = [
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": "all-linear"},
    {"target_modules": "All-Linear"},
    {"target_modules": "all-linear", "exclude_modules": ["down_proj", "self_attn.k_proj"]},
    {"target_modules": "all-linear", "exclude_modules": r".*\.1\..*"},
    {"target_modules": ["proj"]},
    {"target_modules": ["mlp.up_proj", "layers.2.self_attn.q_proj"]},
    {"target_modules": ["lm_head", "q_proj"]},
    {"target_modules": r".*self_attn\.(q|k)_proj"},
    {"target_modules": r"self_attn\.q_proj"},
    {"target_modules": r"model\.layers\.[02]\.mlp\..*proj"},
    {"target_modules": r"(?:.*?(?:model|layers).*?(?:mlp|self_attn).*?(?:q_proj|down_proj).*?)"},
    {"target_modules": SEVEN, "layers_to_transform": [0, 2]},
    {"target_modules": SEVEN, "layers_to_transform": 1},
    {"target_modules": SEVEN, "layers_to_transform": []},
    {"target_modules": SEVEN, "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": SEVEN, "layers_to_transform": [1], "layers_pattern": ["blocks", "layers"]},
    {"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"], "layers_to_transform": [1]},
    {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    {"target_modules": SEVEN, "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 7},
     "alpha_pattern": {"q_proj": 5, r"layers\.0\.self_attn\.v_proj": 3}},
    {"target_modules": SEVEN, "rank_pattern": {"v_proj": 3, "self_attn.v_proj": 9, "proj": 8}},
    {"target_modules": SEVEN, "rank_pattern": {".*proj": 8, "v_proj": 3}},
    {"target_modules": SEVEN, "rank_pattern": {r"^model\.layers\.0\..*": 2, "q|k_proj": 5}, "use_rslora": True},
    {"target_modules": SEVEN, "lora_alpha": 2.5, "alpha_pattern": {"o_proj": 0.5, "(q|k)_proj": 1}},
    {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj$": 3, "roj": 5}},
]
EXPERT_CASES = [
    {"target_modules": ["up_proj"]},
    {"target_modules": ["up_proj"], "layers_to_transform": [1]},
    {"target_modules": ["up_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": ["up_proj"], "layers_to_transform": [0, 2], "layers_pattern": ["experts"]},
    {"target_modules": ["up_proj"], "layers_to_transform": [2], "layers_pattern": ["blocks", "layers"]},
    {"target_modules": ["up_proj"], "layers_to_transform": [2], "layers_pattern": ["b(l)ocks"]},
    {"target_modules": ["experts.0.up_proj"], "rank_pattern": {"1.experts.0.up_proj": 3}},
    {"target_modules": ["model.up_proj", "blocks.0.up_proj"], "layers_to_transform": [0]},
]
REFUSED = [  # by PEFT and by Serval
    {"target_modules": "q_proj", "layers_to_transform": [0]},
    {"target_modules": "q_proj", "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "r": 0},
    {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": -1}},
    {"target_modules": "(q_proj"},
]


def adapted(model, settings):
    """The modules that PEFT adapts, with r, alpha and scale, as it does on loading this adapter_config.json."""
    with tempfile.TemporaryDirectory() as directory:
        write_json(os.path.join(directory, "adapter_config.json"), settings)
        config = peft.PeftConfig.from_pretrained(directory)
    try:
        lora = peft.LoraModel(model, {"default": config}, "default")
    except peft.utils.error.NoMatchingPeftModuleError:
        return {}
    return {name.removeprefix("model."): [module.r["default"], module.lora_alpha["default"], module.scaling["default"]]
            for name, module in lora.named_modules() if isinstance(module, peft.tuners.lora.LoraLayer)}


def linear_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def make_adapter_cases():
    cases = []
    for kind, build, variants in (("llama", tiny_llama, LLAMA_CASES), ("experts", Experts, EXPERT_CASES)):
        for variant in variants:
            model = build()
            names = linear_names(model)
            config = {**BASE, **variant}
            cases.append({"model": kind, "linears": names, "config": config, "adapted": adapted(model, config)})
    refused = []
    for variant in REFUSED:
        config = {**BASE, **variant}
        try:
            adapted(tiny_llama(), config)
        except Exception:  # each kind of mistake has another type
            refused.append(config)
        else:
            raise SystemExit(f"PEFT accepts {config}")
    write_json(os.path.join(FIXTURES, "adapter_cases.json"), {"cases": cases, "refused": refused})


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(FIXTURES, ignore_errors=True)
    os.makedirs(FIXTURES)
    make_wheel_files()
    make_checkpoints()
    make_adapter_cases()


main()
