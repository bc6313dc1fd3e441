#!/usr/bin/env python3
"""Preparation of one JSONL: `datasets` + `tokenizers` through TRL's SFTTrainer, and `serval data stats`, in one run.

    compare_data.py --serval build/release/serval --tokenizer DIR [--rows 20000] [--threads 2] [--dataset FILE.jsonl]

Both read the same file with the same tokenizer and chat template and end with token ids and loss masks on disk. TRL's
figure is the time of SFTTrainer's own _prepare_dataset (chat template, tokenisation, masks, truncation) after the
imports, with num_proc = threads; Serval's is the whole process without its cache, and once more with it. Without
--dataset, conversations are made from a seed. Token counts of both are compared: they must agree.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ("the river runs through a small town where old people sell bread and talk about how every winter was colder "
         "than this one and why numbers like 42 or 3.14 matter to nobody but teachers").split()


def make_rows(path, rows):
    rng = random.Random(7)
    text = lambda low, high: " ".join(rng.choices(WORDS, k=rng.randint(low, high))).capitalize() + "."
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(rows):
            turns = rng.randint(1, 3)
            messages = []
            for _ in range(turns):
                messages += [{"role": "user", "content": text(5, 60)}, {"role": "assistant", "content": text(20, 200)}]
            out.write(json.dumps({"messages": messages}) + "\n")


def run_trl(arguments, path, scratch):
    """In a process of its own, with a fresh cache."""
    os.environ.update(HF_HOME=str(scratch / "hf"), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true",
                      RAYON_NUM_THREADS=str(arguments.threads), CUDA_VISIBLE_DEVICES="", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    import datasets
    import transformers
    import trl
    import torch
    torch.set_num_threads(arguments.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    config = transformers.LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
                                      vocab_size=len(tokenizer))
    model = transformers.LlamaForCausalLM(config)
    tiny = datasets.Dataset.from_list([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    args = trl.SFTConfig(output_dir=str(scratch / "out"), max_length=arguments.max_length, report_to="none",
                         use_cpu=True, bf16=False, dataset_num_proc=arguments.threads)
    trainer = trl.SFTTrainer(model=model, args=args, train_dataset=tiny, processing_class=tokenizer)
    begin = time.perf_counter()
    loaded = datasets.load_dataset("json", data_files=path, split="train")
    prepared = trainer._prepare_dataset(loaded, tokenizer, args, False, None, "train")
    seconds = time.perf_counter() - begin
    tokens = sum(min(len(ids), arguments.max_length) for ids in prepared["input_ids"])
    print(json.dumps({"seconds": seconds, "tokens": tokens, "rows": len(prepared),
                      "versions": {m.__name__: m.__version__ for m in (trl, datasets, transformers)}}))


def run_serval(arguments, path, cache):
    command = [arguments.serval, "data", "stats", "--tokenizer", arguments.tokenizer, "--dataset", path, "--json",
               "--max-length", str(arguments.max_length), "--num-threads", str(arguments.threads),
               "--dataset-cache-dir", str(cache)]
    begin = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if result.returncode != 0:
        sys.exit(result.stderr)
    return seconds, json.loads(result.stdout)["datasets"][0]["tokens"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--serval", default="build/release/serval")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--trl", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trl:
        return run_trl(arguments, arguments.dataset, Path(tempfile.mkdtemp()))
    with tempfile.TemporaryDirectory() as scratch:
        path = arguments.dataset or os.path.join(scratch, "rows.jsonl")
        if not arguments.dataset:
            make_rows(path, arguments.rows)
        megabytes = os.path.getsize(path) / 1e6
        cold, tokens = run_serval(arguments, path, Path(scratch) / "cache")
        warm, _ = run_serval(arguments, path, Path(scratch) / "cache")
        words = [sys.executable, __file__, "--trl", "--tokenizer", arguments.tokenizer, "--dataset", path, "--threads",
                 str(arguments.threads), "--max-length", str(arguments.max_length)]
        output = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        trl = json.loads(output.strip().splitlines()[-1])
    print(f"{megabytes:.1f} MB, {trl['rows']} rows, {arguments.threads} threads; {trl['versions']}")
    print(f"{'':<28}{'seconds':>9}{'MB/s':>9}{'tokens':>12}{'ratio':>8}")
    for name, seconds, count in (("TRL (datasets, tokenizers)", trl["seconds"], trl["tokens"]),
                                 ("serval, nothing cached", cold, tokens), ("serval, from its cache", warm, tokens)):
        print(f"{name:<28}{seconds:>9.2f}{megabytes / seconds:>9.1f}{count:>12}{trl['seconds'] / seconds:>7.1f}x")
    if trl["tokens"] != tokens:
        print("the token counts differ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
