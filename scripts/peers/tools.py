"""Running Serval and the peers, and comparing what they give."""

import json
import math
import os
import subprocess

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)

TRAIN_TEXTS = [
    "the cat sat on the mat and saw a rat.",
    "a small dog ran over the green hill to the sea.",
    "who is there. it is only the wind.",
    "she told him that the road was long and the night was cold, so he stayed.",
    "one two three four five six seven.",
    "rain fell on the old roof all day.",
    "they ate bread and cheese by the lake.",
    "no one knew the way home.",
]
EVAL_TEXTS = ["the old cat ran home.", "a cold wind fell on the sea and the hill.", "it is only rain."]


def relative_error(value, reference):
    """Norm-wise, over all values of two tensors or of two lists of tensors."""
    value = torch.cat([v.flatten().double() for v in value]) if isinstance(value, list) else value.double()
    reference = (torch.cat([r.flatten().double() for r in reference]) if isinstance(reference, list)
                 else reference.double())
    if value.shape != reference.shape:
        return math.inf
    return ((value - reference).norm() / reference.norm()).item()


def write_tokenizer(directory):
    """A byte-level BPE of lower-case letters that fits the small vocabularies of the fixtures."""
    tokens = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", ".", ",", "\u0120"]
    merges = ["t h", "th e", "\u0120 the", "\u0120 a", "e r", "i n", "\u0120 s", "a n", "o n", "\u0120a n", "\u0120an d"]
    tokens += [merge.replace(" ", "") for merge in merges]
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(3)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in merges]},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}),
        encoding="utf-8")


def write_texts(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


class Tools:
    def __init__(self, root, build, data, work):
        self.fixtures = root / "tests" / "fixtures" / "models"
        self.reference_scripts = root / "tests" / "reference"
        self.build, self.data, self.work = build.resolve(), data.resolve(), work
        self.train_data, self.eval_data = work / "train.jsonl", work / "eval.jsonl"
        write_texts(self.train_data, TRAIN_TEXTS)
        write_texts(self.eval_data, EVAL_TEXTS)

    def run(self, *command, stdout=True):
        """stdout, or else stderr, of a program; a failure ends the check."""
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                              env={**os.environ, "SERVAL_TEST_DATA": str(self.data)})
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout if stdout else done.stderr

    def serval(self, *arguments, stdout=True):
        return self.run(self.build / "serval", *arguments, stdout=stdout)

    def machine(self):
        """What `serval info` says computes: bits and bf16 distances depend on it."""
        lines = dict(line.split(None, 1) for line in self.serval("info").splitlines() if " " in line)
        return f"Serval {lines['serval']} on {lines['processor']}, products by {lines['products']}"

    def base(self, family, dtype):
        """A checkpoint directory of a fixture in this dtype, with a tokenizer."""
        directory = self.work / f"{family}-{dtype}"
        if directory.exists():
            return directory
        directory.mkdir()
        config = json.loads((self.fixtures / family / "config.json").read_text())
        config["dtype" if "dtype" in config else "torch_dtype"] = dtype
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        weights = load_file(self.fixtures / family / "model.safetensors")
        save_file({name: value.to(getattr(torch, dtype)) for name, value in weights.items()},
                  directory / "model.safetensors", metadata={"format": "pt"})
        write_tokenizer(directory)
        return directory

    def train(self, base, name, *arguments, source="--model"):
        """(output directory, what was printed) of ten steps at a rate that changes the model visibly."""
        output = self.work / "runs" / name
        settings = {"--max-steps": 10, "--learning-rate": 5e-3, "--lr-scheduler-type": "constant",
                    "--per-device-train-batch-size": 4, "--logging-steps": 1, "--num-threads": 1}
        for key, value in zip(arguments[::2], arguments[1::2]):
            settings[key] = value
        command = ["train", source, base, "--dataset", self.train_data, "--output-dir", output]
        for key, value in settings.items():
            command += [key, value]
        return output, self.serval(*command, stdout=False)

    def logits(self, model, documents, adapter=None, dtype="float32", mode="forward"):
        """Ours, [tokens, vocabulary]."""
        ids, out = self.work / "ids.txt", self.work / "logits.f32"
        ids.write_text("".join(" ".join(map(str, document)) + "\n" for document in documents), encoding="utf-8")
        self.run(self.build / "tests" / "train" / "logits_tool", model, adapter or "-", dtype, mode, ids, out)
        rows = torch.from_numpy(numpy.fromfile(out, dtype=numpy.float32))
        return rows.view(sum(map(len, documents)), -1)

    def eval_nll(self, model, *arguments):
        text = self.serval("eval", "--model", model, "--dataset", self.eval_data, "--json", *arguments)
        return json.loads(text)["mean_nll"]


def load_peer(directory, dtype="float32"):
    """(model, names of missing, unexpected or mismatched tensors) by transformers."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation="sdpa", output_loading_info=True)
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info.get("mismatched_keys", [])]
    return model.eval(), wrong


def peer_logits(model, documents):
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([document]), use_cache=False).logits[0].float()
                          for document in documents])


def random_documents(vocab_size, lengths=(23, 9, 31), seed=7):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in lengths]
