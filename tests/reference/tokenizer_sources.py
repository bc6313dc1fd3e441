"""Tokenizers in every kind of file that Serval reads besides BPE in a tokenizer.json, each with an oracle: a function
from text to ids. They are trained or converted here, from a seed.

    import tokenizer_sources
    for source in tokenizer_sources.build(folder, data): source.name, source.path, source.encode(text)
"""
import argparse
import base64
import json
import os
import random
import shutil
from dataclasses import dataclass
from typing import Callable

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

SEED = 20261121
# Letters and marks of many scripts, with what normalization rules change.
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " .,;:!?'\"()[]{}<>/\\|@#$%^&*-_=+~`",
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüýþÿßœšžłđ", "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώ", "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "אבגדהוזחטיכלמנסעפצקרשת", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศสหอฮะาิีึืุูเแโใไ", "あいうえおかきくけこさしすせそたちつてとなにぬねの", "アイウエオカキクケコガギグゲゴパピプペポ",
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从",
    "가각간갈감갑강개객거건걸검게겨격견결경계고곡", "\u0300\u0301\u0302\u0303\u0308\u0327\u0323\u093e\u094d\u0e31\u0e34\u20d0\ufe0f\u200d\u200c",
    "ﬁﬂﬀ①②③½¼ⅣⅷºªµÅΩ℡™㎏㍿ﾊﾟｶﾞｱｲｳＡＢｃ１２３～！？", "😀😂🤣👍🏽👩🇩🇪❤⚡☃★→∀∑√≤", "\u00a0\u3000\u2003\u200b\u00ad\ufeff\u2028\u0085\u1680\t",
    "\x01\x1f\x7f\u0600\u0605\u180e\ufffd\ue000\U0010ffff\u0378", "ᄀᄁ각ᆫ각ힰퟋ", "ｷﾞｸﾞゞヾ㌀㋿\u3099\u309a",
]


def torture_lines(count, seed=SEED):
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        words = []
        for _ in range(rng.randint(1, 12)):
            alphabets = [rng.choice(ALPHABETS) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            words.append("".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 40]))))
        lines.append(rng.choice([" ", " ", "  ", "", "\u3000"]).join(words))
        if rng.random() < 0.1:
            lines[-1] = " " * rng.randint(1, 5) + lines[-1] + " " * rng.randint(0, 5)
        if rng.random() < 0.05:
            lines[-1] = rng.choice(["a", "ab", "é", "的", "!", "ааб"]) * rng.randint(20, 300)
    return lines


def data_lines(data):
    """Texts of the shared datasets."""
    lines = []
    for name in ("tinyshakespeare/input.txt", "wikitext-2/valid.txt", "tinystories/tinystories_sample.txt"):
        lines += open(os.path.join(data, "datasets", name), encoding="utf-8").read().split("\n")
    for name in ("gsm8k/train.jsonl", "gsm8k/test.jsonl"):
        for row in open(os.path.join(data, "datasets", name), encoding="utf-8"):
            lines += [text for text in json.loads(row).values() if isinstance(text, str)]
    for name in ("alpaca_en_demo", "dpo_en_demo", "kto_en_demo", "glaive_toolcall_en_demo", "identity"):
        text = open(os.path.join(data, "datasets", "llama-factory", name + ".json"), encoding="utf-8").read()
        lines += strings_of(json.loads(text))
    # Long texts line by line, short ones with their newlines.
    return [part for text in lines for part in ([text] if len(text) < 300 else text.split("\n")) if part]


