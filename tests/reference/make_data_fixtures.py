"""Makes tests/fixtures/data: a small tokenizer, dataset files, and what TRL's trainers make of them.

    python3 tests/reference/make_data_fixtures.py

Each case of expected.json names a dataset file, the options, and TRL's input_ids and labels row by row; the packing
cases hold lengths and how many rows TRL's best fit needs; "preference" and "unpaired" hold the ids of DPOTrainer and
KTOTrainer. Unsloth's train_on_responses_only is written here anew from its documented meaning. Nothing is random but
the lengths (seed 7).
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
from trl.data_utils import _pack_bfd, _pack_wrapped

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
    "sharegpt": [{"conversations": [{"from": m["role"], "value": m["content"]} for m in r]} for r in [
        [say(USER, "Who sells bread in Belm?"), say(ASSISTANT, "Old Mira sells bread.")],
        [say(SYSTEM, "Be short."), say(USER, "the cat"), say(ASSISTANT, "le chat")]]],
    "tokenised": [{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}, {"input_ids": [9, 10, 11], "labels": [9, -100, 11]}],
    "preference": [
        {"prompt": "Who sells bread in Belm?", "chosen": " Old Mira sells bread.", "rejected": " Nobody."},
        {"prompt": "the answ", "chosen": "er is 42", "rejected": " 43<|endoftext|>"}],
    "preference_implicit": [
        {"chosen": "What is the answer? The answer is 42.", "rejected": "What is the answer? No, it is 43!"},
        {"chosen": "東京は どこ?", "rejected": "東京は なに?"}],
    "chat_preference": [
        {"prompt": [say(USER, "Who sells bread?")], "chosen": [say(ASSISTANT, "Old Mira.")],
         "rejected": [say(ASSISTANT, "No.")]},
        {"prompt": [say(SYSTEM, "Be short."), say(USER, "the cat"), say(ASSISTANT, "le chat"), say(USER, "Sure?")],
         "chosen": [say(ASSISTANT, "Yes 🙂")], "rejected": [say(ASSISTANT, "")]}],
    "chat_preference_implicit": [
        {"chosen": [say(USER, "the cat"), say(ASSISTANT, "le chat")], "rejected": [say(USER, "the cat"), say(ASSISTANT, "chat")]},
        {"chosen": [say(USER, "a"), say(ASSISTANT, "b"), say(USER, "c"), say(ASSISTANT, "d")],
         "rejected": [say(USER, "a"), say(ASSISTANT, "b"), say(USER, "c"), say(ASSISTANT, "e")]}],
    "unpaired": [{"prompt": "Who sells bread in Belm?", "completion": " Old Mira sells bread.", "label": True},
                 {"prompt": "the answ", "completion": "er is 43", "label": False}],
    "chat_unpaired": [{"prompt": [say(USER, "the cat")], "completion": [say(ASSISTANT, "le chat")], "label": True},
                      {"prompt": [say(USER, "the cat")], "completion": [say(ASSISTANT, "No.")], "label": False}],
}
INSTRUCTION, RESPONSE = "<|im_start|>user\n", "<|im_start|>assistant\n"
PREFERENCE = [("preference", "plain"), ("preference", "bos"), ("preference_implicit", "plain"), ("chat_preference", "plain"),
              ("chat_preference_implicit", "plain")]
UNPAIRED = [("unpaired", "plain"), ("unpaired", "bos"), ("chat_unpaired", "plain")]
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
    ("text_end", "text", "plain", {"max_length": 6, "truncation_mode": "keep_end"}),
    ("messages_assistant_end", "messages", "plain",
     {"assistant_only_loss": True, "max_length": 30, "truncation_mode": "keep_end"}),
    ("sharegpt", "sharegpt", "plain", {}),
    ("tokenised", "tokenised", "plain", {}),
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


def tiny_model():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=512, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, eos_token_id=0,
        bos_token_id=1, pad_token_id=0))


def run_preference(trainer_class, config_class, tokenizer, rows, columns):
    with tempfile.TemporaryDirectory() as scratch:
        arguments = config_class(output_dir=scratch, use_cpu=True, bf16=False, report_to=[], max_length=None,
                                 per_device_train_batch_size=2)
        trainer = trainer_class(model=tiny_model(), ref_model=tiny_model(), args=arguments, processing_class=tokenizer,
                                train_dataset=Dataset.from_list(rows))
        return [{name: r[name] for name in columns} for r in trainer.train_dataset]


def response_labels(ids, instruction, response, last_only):
    """Labels of what lies between each `response` and the next `instruction` (or the end)."""
    def places(part, start):
        return [i for i in range(start, len(ids)) if ids[i:i + len(part)] == part]

    labels, at = [-100] * len(ids), 0
    if last_only:
        at = places(response, 0)[-1]
    while places(response, at):
        begin = places(response, at)[0] + len(response)
        end = (places(instruction, begin) + [len(ids)])[0]
        labels[begin:end] = ids[begin:end]
        at = end + len(instruction)
    return labels


def run_responses(tokenizer, rows, last_only):
    parts = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (INSTRUCTION, RESPONSE)]
    result = []
    for row in rows:
        ids = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=True)["input_ids"]
        result.append({"input_ids": ids, "labels": response_labels(ids, *parts, last_only)})
    return result


def pieces_case(strategy, generator):
    documents = [[100 * d + t for t in range(generator.randint(1, 40))] for d in range(12)]
    table = pyarrow.table({"input_ids": pyarrow.array(documents, type=pyarrow.list_(pyarrow.int32()))})
    if strategy == "wrapped":
        rows = _pack_wrapped(table, 16)["input_ids"].to_pylist()
    else:
        packed = _pack_bfd(table, 16, "split")
        rows = []  # the documents of each row, apart
        for ids, lengths in zip(packed["input_ids"].to_pylist(), packed["seq_lengths"].to_pylist()):
            rows.append([ids[sum(lengths[:i]):sum(lengths[:i + 1])] for i in range(len(lengths))])
    return {"strategy": strategy, "capacity": 16, "lengths": [len(d) for d in documents], "rows": rows}


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
    for name, last_only in [("messages_responses", False), ("messages_last_response", True)]:
        expected["cases"][name] = {
            "dataset": "messages.jsonl", "tokenizer": "tokenizer_plain",
            "options": {"instruction_part": INSTRUCTION, "response_part": RESPONSE, "last_turn_only": last_only},
            "rows": run_responses(tokenizers["plain"], DATA["messages"], last_only)}
    expected["preference"] = [
        {"dataset": name + ".jsonl", "tokenizer": "tokenizer_" + tokenizer,
         "rows": run_preference(trl.DPOTrainer, trl.DPOConfig, tokenizers[tokenizer], DATA[name],
                                ["prompt_ids", "chosen_ids", "rejected_ids"])} for name, tokenizer in PREFERENCE]
    expected["unpaired"] = [
        {"dataset": name + ".jsonl", "tokenizer": "tokenizer_" + tokenizer,
         "rows": run_preference(trl.KTOTrainer, trl.KTOConfig, tokenizers[tokenizer], DATA[name],
                                ["prompt_ids", "completion_ids", "label"])} for name, tokenizer in UNPAIRED]
    generator = random.Random(7)
    for count, capacity in [(1, 16), (5, 16), (60, 64), (200, 100), (400, 2048)]:
        expected["packing"].append(packing_case(count, capacity, generator))
    expected["pieces"] = [pieces_case("wrapped", generator), pieces_case("bfd_split", generator)]
    with open(os.path.join(ROOT, "expected.json"), "w") as file:
        json.dump(expected, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
