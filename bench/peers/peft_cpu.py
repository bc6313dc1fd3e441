"""The peer of Serval's CPU speed: the same LoRA steps with PyTorch, transformers and PEFT.

    python3 bench/peers/peft_cpu.py --shape qwen3-0.6b --steps 5 --tokens 1024 --threads 2
    python3 bench/peers/peft_cpu.py --config path/to/config.json

Random bf16 weights of the shape (seed 7, nothing is downloaded), LoRA r 16 on the seven linears, AdamW, batches of
1 x --tokens random tokens, all labelled. Prints one JSON object: tokens/s is the median over the steps after one
warm-up step; peak_resident_bytes is VmHWM, the peak of the whole process.
"""

import argparse
import json
import os
import statistics
import time

SHAPES = {
    "qwen3-0.6b": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    "demo": {
        "model_type": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 1024,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
    },
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--config", help="a config.json, or a directory that holds one, instead of --shape")
    parser.add_argument("--steps", type=int, default=4, help="measured steps, after one warm-up step")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.tokens < 2 or arguments.threads < 1:
        parser.error("--steps and --threads must be at least 1, --tokens at least 2")
    return arguments


def peak_resident_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def shape_config(arguments):
    import transformers

    if not arguments.config:
        values = dict(SHAPES[arguments.shape])
    else:
        path = os.path.join(arguments.config, "config.json") if os.path.isdir(arguments.config) else arguments.config
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    return transformers.AutoConfig.for_model(values.pop("model_type"), **values)


def build_model(arguments):
    import peft
    import torch
    import transformers

    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(shape_config(arguments), dtype=torch.bfloat16,
                                                          attn_implementation="sdpa")
    model.config.use_cache = False
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    lora = peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, lora).train()


def train_step(model, optimizer, tokens):
    start = time.perf_counter()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), time.perf_counter() - start


def main():
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import peft
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    begin = time.perf_counter()
    model = build_model(arguments)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    built = time.perf_counter() - begin

    generator = torch.Generator().manual_seed(7)
    losses, seconds = [], []
    for _ in range(arguments.steps + 1):
        tokens = torch.randint(model.config.vocab_size, (1, arguments.tokens), generator=generator)
        loss, duration = train_step(model, optimizer, tokens)
        losses.append(loss)
        seconds.append(duration)
    median = statistics.median(seconds[1:])
    print(json.dumps({
        "peer": "torch+transformers+peft", "shape": arguments.config or arguments.shape,
        "tokens": arguments.tokens, "threads": arguments.threads, "steps": arguments.steps,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "trained_dtype": str(trained[0].dtype).removeprefix("torch."),
        "tokens_per_second": arguments.tokens / median, "step_seconds": seconds, "build_seconds": built,
        "losses": losses, "peak_resident_bytes": peak_resident_bytes(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "peft": peft.__version__},
    }))


if __name__ == "__main__":
    main()
