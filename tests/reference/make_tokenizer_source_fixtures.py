"""Writes tests/fixtures/text/sources/<name>/: a small tokenizer in each kind of file that is no BPE tokenizer.json, and
cases.json with the ids of the library that made it. Needs tokenizers, sentencepiece, protobuf, tiktoken, transformers
and gguf.

    python3 tests/reference/make_tokenizer_source_fixtures.py
"""
import base64
import json
import os
import shutil
import tempfile

import gguf
import numpy
import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import tokenizer_sources
from make_tokenizer_fixtures import CORPUS, TEXTS

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "text", "sources")
# A few rules, so that the compiled rules stay small: a ligature, full width, a composed letter, an emptied character.
RULES = [("ﬁ", "fi"), ("Ａ", "A"), ("１", "1"), ("e\u0301", "é"), ("é", "e"), ("\u3000", " "), ("\t", " "), ("\n", " "),
         ("\u200b", ""), ("①", "1"), ("㎏", "kg"), ("\u212b", "\u00c5"), ("\r", " "), ("\u0903", "")]
EXTRA = ["ﬁne Ａ１ cafe\u0301 é\u0301 ①㎏ Å", "\u200bzero\u200b \u200b", "a\r\nb", "的是 unknown ☃☃ run☃", "<sep>a<sep> <sep>",
         "XYZ XY aXYZb", "<s> </s> <unk> <pad>", "x" * 300, "the the  the   the", " ", "\u3000", "क\u0903 त"]


def folder(name):
    path = os.path.join(OUT, name)
    os.makedirs(path)
    return path


def write_cases(path, encode, special, extra=()):
    texts = TEXTS + EXTRA + list(extra)
    cases = [{"text": text, "ids": list(encode(text))} for text in texts]
    tokenizer_sources.write_json(path, "cases.json", {"add_special_tokens": special, "cases": cases})


def sentencepiece_folder(name, **options):
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for old, new in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in old) + "\t" + " ".join(f"{ord(c):X}" for c in new) + "\n")
        rules.flush()
        if options.pop("rules", False):
            options["normalization_rule_tsv"] = rules.name
        else:
            options["normalization_rule_name"] = "identity"
        path = tokenizer_sources.train_sentencepiece(OUT, name, CORPUS + ["the sun is in the sky"] * 3, **options)
    proto = read_proto(path)
    # The trainer writes where it read its rules.
    proto.trainer_spec.ClearField("model_prefix")
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    with open(os.path.join(path, "tokenizer.model"), "wb") as out:
        out.write(proto.SerializeToString())
    return path


def read_proto(path):
    proto = sentencepiece_model_pb2.ModelProto()
    with open(os.path.join(path, "tokenizer.model"), "rb") as file:
        proto.ParseFromString(file.read())
    return proto


def make_sentencepiece():
    unigram = sentencepiece_folder("spm_unigram", model_type="unigram", vocab_size=450, rules=True, byte_fallback=True,
                                   character_coverage=0.99, user_defined_symbols="<sep>,XYZ,XY")
    plain = sentencepiece_folder("spm_unigram_plain", model_type="unigram", vocab_size=420, rules=True,
                                 remove_extra_whitespaces=False, character_coverage=0.98)
    bpe = sentencepiece_folder("spm_bpe", model_type="bpe", vocab_size=500, byte_fallback=True, character_coverage=0.98,
                               remove_extra_whitespaces=False)
    sentencepiece_folder("spm_bpe_suffix", model_type="bpe", vocab_size=300, rules=True, treat_whitespace_as_suffix=True,
                         character_coverage=0.98, user_defined_symbols="<sep>,XYZ,XY")
    for name in ("spm_unigram", "spm_unigram_plain", "spm_bpe", "spm_bpe_suffix"):
        path = os.path.join(OUT, name)
        encode = tokenizer_sources.sentencepiece_oracle(path)
        # Control symbols written in a text are tokens here, and plain text there.
        texts = [text for text in TEXTS + EXTRA if "<s>" not in text and "</s>" not in text]
        tokenizer_sources.write_json(path, "cases.json", {
            "add_special_tokens": False, "cases": [{"text": text, "ids": encode(text)} for text in texts]})
    for source, name, whole in ((unigram, "json_unigram", False), (plain, "json_unigram_whole", True)):
        made = tokenizer_sources.unigram_json(OUT, name, source, "bytes" in name or not whole, whole)
        write_cases(made.path, made.encode, False)
    return bpe


