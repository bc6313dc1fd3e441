#!/usr/bin/env python3
"""Trains the demo's tokenizer, a byte-level BPE, and writes the files of a model yet to be trained.

    python3 scripts/demo/train_tokenizer.py [--corpus build/demo/pretrain.jsonl]
                                            [--output examples/demo/model]

Writes tokenizer.json, tokenizer_config.json, chat_template.jinja, config.json and generation_config.json: what
`serval train --init OUTPUT/config.json` starts from. No randomness: the same corpus gives the same files.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

VOCAB_SIZE = 768
END, PAD, USER, ASSISTANT, SYSTEM = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL_TOKENS = [END, PAD, USER, ASSISTANT, SYSTEM]  # their ids are their places

# What the "ByteLevel" pre-tokenizer splits by, in the classes that Python's re has.
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|' + message.role + '|>' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}
{%- else -%}
{{ message.content + '<|end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|assistant|>' }}
{%- endif -%}
"""

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.04,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": SPECIAL_TOKENS.index(END),
    "pad_token_id": SPECIAL_TOKENS.index(PAD),
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


def byte_alphabet():
    """GPT-2's letter for each byte: itself where it is printable, else one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, others = {}, 0
    for byte in range(256):
        if byte in printable:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(0x100 + others)
            others += 1
    return letters


def count_words(texts):
    letters = byte_alphabet()
    special = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))
    counts = Counter()
    for text in texts:
        for part in special.split(text):
            counts.update("".join(letters[b] for b in word.encode("utf-8")) for word in WORDS.findall(part))
    return counts


def merge_in(word, pair):
    merged, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def train_merges(counts, num_merges):
    """Merges the most frequent pair, again and again; of equally frequent ones the first by its letters."""
    words = {word: list(word) for word in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, parts in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            raise SystemExit(f"the corpus gives only {len(merges)} merges, {num_merges} are needed")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: merge_in(parts, best) for word, parts in words.items()}
    return merges


def make_tokenizer(merges):
    letters = byte_alphabet()
    tokens = SPECIAL_TOKENS + [letters[b] for b in range(256)] + [a + b for a, b in merges]
    if len(set(tokens)) != len(tokens):
        raise SystemExit("two merges give one token")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{
            "id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True
        } for i, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("build/demo/pretrain.jsonl"))
    parser.add_argument("--output", type=Path, default=Path("examples/demo/model"))
    arguments = parser.parse_args()

    lines = arguments.corpus.read_text(encoding="utf-8").splitlines()
    counts = count_words(json.loads(line)["text"] for line in lines)
    merges = train_merges(counts, VOCAB_SIZE - len(SPECIAL_TOKENS) - 256)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    generation_config = {
        "eos_token_id": CONFIG["eos_token_id"],
        "pad_token_id": CONFIG["pad_token_id"],
        "do_sample": False,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, content in [("tokenizer.json", make_tokenizer(merges)), ("tokenizer_config.json", tokenizer_config),
                          ("config.json", CONFIG), ("generation_config.json", generation_config)]:
        text = json.dumps(content, ensure_ascii=False, indent=1 if name == "tokenizer.json" else 2)
        (arguments.output / name).write_text(text + "\n", encoding="utf-8")
    (arguments.output / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    print(f"{arguments.output}: {VOCAB_SIZE} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main()
