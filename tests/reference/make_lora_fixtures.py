"""Makes tests/fixtures/models/lora/<base>_<variant>: PEFT adapters with logits and the gradients of every A and B.

    python3 tests/reference/make_lora_fixtures.py

Run make_model_fixtures.py first: the bases are its directories. Seeds: 5001 and on, in the order of CASES.
"""

import os
import shutil

import peft
import torch

import model_fixture_tools as tools

QV = ["q_proj", "v_proj"]
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS = {
    "all_linear": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "qv": {"r": 4, "lora_alpha": 8, "target_modules": QV},
    "rslora": {"r": 6, "lora_alpha": 4, "target_modules": SEVEN, "use_rslora": True},
    "patterns": {"r": 4, "lora_alpha": 6, "target_modules": SEVEN,
                 "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 7},
                 "alpha_pattern": {"q_proj": 5, r"layers\.0\.self_attn\.v_proj": 3}},
    "layers": {"r": 3, "lora_alpha": 6, "target_modules": ["k_proj", "o_proj", "up_proj"],
               "layers_to_transform": [1]},
    "regex": {"r": 5, "lora_alpha": 5,
              "target_modules": r"model\.layers\.(0\.self_attn\.(q|o)_proj|1\.mlp\.(gate|down)_proj)"},
}
CASES = [
    ("llama_a", "all_linear"), ("llama_a", "qv"), ("llama_a", "rslora"), ("llama_a", "patterns"),
    ("llama_a", "layers"), ("llama_a", "regex"),
    ("qwen2_a", "all_linear"), ("qwen2_a", "qv"), ("qwen2_a", "patterns"),
    ("qwen3_a", "all_linear"), ("qwen3_a", "rslora"), ("qwen3_a", "regex"),
    ("mistral_a", "all_linear"), ("mistral_a", "layers"),
]


def make_case(base, variant, seed):
    name = f"{base}_{variant}"
    directory = os.path.join(tools.FIXTURES, "lora", name)
    shutil.rmtree(directory, ignore_errors=True)
    generator = tools.seeded(seed)
    plain = tools.load_model(base)
    plain.name_or_path = plain.config._name_or_path = base
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **VARIANTS[variant])
    model = peft.get_peft_model(plain, config).eval()
    with torch.no_grad():
        for key, parameter in tools.adapter_parameters(model).items():
            scale = parameter.shape[1] ** -0.5 * (1.0 if ".lora_A." in key else 0.5)
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    tools.save_adapter(model, directory)
    documents = tools.uneven_documents(plain.config.vocab_size, [17, 4, 22], generator)

    parameters = tools.adapter_parameters(model)
    single = tools.gradients(parameters, model, documents)
    tools.exact_float64(model)
    parameters = tools.adapter_parameters(model)
    exact = tools.gradients(parameters, model, documents)
    logits, loss, gradients = exact
    with torch.no_grad(), model.disable_adapter():
        base_logits, base_loss = tools.evaluate(model, documents)
    assert tools.relative_error(base_logits, logits) > 0.05, "the adapter must matter"

    saved = tools.load_file(os.path.join(directory, "adapter_model.safetensors"))
    assert set(saved) == set(parameters), (sorted(saved), sorted(parameters))
    expected = {"grad." + key: gradient.float() for key, gradient in gradients.items()}
    expected["logits"] = logits.float()
    tools.write_tensors(os.path.join(directory, "expected.safetensors"), expected)
    scales = {}
    for key, module in model.named_modules():
        if hasattr(module, "scaling") and hasattr(module, "lora_A"):
            scales[key.removeprefix("base_model.model.")] = {"r": module.r["default"],
                                                             "scale": module.scaling["default"]}
    tools.write_json(os.path.join(directory, "expected.json"), {
        "script": "tests/reference/make_lora_fixtures.py", "seed": seed, "base": base, "variant": variant,
        "computed_in": "float64", "stored_as": "float32", "versions": tools.versions(), "modules": scales,
        **tools.pack(documents), "labelled_tokens": tools.labelled_tokens(documents), "loss": loss,
        "base_loss": base_loss.item(),
        "grad_norm": tools.total_norm(gradients), "transformers_float32": tools.float32_errors(single, exact),
    })
    print(f"{name}: {len(scales)} modules, loss {base_loss.item():.6f} -> {loss:.6f}",
          tools.float32_errors(single, exact))


if __name__ == "__main__":
    for index, (case_base, case_variant) in enumerate(CASES):
        make_case(case_base, case_variant, 5001 + index)