def strings_of(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [text for part in value for text in strings_of(part)] if not isinstance(value, (int, float, bool, type(None))) else []


O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
TEKKEN = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"\p{N}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def regex(pattern):
    from tokenizers import Regex
    return Regex(pattern)


def byte_characters():
    """GPT-2's character of each byte, by character."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(others)}}


@dataclass
class Source:
    name: str
    path: str
    encode: Callable[[str], list]
    special: bool = False  # whether the oracle adds what the tokenizer adds around a text
    skip: tuple = ()  # texts with these special tokens are left out: the oracle does not look for them


def train_sentencepiece(folder, name, lines, **options):
    path = os.path.join(folder, name)
    if os.path.exists(os.path.join(path, "tokenizer.model")):
        return path
    os.makedirs(path, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=os.path.join(path, "tokenizer"), minloglevel=2, num_threads=1,
        hard_vocab_limit=False, input_sentence_size=0, **options)
    os.remove(os.path.join(path, "tokenizer.vocab"))
    return path


def sentencepiece_oracle(path):
    processor = sentencepiece.SentencePieceProcessor(model_file=os.path.join(path, "tokenizer.model"))
    return lambda text: processor.encode(text)


def transformers_oracle(path, special=False):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(path)
    return lambda text: tokenizer.encode(text, add_special_tokens=special)


def write_json(folder, name, value):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False)


def unigram_json(folder, name, model_path, byte_fallback, whole_text):
    """The model's pieces and rules as a tokenizer.json with Precompiled and Unigram."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(open(os.path.join(model_path, "tokenizer.model"), "rb").read())
    tokenizer = Tokenizer(models.Unigram([(p.piece, p.score) for p in proto.pieces], proto.trainer_spec.unk_id,
                                         byte_fallback))
    if proto.normalizer_spec.precompiled_charsmap:
        tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=not whole_text)
    tokenizer.decoder = decoders.Metaspace()
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    tokenizer.save(os.path.join(path, "tokenizer.json"))
    # As read from the file: the package does not always read the score that it wrote.
    tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    return Source(name, path, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)


def build_sentencepiece(folder, lines, data):
    sources = []
    kinds = {
        "spm-unigram-nmt": dict(model_type="unigram", vocab_size=4000, normalization_rule_name="nmt_nfkc", character_coverage=0.999),
        "spm-unigram-bytes": dict(model_type="unigram", vocab_size=3000, byte_fallback=True, character_coverage=0.98,
                                  normalization_rule_name="nfkc_cf", user_defined_symbols="<sep>,▁of▁the,XYZ"),
        "spm-unigram-t5": dict(model_type="unigram", vocab_size=3000, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                               normalization_rule_name="nmt_nfkc", character_coverage=0.99),
        "spm-unigram-identity": dict(model_type="unigram", vocab_size=2000, normalization_rule_name="identity",
                                     remove_extra_whitespaces=False, character_coverage=0.99),
        "spm-bpe-bytes": dict(model_type="bpe", vocab_size=4000, byte_fallback=True, normalization_rule_name="identity",
                              remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
                              character_coverage=0.98),
        "spm-bpe-nmt": dict(model_type="bpe", vocab_size=3000, normalization_rule_name="nmt_nfkc", character_coverage=0.99,
                            user_defined_symbols="<sep>,XYZ,XY"),
        "spm-bpe-suffix": dict(model_type="bpe", vocab_size=2000, treat_whitespace_as_suffix=True, character_coverage=0.99),
        "spm-bpe-no-prefix": dict(model_type="bpe", vocab_size=2000, add_dummy_prefix=False, byte_fallback=True,
                                  character_coverage=0.99),
    }
    for name, options in kinds.items():
        path = train_sentencepiece(folder, name, lines, **options)
        sources.append(Source(name, path, sentencepiece_oracle(path), skip=("<s>", "</s>")))
    unigrams = [source for source in sources if "unigram" in source.name]
    for source in unigrams:
        sources.append(unigram_json(folder, source.name.replace("spm", "json"), source.path, "bytes" in source.name, False))
    sources.append(unigram_json(folder, "json-unigram-whole", unigrams[0].path, False, True))
    return sources


