"""Makes tests/fixtures/models/qwen_adapter: a real Qwen2.5-0.5B adapter on a base that a formula makes.

    SERVAL_TEST_DATA=../shared/data python3 tests/reference/make_qwen_adapter_fixture.py

The adapter is read from the test data (adapters/qwen2.5-0.5b-instruct-r8) and never copied. The base has the shape of
Qwen2.5-0.5B but a vocabulary of 512, and its weights come from fill() below; no seed. Needs about 6 GB of memory.
"""

import json
import os

import numpy
import peft
import torch

import model_fixture_tools as tools

ADAPTER = "adapters/qwen2.5-0.5b-instruct-r8"
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
    "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False, "vocab_size": 512,
}
ALGORITHM = [
    "All integer arithmetic is modulo 2^32. i is the row-major index of an element in its tensor.",
    "seed = FNV-1a of the tensor's name: h = 2166136261; for each byte: h = (h xor byte) * 16777619.",
    "x = seed + i * 2654435769; x ^= x >> 16; x *= 2246822507; x ^= x >> 13; x *= 3266489909; x ^= x >> 16.",
    "n = (x >> 24) - 128 (-128..127).",
    "Names ending in norm.weight: 1 + ((x >> 27) - 16) / 128.",
    "Names ending in .bias: n / 512. down_proj.weight: n / 4096. embed_tokens.weight: n / 256.",
    "Every other weight: n / 2048. All values are exact in bfloat16.",
]
TOKENS = [1, 17, 401, 93, 255, 8, 310, 64, 511, 128, 77, 5]


def fill(name, count):
    """The weights of one tensor: ALGORITHM in numpy."""
    seed = 2166136261
    for byte in name.encode("ascii"):
        seed = ((seed ^ byte) * 16777619) & 0xFFFFFFFF
    x = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(2654435769) + numpy.uint32(seed)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(2246822507)
    x ^= x >> numpy.uint32(13)
    x *= numpy.uint32(3266489909)
    x ^= x >> numpy.uint32(16)
    if name.endswith("norm.weight"):
        return 1 + ((x >> numpy.uint32(27)).astype(numpy.float32) - 16) / 128
    n = (x >> numpy.uint32(24)).astype(numpy.float32) - 128
    if name.endswith(".bias"):
        return n / 512
    if name.endswith("down_proj.weight"):
        return n / 4096
    return n / 256 if name.endswith("embed_tokens.weight") else n / 2048


def main():
    data = os.environ.get("SERVAL_TEST_DATA", os.path.join(tools.FIXTURES, "..", "..", "..", "..", "shared", "data"))
    directory = os.path.join(tools.FIXTURES, "qwen_adapter")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=2)
        file.write("\n")
    config = tools.transformers.AutoConfig.from_pretrained(directory)
    model = tools.transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32,
                                                                attn_implementation="sdpa").eval()
    checks = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.from_numpy(fill(name, parameter.numel())).view(parameter.shape)
            assert torch.equal(values.bfloat16().float(), values), name
            parameter.copy_(values)
            if ".layers." not in name or ".layers.23." in name:
                checks[name] = {"first": values.flatten()[:4].tolist(), "last": values.flatten()[-1].item(),
                                "sum": values.double().sum().item()}
    tools.exact_float64(model)
    ids = torch.tensor([TOKENS])
    with torch.no_grad():
        base_logits = model(input_ids=ids, use_cache=False).logits[0, -1].clone()
        adapted = peft.PeftModel.from_pretrained(model, os.path.join(data, ADAPTER)).eval().double()
        adapter_logits = adapted(input_ids=ids, use_cache=False).logits[0, -1]
    change = tools.relative_error(adapter_logits, base_logits)
    assert change > 1e-3, "the adapter must matter"
    tools.write_json(os.path.join(directory, "expected.json"), {
        "script": "tests/reference/make_qwen_adapter_fixture.py", "adapter": ADAPTER, "computed_in": "float64",
        "versions": tools.versions(), "algorithm": ALGORITHM, "weights_check": checks, "input_ids": TOKENS,
        "relative_change_by_adapter": change, "base_logits": base_logits.tolist(),
        "adapter_logits": adapter_logits.tolist(),
    })
    print(f"qwen_adapter: the adapter changes the logits by {change:.2e}, spread {base_logits.std().item():.2f}")


if __name__ == "__main__":
    main()
