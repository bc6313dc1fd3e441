"""Makes tests/fixtures/models/<family>_*: small random checkpoints with logits, loss and every gradient.

    python3 tests/reference/make_model_fixtures.py

Seeds: each case below names its own. Needs torch, transformers and safetensors; see the README of the fixtures.
"""

import json
import os
import shutil

import torch

import model_fixture_tools as tools

V4_ROPE_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 48}


def llama(**changes):
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 48,
        "initializer_range": 0.02, "intermediate_size": 88, "max_position_embeddings": 256, "mlp_bias": False,
        "num_attention_heads": 6, "num_hidden_layers": 2, "num_key_value_heads": 2, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "torch_dtype": "float32", "transformers_version": "4.44.0", "use_cache": True, "vocab_size": 101,
    }
    config.update(changes)
    return config


def mistral(**changes):
    config = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "attention_dropout": 0.0,
        "bos_token_id": 1, "eos_token_id": 2, "head_dim": 8, "hidden_act": "silu", "hidden_size": 40,
        "initializer_range": 0.02, "intermediate_size": 96, "max_position_embeddings": 256,
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": 8, "tie_word_embeddings": False, "torch_dtype": "float32",
        "transformers_version": "4.44.0", "use_cache": True, "vocab_size": 96,
    }
    config.update(changes)
    return config


def qwen2(**changes):
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
        "intermediate_size": 104, "max_position_embeddings": 256, "max_window_layers": 2,
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "sliding_window": 256, "tie_word_embeddings": True, "torch_dtype": "float32",
        "transformers_version": "4.44.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 128,
    }
    config.update(changes)
    return config


def qwen3(**changes):
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "head_dim": 16, "hidden_act": "silu",
        "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 80, "max_position_embeddings": 256,
        "max_window_layers": 2, "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": None,
        "tie_word_embeddings": True, "torch_dtype": "float32", "transformers_version": "4.51.0",
        "use_cache": True, "use_sliding_window": False, "vocab_size": 112,
    }
    config.update(changes)
    return config


def version5(config, rope_parameters):
    """The same config as transformers 5 writes it: rope_parameters, dtype, layer_types."""
    config = {key: item for key, item in config.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")}
    config.update(dtype="float32", rope_parameters=rope_parameters, transformers_version="5.0.0")
    if config["model_type"] in ("qwen2", "qwen3"):
        window = config["use_sliding_window"]
        config["layer_types"] = [
            "sliding_attention" if window and i >= config["max_window_layers"] else "full_attention"
            for i in range(config["num_hidden_layers"])]
        if not window:
            config["sliding_window"] = None
    return config


def cases():
    """name -> (seed, config, lengths of the documents). The variants are smaller than the main ones."""
    small = {"hidden_size": 32, "intermediate_size": 56, "vocab_size": 67}
    return {
        "llama_a": (1001, llama(), [17, 5, 23]),
        "llama_b": (1002, version5(llama(hidden_size=48, intermediate_size=80, num_attention_heads=3,
                                         num_key_value_heads=3, head_dim=16, vocab_size=96, rms_norm_eps=1e-6),
                                   {"rope_type": "default", "rope_theta": 500000.0}), [9, 31]),
        "llama_tied": (1003, llama(**small, num_attention_heads=4, num_key_value_heads=1,
                                   tie_word_embeddings=True), [7, 1, 19]),
        "llama_rope_llama3_v4": (1004, llama(**small, num_attention_heads=2, num_key_value_heads=1,
                                             rope_scaling=V4_ROPE_LLAMA3, rope_theta=500000.0), [40, 13]),
        "llama_rope_llama3_v5": (1005, version5(llama(**small, num_attention_heads=2, num_key_value_heads=1),
                                                {**V4_ROPE_LLAMA3, "rope_theta": 500000.0}), [12, 40]),
        "llama_rope_linear": (1006, llama(**small, num_attention_heads=4,
                                          rope_scaling={"type": "linear", "factor": 4.0}), [33, 14]),
        "llama_biases": (1007, llama(**small, num_attention_heads=4, attention_bias=True, mlp_bias=True),
                         [14, 15]),
        "mistral_a": (2001, mistral(), [21, 6, 27]),
        "mistral_b": (2002, version5(mistral(hidden_size=48, num_attention_heads=6, num_key_value_heads=3,
                                             sliding_window=5, vocab_size=120),
                                     {"rope_type": "default", "rope_theta": 1000000.0}), [4, 25]),
        "qwen2_a": (3001, qwen2(), [17, 5, 23]),
        "qwen2_b": (3002, version5(qwen2(hidden_size=48, num_attention_heads=6, tie_word_embeddings=False,
                                         intermediate_size=80, vocab_size=99),
                                   {"rope_type": "default", "rope_theta": 1000000.0}), [29, 11]),
        "qwen2_window": (3003, qwen2(num_hidden_layers=3, max_window_layers=1, sliding_window=6,
                                     use_sliding_window=True, **small), [24, 13]),
        "qwen3_a": (4001, qwen3(), [17, 5, 23]),
        "qwen3_b": (4002, version5(qwen3(hidden_size=40, num_attention_heads=3, num_key_value_heads=1, head_dim=24,
                                         tie_word_embeddings=False, vocab_size=97),
                                   {"rope_type": "default", "rope_theta": 10000.0}), [8, 30]),
    }


def make_case(name, seed, config, lengths):
    directory = os.path.join(tools.FIXTURES, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")

    generator = tools.seeded(seed)
    fresh = tools.transformers.AutoModelForCausalLM.from_config(
        tools.transformers.AutoConfig.from_pretrained(directory), dtype=torch.float32)
    tools.randomize(fresh, generator)
    tools.write_tensors(os.path.join(directory, "model.safetensors"),
                        {key: parameter for key, parameter in fresh.named_parameters()})
    documents = tools.uneven_documents(config["vocab_size"], lengths, generator)

    single_model = tools.load_model(name)
    single = tools.gradients(dict(single_model.named_parameters()), single_model, documents)
    with torch.no_grad():
        half_logits, half_loss = tools.evaluate(tools.load_model(name).bfloat16(), documents)
    model = tools.exact_float64(tools.load_model(name))
    exact = tools.gradients(dict(model.named_parameters()), model, documents)
    logits, loss, gradients = exact

    expected = {"grad." + key: gradient.float() for key, gradient in gradients.items()}
    expected["logits"] = logits.float()
    expected["logits_bf16"] = half_logits
    tools.write_tensors(os.path.join(directory, "expected.safetensors"), expected)
    tools.write_json(os.path.join(directory, "expected.json"), {
        "script": "tests/reference/make_model_fixtures.py", "seed": seed, "computed_in": "float64",
        "stored_as": "float32", "versions": tools.versions(), **tools.pack(documents),
        "labelled_tokens": tools.labelled_tokens(documents), "loss": loss, "loss_bf16": half_loss.item(),
        "grad_norm": tools.total_norm(gradients), "transformers_float32": tools.float32_errors(single, exact),
        "transformers_bf16": {"logits_relative_error": tools.relative_error(half_logits, logits)},
    })
    print(name, f"loss {loss:.6f}", tools.float32_errors(single, exact),
          f"bf16 off by {tools.relative_error(half_logits, logits):.1e}")


if __name__ == "__main__":
    for case, (case_seed, case_config, case_lengths) in cases().items():
        make_case(case, case_seed, case_config, case_lengths)