def build_transformers_sentencepiece(folder, sources, data):
    """The same models under the classes of transformers."""
    by_name = {source.name: source for source in sources}
    result = []
    cases = [
        ("LlamaTokenizer", "spm-bpe-bytes", {}), ("LlamaTokenizer", "spm-bpe-bytes", {"legacy": True, "add_bos_token": True}),
        ("LlamaTokenizer", "spm-bpe-bytes", {"add_prefix_space": False, "add_bos_token": True, "add_eos_token": True,
                                              "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}),
        ("GemmaTokenizer", "spm-bpe-bytes", {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}),
        ("T5Tokenizer", "spm-unigram-t5", {}),
    ]
    llama2 = os.path.join(data, "tokenizers", "llama2")
    if os.path.isdir(llama2):
        cases += [("LlamaTokenizer", llama2, None)]
    for number, (name, model, config) in enumerate(cases):
        base = by_name[model].path if model in by_name else model
        path = os.path.join(folder, f"hf-{name}-{number}")
        os.makedirs(path, exist_ok=True)
        shutil.copy(os.path.join(base, "tokenizer.model"), os.path.join(path, "tokenizer.model"))
        if name == "T5Tokenizer":
            os.rename(os.path.join(path, "tokenizer.model"), os.path.join(path, "spiece.model"))
        if config is None:
            shutil.copy(os.path.join(base, "tokenizer_config.json"), path)
        else:
            write_json(path, "tokenizer_config.json", {"tokenizer_class": name, **config})
        write_json(path, "config.json", {"model_type": {"G": "gemma", "T": "t5"}.get(name[0], "llama")})
        result.append(Source(os.path.basename(path), path, transformers_oracle(path, True), True))
    return result


def copy_files(source, folder, names):
    os.makedirs(folder, exist_ok=True)
    for name in names:
        if os.path.exists(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), folder)


def json_oracle(path):
    tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def build_vocabulary_files(folder, data):
    sources = []
    gpt2 = os.path.join(data, "tokenizers", "gpt2")
    for name, tokenizer_class, model_type in (("files-gpt2", "GPT2Tokenizer", "gpt2"), ("files-neox", "GPTNeoXTokenizer", "gpt_neox"),
                                              ("files-cohere", "CohereTokenizer", "cohere"),
                                              ("files-roberta", "RobertaTokenizer", "roberta")):
        path = os.path.join(folder, name)
        copy_files(gpt2, path, ["vocab.json", "merges.txt"])
        config = {"tokenizer_class": tokenizer_class}
        if model_type == "roberta":
            config.update({"cls_token": "<|endoftext|>", "sep_token": "<|endoftext|>"})
        write_json(path, "tokenizer_config.json", config)
        write_json(path, "config.json", {"model_type": model_type})
        sources.append(Source(name, path, transformers_oracle(path, True), True))
    # The class of transformers does not take these two files, so it is put together here.
    path = os.path.join(folder, "files-qwen3.5")
    copy_files(gpt2, path, ["vocab.json", "merges.txt"])
    write_json(path, "config.json", {"model_type": "qwen3_5"})
    qwen35 = Tokenizer(models.BPE.from_file(os.path.join(path, "vocab.json"), os.path.join(path, "merges.txt")))
    qwen35.normalizer = normalizers.NFC()
    qwen35.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(regex(QWEN35), "isolated"),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    qwen35.add_special_tokens(["<|endoftext|>"])
    sources.append(Source("files-qwen3.5", path, lambda text: qwen35.encode(text).ids))
    qwen = os.path.join(data, "tokenizers", "qwen2.5")
    path = os.path.join(folder, "files-qwen2.5")
    copy_files(qwen, path, ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
    sources.append(Source("files-qwen2.5", path, json_oracle(qwen)))
    return sources


def build_rank_files(folder, data):
    import tiktoken
    import tiktoken_ext.openai_public as openai
    from tiktoken.load import load_tiktoken_bpe
    llama3 = os.path.join(data, "tokenizers", "llama3")
    file = os.path.join(llama3, "tokenizer.model")
    path = os.path.join(folder, "tiktoken-llama3")
    copy_files(llama3, path, ["tokenizer.model", "tokenizer_config.json"])
    sources = [Source("tiktoken-llama3", path, json_oracle(llama3))]
    # The ranks are Llama 3's under other names: what is compared is how the text is cut.
    ranks = load_tiktoken_bpe(file)
    kimi = KIMI
    pattern_of = {
        "r50k_base": openai.r50k_pat_str, "cl100k_base": source_pattern(openai.cl100k_base), "o200k_base": O200K,
        "qwen": LLAMA3.replace("{1,3}", ""), "kimi": kimi,
    }
    for name, pattern in pattern_of.items():
        path = os.path.join(folder, "tiktoken-" + name)
        os.makedirs(path, exist_ok=True)
        shutil.copy(file, os.path.join(path, name + ".tiktoken"))
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        if name == "qwen":
            import unicodedata
            encode = lambda text, encoding=encoding: encoding.encode_ordinary(unicodedata.normalize("NFC", text))
        else:
            encode = encoding.encode_ordinary
        sources.append(Source("tiktoken-" + name, path, encode, skip=("<|endoftext|>",)))
    path = os.path.join(folder, "tekken")
    special = [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(["<unk>", "<s>", "</s>"])]
    by_rank = sorted(ranks.items(), key=lambda pair: pair[1])
    write_json(path, "tekken.json", {
        "config": {"pattern": TEKKEN, "num_vocab_tokens": len(ranks), "default_vocab_size": 100_000 + 1000,
                   "default_num_special_tokens": 1000, "version": "v7"},
        "vocab": [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None} for token, rank in by_rank],
        "special_tokens": special})
    encoding = tiktoken.Encoding("tekken", pat_str=TEKKEN, special_tokens={},
                                 mergeable_ranks={token: rank for token, rank in ranks.items() if rank < 100_000})
    sources.append(Source("tekken", path, lambda text: [i + 1000 for i in encoding.encode_ordinary(text)], skip=("<unk>", "<s>", "</s>")))
    return sources


def source_pattern(constructor):
    """The pat_str of one of tiktoken's encodings, without fetching its ranks."""
    import inspect
    import re
    return re.search(r'"pat_str": r"""(.*?)"""', inspect.getsource(constructor)).group(1)


def build_bert(folder, lines):
    from tokenizers import trainers
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=8000, limit_alphabet=600, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    words = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    sources = []
    for name, config in (("files-bert", {}), ("files-bert-cased", {"do_lower_case": False})):
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "vocab.txt"), "w", encoding="utf-8") as out:
            out.write("\n".join(words) + "\n")
        write_json(path, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})
        write_json(path, "config.json", {"model_type": "bert"})
        sources.append(Source(name, path, transformers_oracle(path, True), True))
    return sources