def make_transformers(bpe):
    cases = {
        "hf_llama": ("LlamaTokenizer", {"add_bos_token": True}),
        "hf_llama_legacy": ("LlamaTokenizer", {"legacy": True, "add_bos_token": True, "add_eos_token": True}),
        "hf_gemma": ("GemmaTokenizer", {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}),
    }
    for name, (tokenizer_class, config) in cases.items():
        path = folder(name)
        shutil.copy(os.path.join(bpe, "tokenizer.model"), path)
        tokenizer_sources.write_json(path, "tokenizer_config.json", {"tokenizer_class": tokenizer_class, **config})
        tokenizer_sources.write_json(path, "config.json", {"model_type": "gemma" if "gemma" in name else "llama"})
        if name == "hf_llama":
            # The layout of transformers 4.
            tokenizer_sources.write_json(path, "added_tokens.json", {"<|im_start|>": 500, "<TOK>": 501})
            tokenizer_sources.write_json(path, "special_tokens_map.json", {
                "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False, "rstrip": False, "normalized": False,
                                                  "single_word": False},
                "pad_token": "<pad>", "additional_special_tokens": ["<|im_start|>"]})
        write_cases(path, tokenizer_sources.transformers_oracle(path, True), True, ["<|im_start|>user <TOK> x"])


