"""The peer of Serval's GPU speed: the same LoRA steps with PyTorch, transformers and PEFT on one GPU.

    python3 bench/peers/peft_cuda.py --shape qwen3-8b
    python3 bench/peers/peft_cuda.py --shape qwen3-0.6b --batch-size 8 --accumulation 1 --gradient-checkpointing

Random bf16 weights of the shape (seed 7, nothing is downloaded), LoRA r 16 on the seven linears, AdamW, rows of --max-length
random tokens, all labelled, no padding: what `serval bench --shape NAME` trains. Prints one JSON object: tokens/s over the
timed steps, and the most memory that PyTorch's allocator held (torch.cuda.max_memory_allocated).
"""

import argparse
import json
import time

# hidden, intermediate, layers, heads, key-value heads, tied head; all with head_dim 128.
QWEN3 = {
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, True),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, True),
    "qwen3-4b": (2560, 9728, 36, 32, 8, True),
    "qwen3-8b": (4096, 12288, 36, 32, 8, False),
    "qwen3-14b": (5120, 17408, 40, 40, 8, False),
    "qwen3-32b": (5120, 25600, 64, 64, 8, False),
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(QWEN3), default="qwen3-0.6b")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--lora-r", type=int, default=16)
    parser.add_argument("--attention", default="sdpa", help="attn_implementation of transformers")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.batch_size, arguments.max_length, arguments.accumulation, arguments.steps, arguments.lora_r) < 1:
        parser.error("all numbers must be at least 1")
    return arguments


def build_model(arguments):
    import peft
    import torch
    import transformers

    hidden, intermediate, layers, heads, kv_heads, tied = QWEN3[arguments.shape]
    config = transformers.AutoConfig.for_model(
        "qwen3", hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=128, vocab_size=151936, max_position_embeddings=32768, rms_norm_eps=1e-6,
        rope_theta=1000000.0, tie_word_embeddings=tied)
    torch.manual_seed(7)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16,
                                                              attn_implementation=arguments.attention)
    model.config.use_cache = False
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    lora = peft.LoraConfig(r=arguments.lora_r, lora_alpha=arguments.lora_r, lora_dropout=0.0, target_modules=LINEARS,
                           task_type="CAUSAL_LM")
    return peft.get_peft_model(model, lora).cuda().train()


def main():
    arguments = parse_arguments()
    begin = time.perf_counter()
    import peft
    import torch
    import transformers

    model = build_model(arguments)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    generator = torch.Generator(device="cuda").manual_seed(7)
    torch.cuda.reset_peak_memory_stats()

    def step():
        total = torch.zeros((), device="cuda")
        for _ in range(arguments.accumulation):
            tokens = torch.randint(model.config.vocab_size, (arguments.batch_size, arguments.max_length), device="cuda",
                                   generator=generator)
            loss = model(input_ids=tokens, labels=tokens).loss / arguments.accumulation
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    loss = step()
    torch.cuda.synchronize()
    first = time.perf_counter() - begin
    start = time.perf_counter()
    for _ in range(arguments.steps):
        loss = step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / arguments.steps
    tokens = arguments.batch_size * arguments.max_length * arguments.accumulation
    print(json.dumps({
        "peer": "torch+transformers+peft", "device": torch.cuda.get_device_name(), "shape": arguments.shape,
        "batch_size": arguments.batch_size, "max_length": arguments.max_length, "accumulation": arguments.accumulation,
        "lora_r": arguments.lora_r, "attention": arguments.attention,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "tokens_per_second": tokens / seconds, "step_seconds": seconds, "first_step_seconds": first, "loss": loss.item(),
        "peak_bytes": torch.cuda.max_memory_allocated(), "reserved_bytes": torch.cuda.max_memory_reserved(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    }))


if __name__ == "__main__":
    main()