def build_gguf(folder, sources, data):
    import gguf
    result = []
    vocabularies = os.path.join(data, "tokenizers", "ggml-vocab")
    llama2 = os.path.join(data, "tokenizers", "llama2")
    gpt2 = os.path.join(folder, "files-gpt2")
    result.append(Source("gguf-llama-spm", os.path.join(vocabularies, "ggml-vocab-llama-spm.gguf"), sentencepiece_oracle(llama2), skip=("<unk>", "<s>", "</s>")))
    result.append(Source("gguf-gpt-2", os.path.join(vocabularies, "ggml-vocab-gpt-2.gguf"), transformers_oracle(gpt2)))
    # llama.cpp adds scores in f64, as the Unigram model of tokenizers does; SentencePiece writes the text.
    base = {source.name: source for source in sources}["spm-unigram-nmt"].path
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(open(os.path.join(base, "tokenizer.model"), "rb").read())
    path = os.path.join(folder, "gguf-t5", "vocabulary.gguf")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    writer = gguf.GGUFWriter(path, "t5")
    writer.add_tokenizer_model("t5")
    writer.add_token_list([piece.piece for piece in proto.pieces])
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types([piece.type for piece in proto.pieces])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)
    writer.add_unk_token_id(proto.trainer_spec.unk_id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    processor = sentencepiece.SentencePieceProcessor(model_file=os.path.join(base, "tokenizer.model"))
    hidden = [piece.piece for piece in proto.pieces if piece.type != 1]
    unigram = Tokenizer(models.Unigram([(p.piece if p.type == 1 else chr(0x100000 + i), p.score if p.type == 1 else 0.0)
                                        for i, p in enumerate(proto.pieces)], proto.trainer_spec.unk_id, False))
    assert hidden
    result.append(Source("gguf-t5", path, lambda text: unigram.encode(processor.normalize(text)).ids, skip=("<unk>", "<s>", "</s>")))
    return result


KIMI = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def build(folder, data, lines, only=""):
    sources = build_sentencepiece(folder, lines, data)
    sources += build_transformers_sentencepiece(folder, sources, data)
    sources += build_vocabulary_files(folder, data)
    sources += build_rank_files(folder, data)
    sources += build_bert(folder, lines)
    sources += build_gguf(folder, sources, data)
    return [source for source in sources if only in source.name]


def arguments_and_lines(default_lines):
    """The command line of a comparison over all sources, and the lines to compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("data")
    parser.add_argument("--lines", type=int, default=default_lines)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    every = data_lines(arguments.data)
    every += torture_lines(max(arguments.lines - len(every), arguments.lines // 4))
    return arguments, every[:: max(1, len(every) // arguments.lines)]


def build_for(folder, arguments):
    training = data_lines(arguments.data)[::7] + torture_lines(3000, seed=1)
    return build(folder, arguments.data, training, arguments.only)