def byte_level_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def make_vocabulary_files(model):
    end = {"content": "<|endoftext|>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
           "special": True}
    cases = {
        "files_gpt2": ("GPT2Tokenizer", {"add_prefix_space": True}, "gpt2"),
        "files_qwen2": ("Qwen2Tokenizer", {"added_tokens_decoder": {
            "420": end, "421": {**end, "content": "<TOK>", "special": False, "normalized": True, "lstrip": True}},
            "extra_special_tokens": ["<S>"]}, "qwen2"),
        "files_roberta": ("RobertaTokenizer", {}, "roberta"),
    }
    for name, (tokenizer_class, config, model_type) in cases.items():
        path = folder(name)
        vocab = dict(model["vocab"])
        if name == "files_gpt2":
            vocab["<|endoftext|>"] = len(vocab)
        if name == "files_roberta":
            for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
                vocab[token] = len(vocab)
        tokenizer_sources.write_json(path, "vocab.json", vocab)
        with open(os.path.join(path, "merges.txt"), "w", encoding="utf-8") as out:
            out.write("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in model["merges"]))
        tokenizer_sources.write_json(path, "tokenizer_config.json", {"tokenizer_class": tokenizer_class, **config})
        tokenizer_sources.write_json(path, "config.json", {"model_type": model_type})
        write_cases(path, tokenizer_sources.transformers_oracle(path, True), True, ["<|endoftext|> <TOK> a<S>"])


def make_ranks(model):
    characters = tokenizer_sources.byte_characters()
    ranks = {bytes(characters[c] for c in token): rank for token, rank in model["vocab"].items()}
    path = folder("tiktoken")
    with open(os.path.join(path, "o200k_base.tiktoken"), "wb") as out:
        for token, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
            out.write(base64.b64encode(token) + b" %d\n" % rank)
    special = {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}
    encoding = tiktoken.Encoding("small", pat_str=tokenizer_sources.O200K, mergeable_ranks=ranks, special_tokens=special)
    write_cases(path, lambda text: encoding.encode(text, allowed_special="all"), False, ["a<|endoftext|>b <|endofprompt|>"])

    path = folder("tekken")
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"]
    tokenizer_sources.write_json(path, "tekken.json", {
        "config": {"pattern": tokenizer_sources.TEKKEN, "num_vocab_tokens": 420, "default_vocab_size": 410 + 10,
                   "default_num_special_tokens": 10, "version": "v7"},
        "vocab": [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
                  for token, rank in sorted(ranks.items(), key=lambda pair: pair[1])],
        "special_tokens": [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(special)]})
    kept = {token: rank for token, rank in ranks.items() if rank < 410}
    encoding = tiktoken.Encoding("small", pat_str=tokenizer_sources.TEKKEN, mergeable_ranks=kept,
                                 special_tokens={text: 10_000 + i for i, text in enumerate(special)})
    write_cases(path, lambda text: [1] + [i - 10_000 if i >= 10_000 else i + 10 for i in
                                          encoding.encode(text, allowed_special="all")], True, ["<s>[INST] hi [/INST]"])


def make_gguf(bpe, model):
    proto = read_proto(bpe)
    path = folder("gguf_llama")
    writer = gguf.GGUFWriter(os.path.join(path, "vocabulary.gguf"), "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.piece for piece in proto.pieces])
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types([piece.type for piece in proto.pieces])
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages }}")
    finish(writer)
    oracle = sentencepiece.SentencePieceProcessor(model_file=os.path.join(bpe, "tokenizer.model"))
    texts = [text for text in TEXTS + EXTRA if "<s>" not in text and "</s>" not in text and "<unk>" not in text]
    tokenizer_sources.write_json(path, "cases.json", {
        "add_special_tokens": True, "cases": [{"text": text, "ids": [1] + oracle.encode(text)} for text in texts]})

    path = folder("gguf_gpt2")
    writer = gguf.GGUFWriter(os.path.join(path, "vocabulary.gguf"), "gpt2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda pair: pair[1])]
    writer.add_token_list(tokens + ["<|eot_id|>", "<TOK>"])
    writer.add_token_types([1] * len(tokens) + [3, 4])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(len(tokens))
    writer.add_add_bos_token(False)
    finish(writer)
    tokenizer = Tokenizer(models.BPE(model["vocab"], [tuple(merge) for merge in model["merges"]], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizer_sources.regex(tokenizer_sources.LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.add_special_tokens(["<|eot_id|>", "<TOK>"])
    write_cases(path, lambda text: tokenizer.encode(text).ids, True, ["a<|eot_id|> <TOK>"])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def make_bert():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({c for text in CORPUS + TEXTS for c in text.lower() if not c.isspace() and c.isprintable()})
    words += characters + ["##" + c for c in characters if c.isalnum()]
    words += ["the", "quick", "##ing", "##er", "hello", "world", "12", "##34", "ca", "##fe", "naive"]
    for name, config in {"files_bert": {}, "files_bert_cased": {"do_lower_case": False, "tokenize_chinese_chars": False}}.items():
        path = folder(name)
        with open(os.path.join(path, "vocab.txt"), "w", encoding="utf-8") as out:
            out.write("\n".join(words) + "\n")
        tokenizer_sources.write_json(path, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})
        tokenizer_sources.write_json(path, "config.json", {"model_type": "bert"})
        write_cases(path, tokenizer_sources.transformers_oracle(path, True), True, ["[CLS] x[MASK] [SEP]"])
    # llama.cpp marks the tokens that start a word instead of the others.
    path = folder("gguf_bert")
    writer = gguf.GGUFWriter(os.path.join(path, "vocabulary.gguf"), "bert")
    writer.add_tokenizer_model("bert")
    writer.add_token_list([word if i < 5 else word[2:] if word.startswith("##") else "▁" + word for i, word in enumerate(words)])
    writer.add_token_types([3] * 5 + [1] * (len(words) - 5))
    for add, token in ((writer.add_bos_token_id, 2), (writer.add_sep_token_id, 3), (writer.add_unk_token_id, 1),
                       (writer.add_pad_token_id, 0), (writer.add_mask_token_id, 4)):
        add(token)
    finish(writer)
    oracle = tokenizer_sources.transformers_oracle(os.path.join(OUT, "files_bert"), True)
    # Words of more than 100 characters are unknown only to BERT.
    texts = [text for text in TEXTS + EXTRA if all(len(word) <= 100 for word in text.split())]
    tokenizer_sources.write_json(path, "cases.json", {
        "add_special_tokens": True, "cases": [{"text": text, "ids": oracle(text)} for text in texts]})


def make_fuzz_corpus():
    corpus = os.path.join(OUT, "..", "..", "..", "fuzz", "corpus")
    seeds = {
        "sentencepiece": [(b"\0", "spm_bpe/tokenizer.model"), (b"\1", "spm_bpe/tokenizer.model"),
                          (b"\0", "spm_unigram/tokenizer.model"), (b"\3", "spm_unigram_plain/tokenizer.model")],
        "rank_file": [(b"\1", "tiktoken/o200k_base.tiktoken"), (b"\0", "tekken/tekken.json")],
        "gguf_vocabulary": [(b"", name + "/vocabulary.gguf") for name in ("gguf_llama", "gguf_gpt2", "gguf_bert")],
        "tokenizer_json": [(b"", "json_unigram/tokenizer.json")],
    }
    for target, files in seeds.items():
        os.makedirs(os.path.join(corpus, target), exist_ok=True)
        for number, (head, name) in enumerate(files):
            with open(os.path.join(OUT, name), "rb") as file, \
                    open(os.path.join(corpus, target, f"source{number}"), "wb") as out:
                out.write(head + file.read())


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    bpe = make_sentencepiece()
    make_transformers(bpe)
    model = byte_level_bpe()
    make_vocabulary_files(model)
    make_ranks(model)
    make_gguf(bpe, model)
    make_bert()
    make_fuzz_corpus()


if __name__ == "__main__":
    main()
