"""Makes tests/fixtures/data: a small tokenizer, dataset files, and what TRL's SFTTrainer makes of them.

    python3 tests/reference/make_data_fixtures.py

Each case of expected.json names a dataset file, the options, and TRL's input_ids and labels row by row; the packing
cases hold lengths and how many rows TRL's best fit needs. Nothing is random but the lengths (seed 7).
"""

import json
import os
import random
import shutil
import tempfile

import pyarrow
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from trl.data_utils import _pack_bfd

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "data")
SPECIAL = ["<|endoftext|>", "<|bos|>", "<|im_start|>", "<|im_end|>"]
CORPUS = ["The river Ann runs through the town of Belm.", "Who sells bread in Belm? Old Mira sells bread.",
          "user assistant system\n", "What is the answer? The answer is 42. No, it is 43!", "Translate: the cat = le chat",
          "def add(a, b):\n    return a + b\n", "### Instruction:\n### Input:\n### Response:\n"] * 8
TEMPLATE = (
    "{%- for message in messages %}\n"
    "{%- if message.role == 'assistant' %}\n"
    "{{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}"
    "{{- '\\n' }}\n"
    "{%- else %}\n"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}\n"
)

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


def say(role, content):
    return {"role": role, "content": content}


DATA = {
    "text": [{"text": t} for t in [
        "The river Ann runs through the town of Belm.", "Ends itself.<|endoftext|>", "Größe – 東京 🙂 end",
        "two\nlines\n\n  and blanks  ", "a"]],
    "prompt_completion": [{"prompt": p, "completion": c} for p, c in [
        ("Who sells bread in Belm?", " Old Mira sells bread."), ("Question:\n", "answer"), ("東京は", "どこ? 🙂"),
        ("", "no prompt"), ("What is the answer?", " 42<|endoftext|>"), ("Ends in a blank: ", "the cat"),
        ("A long prompt that fills all of a short row and then some more of it, The river Ann runs through.", " No.")]],
    # The last token of the prompt and the first of the completion are one token of the whole.
    "straddle": [{"prompt": "Who sells brea", "completion": "d in Belm?"}, {"prompt": "the answ", "completion": "er is"}],
    "messages": [{"messages": m} for m in [
        [say(USER, "Who sells bread in Belm?"), say(ASSISTANT, "Old Mira sells bread.")],
        [say(SYSTEM, "Be short."), say(USER, "What is 6 x 7?"), say(ASSISTANT, "42"), say(USER, "Sure?\n"),
         say(ASSISTANT, "The answer is 42.\n\nNo, it is 43!")],
        [say(USER, "東京?"), say(ASSISTANT, "はい 🙂 ")]]],
    "chat_prompt_completion": [
        {"prompt": [say(USER, "Who sells bread in Belm?")], "completion": [say(ASSISTANT, "Old Mira.")]},
        {"prompt": [say(SYSTEM, "Be short."), say(USER, "the cat")],
         "completion": [say(ASSISTANT, "le chat"), say(USER, "Sure?"), say(ASSISTANT, "No.")]}],
}
CASES = [
    ("text", "text", "plain", {}),
    ("text_bos", "text", "bos", {}),
    ("text_cut", "text", "plain", {"max_length": 6}),
    ("prompt_completion", "prompt_completion", "plain", {}),
    ("prompt_completion_bos", "prompt_completion", "bos", {}),
    ("prompt_completion_all", "prompt_completion", "plain", {"completion_only_loss": False}),
    ("prompt_completion_cut", "prompt_completion", "plain", {"max_length": 24}),
    ("straddle", "straddle", "plain", {}),
    ("messages", "messages", "plain", {}),
    ("messages_bos", "messages", "bos", {}),
    ("messages_assistant", "messages", "plain", {"assistant_only_loss": True}),
    ("messages_assistant_cut", "messages", "plain", {"assistant_only_loss": True, "max_length": 30}),
    ("chat_prompt_completion", "chat_prompt_completion", "plain", {}),
    ("chat_prompt_completion_all", "chat_prompt_completion", "plain", {"completion_only_loss": False}),
    ("chat_prompt_completion_assistant", "chat_prompt_completion", "plain", {"assistant_only_loss": True}),
]


def make_tokenizer(name, add_bos):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>",
                                                bos_token="<|bos|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(os.path.join(ROOT, "tokenizer_" + name))
    return fast


def run_trl(tokenizer, rows, options):
    config = transformers.LlamaConfig(vocab_size=512, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                      num_attention_heads=2, eos_token_id=0, bos_token_id=1, pad_token_id=0)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = trl.SFTConfig(output_dir=scratch, use_cpu=True, bf16=False, report_to=[], **{"max_length": None, **options})
        trainer = trl.SFTTrainer(transformers.LlamaForCausalLM(config), arguments, processing_class=tokenizer,
                                 train_dataset=Dataset.from_list(rows))
        return [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in trainer.train_dataset]


def packing_case(count, capacity, generator):
    lengths = [generator.randint(1, generator.choice([8, capacity // 2, capacity])) for _ in range(count)]
    column = pyarrow.array([[0] * n for n in lengths], type=pyarrow.list_(pyarrow.int32()))
    packed = _pack_bfd(pyarrow.table({"input_ids": column}), capacity)
    return {"capacity": capacity, "lengths": lengths, "rows": len(packed)}


def main():
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(ROOT)
    tokenizers = {"plain": make_tokenizer("plain", False), "bos": make_tokenizer("bos", True)}
    for name, rows in DATA.items():
        with open(os.path.join(ROOT, name + ".jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    expected = {"cases": {}, "packing": []}
    for name, data, tokenizer, options in CASES:
        expected["cases"][name] = {"dataset": data + ".jsonl", "tokenizer": "tokenizer_" + tokenizer,
                                   "options": options, "rows": run_trl(tokenizers[tokenizer], DATA[data], options)}
    generator = random.Random(7)
    for count, capacity in [(1, 16), (5, 16), (60, 64), (200, 100), (400, 2048)]:
        expected["packing"].append(packing_case(count, capacity, generator))
    with open(os.path.join(ROOT, "expected.json"), "w") as file:
        json.dump(expected, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
