"""Random tokenizer.json files against the `tokenizers` package: every part of such a file, in random combinations over small
vocabularies, with texts made to fit. Ids, offsets and decoded texts must be equal. Exit code 1 where one differs.

    python3 tests/reference/check_tokenizer_configs.py TOKENIZE_TOOL [--configs N] [--texts N] [--seed N] [--keep FOLDER]

Config number N depends on N alone: `--seed N --configs 1` repeats it. --keep FOLDER keeps the files of those that differ.
--write writes tests/fixtures/text/tokenizer_random.json: what once differed, and the first small random files.
"""
import argparse
import base64
import json
import os
import pickle
import random
import re
import resource
import sys
import tempfile

from tokenizers import Tokenizer

import tokenize_tool
import tokenizer_sources

BLANKS = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\r\n", "\u200b"]
LETTERS = ["a", "b", "c", "d", "e", "A", "B", "C", "é", "e\u0301", "É", "ß", "İ", "ﬁ", "你", "好", "か", "ン", "ー", "ᄒ", "한", "ш", "Ω",
           "\u0301", "\u0323", "ก\u0e33", "़", "ǆ", "Å"]
OTHERS = ["1", "2", "٣", "½", "Ⅳ", "!", "'", ".", ",", "-", "_", "▁", "Ġ", "##", "</w>", "<", ">", "|", "[", "]", "$", "+", "😀", "👍🏽", "\x00",
          "\x7f", "\ufffd", "\u2028", "\ufeff", "𝔸", "\U0002f800", "\u00ad", "，", "\u0e33", "~", "^", "`"]
CONTRACTIONS = ["'s", "n't", "'ll", "'RE", " do not", " .", "http", "don't"]
PATTERNS = [r"\s+", r"\p{L}+", r"[a-c]+", r"\d", r"\p{N}{1,2}", r"(?i)ab", r"a|b", r"\w+", r"[^\s\w]+", r"\s+(?!\S)|\s+", r"(?=[A-Z])",
            r"^a", r"b$", r"\b", r"", r"[\p{Lu}\p{M}]+|\p{P}", r"a*", r"(a)(b)?", r"\S\s", r"[[:alpha:]]+", r".", r"\n", r"c{2,}",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
            r"[\p{L}&&[^\p{Han}]]+", r"[^[a-b]c]", r"\p{Han}+|\p{Hiragana}", r"(?<=a)b", r"[^\p{L}]", r"\h+", r"\R",
            r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+", r"(?x) a b # c", r"a(?i)b|c", r"\B", r"(?m)^.", r"[\w&&[^_]]",
            "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"]
EMPTY_MATCHES = [r"(?=[A-Z])", r"\b", r"\B", "", "a*"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def byte_alphabet():
    """The 256 characters that stand for bytes, by byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


BYTES = byte_alphabet()


class Maker:
    def __init__(self, seed, charsmaps):
        self.rng = random.Random(seed)
        self.charsmaps = charsmaps
        rng = self.rng
        self.units = rng.sample(LETTERS, rng.randint(4, 14)) + rng.sample(OTHERS, rng.randint(2, 10)) + [" "] + rng.sample(
            BLANKS, rng.randint(0, 3)) + rng.sample(CONTRACTIONS, rng.randint(0, 2))
        self.added = []

    def chance(self, p=0.5):
        return self.rng.random() < p

    def text(self, most=8):
        return "".join(self.rng.choice(self.units) for _ in range(self.rng.randint(1, most)))

    def pattern(self, may_be_empty=True):
        """Empty matches of a normalizer mix up the package's offsets, and what later steps cut with them."""
        if self.chance(0.6):
            return {"String": self.rng.choice([" ", self.rng.choice(self.units), self.text(2), "▁", "a", "  "] + [""] * may_be_empty)}
        return {"Regex": self.rng.choice([p for p in PATTERNS if may_be_empty or p not in EMPTY_MATCHES])}

    def normalizer(self, depth=0):
        rng = self.rng
        kind = rng.choice(["BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Sequence", "Lowercase", "Nmt",
                           "Precompiled", "Replace", "Replace", "Prepend", "ByteLevel"] + ([] if depth else ["Sequence"] * 5))
        value = {"type": kind}
        if kind == "BertNormalizer":
            value.update(clean_text=self.chance(), handle_chinese_chars=self.chance(), strip_accents=rng.choice([None, True, False]),
                         lowercase=self.chance())
        elif kind == "Strip":
            value.update(strip_left=self.chance(), strip_right=self.chance())
        elif kind == "Precompiled":
            value.update(precompiled_charsmap=rng.choice(self.charsmaps))
        elif kind == "Replace":
            value.update(pattern=self.pattern(False), content=rng.choice(["", " ", "▁", self.text(2), "aa"]))
        elif kind == "Prepend":
            value.update(prepend=rng.choice(["▁", " ", self.text(2)]))  # an empty one makes a mess of the package's offsets
        elif kind == "Sequence":
            value.update(normalizers=[self.normalizer(depth + 1) for _ in range(rng.randint(0, 4))] if depth < 2 else [])
        return value

    def pre_tokenizer(self, depth=0):
        rng = self.rng
        kind = rng.choice(["BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Metaspace", "Whitespace", "WhitespaceSplit",
                           "Split", "Split", "Split", "Punctuation", "Digits", "UnicodeScripts", "FixedLength"] + ["Sequence"] * (4 - 2 * depth))
        value = {"type": kind}
        if kind == "ByteLevel":
            value.update(add_prefix_space=self.chance(), trim_offsets=self.chance(), use_regex=self.chance(0.7))
        elif kind == "CharDelimiterSplit":
            value.update(delimiter=rng.choice([u for u in self.units if len(u) == 1]))
        elif kind == "Metaspace":
            value.update(replacement=rng.choice(["▁", "▁", "_", "a", "Ġ"]), prepend_scheme=rng.choice(["first", "never", "always"]),
                         split=self.chance())
        elif kind == "Split":
            value.update(pattern=self.pattern(), behavior=rng.choice(BEHAVIORS), invert=self.chance(0.3))
        elif kind == "Punctuation":
            value.update(behavior=rng.choice(BEHAVIORS))
        elif kind == "Digits":
            value.update(individual_digits=self.chance())
        elif kind == "FixedLength":
            value.update(length=rng.randint(1, 6))
        elif kind == "Sequence":
            value.update(pretokenizers=[self.pre_tokenizer(depth + 1) for _ in range(rng.randint(0, 3))])
        return value

    def special_name(self):
        return self.rng.choice(self.special)

    def post_processor(self, depth=0):
        rng = self.rng
        kind = rng.choice(["RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing", "TemplateProcessing"] +
                          ["Sequence"] * (1 - depth))
        value = {"type": kind}
        if kind in ("RobertaProcessing", "BertProcessing"):
            value.update(sep=self.special_name(), cls=self.special_name())
        if kind == "RobertaProcessing":
            value.update(trim_offsets=self.chance(), add_prefix_space=self.chance())
        elif kind == "ByteLevel":
            value.update(add_prefix_space=self.chance(), trim_offsets=self.chance(), use_regex=self.chance())
        elif kind == "TemplateProcessing":
            names = [self.special_name() for _ in range(rng.randint(0, 3))]
            single = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in names]
            single.insert(rng.randint(0, len(single)), {"Sequence": {"id": "A", "type_id": 0}})
            value.update(single=single, pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                         special_tokens={name: {"id": name, "ids": [id] * rng.choice([1, 1, 2]), "tokens": [name]} for name, id in names})
            for token in value["special_tokens"].values():
                token["tokens"] = token["tokens"] * len(token["ids"])
        elif kind == "Sequence":
            value.update(processors=[self.post_processor(1) for _ in range(rng.randint(1, 3))])
        return value

    def decoder(self, depth=0):
        rng = self.rng
        kind = rng.choice(["BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Replace", "Fuse", "Strip", "ByteFallback"] +
                          ["Sequence"] * (8 - 4 * depth))
        value = {"type": kind}
        if kind == "BPEDecoder":
            value.update(suffix=rng.choice(["</w>", "", "a", self.text(1)]))
        elif kind == "ByteLevel":
            value.update(add_prefix_space=self.chance(), trim_offsets=self.chance(), use_regex=self.chance())
        elif kind == "WordPiece":
            value.update(prefix=rng.choice(["##", "", "a"]), cleanup=self.chance())
        elif kind == "Metaspace":
            value.update(replacement=rng.choice(["▁", "_", "a"]), prepend_scheme=rng.choice(["first", "never", "always"]), split=self.chance())
        elif kind == "CTC":
            value.update(pad_token=rng.choice(["a", "<pad>", self.text(1)]), word_delimiter_token=rng.choice(["|", " ", self.text(1)]),
                         cleanup=self.chance())
        elif kind == "Replace":
            value.update(pattern=self.pattern(), content=rng.choice(["", " ", self.text(2)]))
        elif kind == "Strip":
            value.update(content=rng.choice([" ", "▁", "a", "é"]), start=rng.randint(0, 2), stop=rng.randint(0, 2))
        elif kind == "Sequence":
            value.update(decoders=[self.decoder(depth + 1) for _ in range(rng.randint(0 if depth else 1, 4))])
        return value

    def base_tokens(self):
        """Characters that the vocabulary knows, and the fallback and byte tokens it may have."""
        rng = self.rng
        characters = sorted({c for unit in self.units for c in unit} | set("ab c▁Ġ"))
        known = [c for c in characters if self.chance(0.85)]
        style = rng.choice(["plain", "bytes", "bytes", "fallback", "some-fallback"])
        if style == "bytes":
            known = list(BYTES) if self.chance(0.8) else [c for c in BYTES if self.chance(0.97)]
            if self.chance(0.3):
                known += [c for c in characters if c not in known and self.chance(0.5)]
        elif style == "fallback":
            known += [f"<0x{b:02X}>" for b in range(256)]
        elif style == "some-fallback":
            known += [f"<0x{b:02X}>" for b in range(256) if self.chance(0.6)]
        return style, known

    def spelled(self, text, style):
        return "".join(BYTES[b] for b in text.encode()) if style == "bytes" else text.replace(" ", self.rng.choice([" ", "▁", "▁"]))

    def bpe(self):
        rng = self.rng
        style, tokens = self.base_tokens()
        prefix = rng.choice(["##", "a"]) if self.chance(0.12) else None
        suffix = rng.choice(["</w>", "b"]) if self.chance(0.15) else None
        if prefix or suffix:
            tokens += [(prefix or "") + t + (suffix or "") for t in tokens if self.chance(0.7)]
            tokens += [(prefix or "") + t for t in tokens[:40] if self.chance(0.7)]
            tokens += [t + (suffix or "") for t in tokens[:40] if self.chance(0.7)]
        tokens = list(dict.fromkeys(tokens))
        merges, seen = [], set()
        spelled = [self.spelled(self.text(5), style) for _ in range(40)]
        for _ in range(rng.randint(0, 120)):
            if self.chance(0.7):  # likely: neighbours in a text
                words = rng.choice(spelled)
                parts = self.parts(words, tokens)
                if len(parts) < 2:
                    continue
                at = rng.randrange(len(parts) - 1)
                left, right = parts[at], parts[at + 1]
                if prefix and prefix + right in tokens:
                    right = prefix + right
            else:
                left, right = rng.choice(tokens), rng.choice(tokens)
            if (left, right) in seen or len(left + right) > 24 or (prefix and len(right) < len(prefix)):
                continue
            if prefix and not right.startswith(prefix):
                continue
            seen.add((left, right))
            merges.append((left, right))
            merged = left + right[len(prefix or ""):]
            if merged not in tokens:
                tokens.append(merged)
        rng.shuffle(merges)
        if self.chance(0.3):
            tokens += [t for t in {self.spelled(self.text(4), style) for _ in range(6)} if t not in tokens]
        unk = rng.choice([None, "<unk>", "<unk>"])
        if unk:
            tokens.append(unk)
        lines = all(" " not in t for pair in merges for t in pair) and self.chance(0.5)
        return tokens, {"type": "BPE", "dropout": None, "unk_token": unk, "continuing_subword_prefix": prefix, "end_of_word_suffix": suffix,
                        "fuse_unk": self.chance(), "byte_fallback": not (prefix or suffix) and ("fallback" in style or self.chance(0.1)), "ignore_merges": self.chance(0.3),
                        "merges": [f"{a} {b}" if lines else [a, b] for a, b in merges]}

    def parts(self, text, tokens):
        """The text in tokens, the longest first."""
        parts = []
        while text:
            for end in range(min(len(text), 6), 0, -1):
                if text[:end] in tokens:
                    break
            parts.append(text[:end])
            text = text[end:]
        return [p for p in parts if p in tokens]

    def unigram(self):
        rng = self.rng
        style, tokens = self.base_tokens()
        tokens += [self.spelled(self.text(4), style) for _ in range(rng.randint(0, 60))]
        tokens = list(dict.fromkeys(t for t in tokens if t))
        scores = rng.choice([[-1.0, -2.0, -3.0], [-1.5], [-0.1 * i for i in range(1, 90)]])
        vocab = [[t, rng.choice(scores)] for t in tokens]
        unk = None
        if self.chance(0.9):
            unk = rng.randint(0, len(vocab))
            vocab.insert(unk, ["<unk>", 0.0])
        return [t for t, _ in vocab], {"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": "fallback" in style}

    def words(self, piece):
        rng = self.rng
        style, tokens = self.base_tokens()
        prefix = rng.choice(["##", "##", "", "a"])
        tokens = [t for t in tokens if self.chance(0.8)]
        tokens += [self.spelled(self.text(4), style) for _ in range(rng.randint(10, 80))]
        if piece:
            tokens += [prefix + t for t in tokens if self.chance(0.6)]
        tokens = list(dict.fromkeys(tokens + ["<unk>"]))
        if piece:
            return tokens, {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": prefix,
                            "max_input_chars_per_word": rng.choice([3, 10, 100, 100])}
        return tokens, {"type": "WordLevel", "unk_token": "<unk>"}

    def added_tokens(self, tokens, ids):
        """Added tokens in the order of their ids, as the package writes them; some are in the vocabulary too."""
        rng = self.rng
        contents = ["<s>", "</s>", "[CLS]", "<pad>"][:rng.randint(1, 4)]
        if "<unk>" in tokens and self.chance(0.8):
            contents.append("<unk>")
        for _ in range(rng.choice([0, 1, 3, 8])):
            contents.append(rng.choice([self.text(3), self.text(1), rng.choice(tokens), "<x>", "<x><y>", " <z>", "ab", "abc", "  ", "é", "AB", "\n"]))
        contents = [c for c in dict.fromkeys(contents) if c]
        result, next_id = [], len(tokens)
        for content in contents:
            if content in ids:
                id = ids[content]
            else:
                id, next_id = next_id, next_id + 1
            special = content in ("<s>", "</s>", "[CLS]", "<pad>", "<unk>") or self.chance(0.3)
            result.append({"id": id, "content": content, "single_word": self.chance(0.2), "lstrip": self.chance(0.25), "rstrip": self.chance(0.25),
                           "normalized": self.chance(0.2 if special else 0.6), "special": special})
        result.sort(key=lambda token: token["id"])
        if self.chance(0.1):  # the package does not care what ids the file gives
            for token in result:
                token["id"] += rng.choice([0, 3, 40])
            result.append({**rng.choice(result), "lstrip": True, "special": self.chance()})
        return result

    def config(self):
        rng = self.rng
        kind = rng.choice(["bpe", "bpe", "bpe", "unigram", "unigram", "wordpiece", "wordlevel"])
        tokens, model = {"bpe": self.bpe, "unigram": self.unigram, "wordpiece": lambda: self.words(True), "wordlevel": lambda: self.words(False)}[kind]()
        ids = {token: i for i, token in enumerate(tokens)}
        if kind != "unigram":
            model["vocab"] = ids
        added = self.added_tokens(tokens, ids)
        self.special = [[t["content"], t["id"]] for t in added]
        self.added = [t["content"] for t in added]
        maybe = lambda make, p: make() if self.chance(p) else None
        config = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": maybe(self.normalizer, 0.65),
                  "pre_tokenizer": maybe(self.pre_tokenizer, 0.8), "post_processor": maybe(self.post_processor, 0.7),
                  "decoder": maybe(self.decoder, 0.85), "model": model}
        if tokens[:3] == BYTES[:3] and self.chance(0.6):  # what a vocabulary of bytes is meant for
            byte = {"type": "ByteLevel", "add_prefix_space": self.chance(), "trim_offsets": self.chance(), "use_regex": self.chance()}
            config["pre_tokenizer"] = byte if config["pre_tokenizer"] is None or self.chance(0.3) else {
                "type": "Sequence", "pretokenizers": [config["pre_tokenizer"], byte]}
        return config

    def texts(self, count):
        rng = self.rng
        out = ["", " ", "a", "ab  c", rng.choice(self.added), " ".join(self.added)]
        while len(out) < count:
            parts = []
            for _ in range(rng.randint(1, 8)):
                kind = rng.randrange(8)
                if kind < 4:
                    parts.append(self.text(6))
                elif kind == 4:
                    parts.append(rng.choice(self.added))
                elif kind == 5:
                    parts.append(rng.choice(BLANKS + CONTRACTIONS))
                elif kind == 6:
                    parts.append(rng.choice(LETTERS + OTHERS))
                else:
                    parts.append(self.text(1) * rng.choice([2, 5, 40]))
            out.append("".join(parts))
        return out[:count]


def file_with(model, added=(), **parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added),
            **{key: parts.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}, "model": model}


def token(id, content, **flags):
    return {"id": id, "content": content, **{key: bool(flags.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}}


def words(text, **more):
    return {"type": "WordLevel", "unk_token": "<unk>", "vocab": {word: i for i, word in enumerate(["<unk>", *text.split("/")])}, **more}


def once_wrong():
    """Files and texts that Serval read otherwise than the package once."""
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"a": {"id": "a", "ids": [1, 2], "tokens": ["a", "b"]}}}
    bert, roberta = ({"type": kind, "sep": ["b", 2], "cls": ["c", 3]} for kind in ("BertProcessing", "RobertaProcessing"))
    roberta.update(trim_offsets=True, add_prefix_space=False)
    trim = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
    twice = {**template, "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2}
    for parts in ([template, bert], [template, roberta], [template, template], [twice], [template, roberta, trim]):
        yield (file_with(words("a/b/c"), pre_tokenizer={"type": "WhitespaceSplit"}, post_processor={"type": "Sequence", "processors": parts}),
               ["", "a", "a c b", " b x"])
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [["<unk>", 0.0], ["a", -1.0], ["$", -5.4], ["$$$", -3.8000000000000003]]}
    yield file_with(unigram, pre_tokenizer={"type": "FixedLength", "length": 3}, post_processor=trim), [" ", "a  ", "ab c d  ", "\u00a0é a"]
    yield file_with(unigram), ["$$$$$", "$" * 40, "a$$$$$$$"]
    yield file_with({**unigram, "unk_id": None, "vocab": [["a", -1.0], ["ab", -1.5]]}), ["ab", "aab"]
    yield (file_with(words("a/b"), [token(3, "<s>", rstrip=True, special=True), token(4, " <z>", lstrip=True)], post_processor=trim,
                     pre_tokenizer={"type": "WhitespaceSplit"}), ["<s>    <z> a", "a   <z><s>  <z>", " <z>"])
    yield (file_with(words("a/b"), [token(40, "<x>", special=True), token(40, "<y>", normalized=True), token(7, "a"), token(3, "<x>", lstrip=True)],
                     pre_tokenizer={"type": "WhitespaceSplit"}), ["<x><y>a", "b  <x>", "<y> a b"])
    yield (file_with(words("a/b"), [token(3, "AB", normalized=True), token(4, "É", special=True), token(5, "é", normalized=True)],
                     normalizer={"type": "Lowercase"}, pre_tokenizer={"type": "WhitespaceSplit"}), ["ab AB É é", "a b"])
    for pattern in (r"(?m)a.", r"\bé", r"\B", r"(a(?i)b|c)d|e", r"[\w&&[^_b]]+", r"[^[^a]b]", r"(?x) a b # c", r"[\p{L}&&[^\p{Han}]]+|\v", r"[a-c[^\p{L}]]+"):
        yield (file_with(words("a/b/ "), pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                         decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"Regex": pattern}, "content": "_"}]}),
               ["a\nab a_b", "aBd Cd cD abd aCde", "é é́ éa ￡é", "你好ab漢_字 1\x0b2", ""])
    yield (file_with({"type": "BPE", "unk_token": None, "byte_fallback": False, "vocab": {"a": 0, "▁": 1, "▁a": 2}, "merges": ["▁ a"]}),
           ["a▁a", "axxx▁a▁xa▁a"])


def write_fixture(maps):
    files = []
    for config, texts in once_wrong():
        files.append((config, texts))
    for number in range(100):
        maker = Maker(number, maps)
        config = maker.config()
        if len(files) < 42 and "precompiled" not in json.dumps(config) and len(json.dumps(config)) < 6000:
            files.append((config, [text for text in maker.texts(14) if len(text) < 200][2:]))
    out = []
    for config, texts in files:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)
            file.flush()
            loaded, texts, expected = in_child(lambda: expectations(file.name, texts))
        if loaded and texts:
            out.append({"tokenizer": config, "cases": [
                {"text": text, "ids": row["ids"], "spans": list(zip(row["offsets"][::2], row["offsets"][1::2])), "plain": row["plain"],
                 "decoded": row["decoded"], "skipped": row["skipped"]} for text, row in zip(texts, expected)]})
    path = os.path.join(os.path.dirname(__file__), "..", "fixtures", "text", "tokenizer_random.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"files": out}, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def charsmaps():
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    maps = []
    for rule in ("nmt_nfkc", "nfkc_cf"):
        model = sentencepiece.SentencePieceNormalizer(rule_name=rule).serialized_model_proto()
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(model)
        maps.append(base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode())
    return maps


def skips_by_name(tokenizer):
    """The package does not skip special tokens that it looks for in normalized text, since it compares that form."""
    return not any(t.normalized and tokenizer.normalizer is not None
                   and tokenizer.normalizer.normalize_str(t.content) != t.content for t in tokenizer.get_added_tokens_decoder().values())


def expectation(tokenizer, text, skips):
    starts = [0]
    for character in text:
        starts.append(starts[-1] + len(character.encode()))
    special = tokenizer.encode(text)
    return {"ids": special.ids, "offsets": [x for a, b in special.offsets for x in (starts[a], starts[b])],
            "plain": tokenizer.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(special.ids, skip_special_tokens=False),
            "skipped": tokenizer.decode(special.ids, skip_special_tokens=True) if skips else None}


def expectations(path, all_texts):
    try:
        tokenizer = Tokenizer.from_file(path)
    except BaseException:
        return False, [], []
    skips = skips_by_name(tokenizer)
    texts, expected = [], []
    if tokenizer.normalizer is not None:
        looked_for = [tokenizer.normalizer.normalize_str(t.content) for t in tokenizer.get_added_tokens_decoder().values() if t.normalized]
        # The package finds an empty one between any two characters, and which of two equal ones it finds changes from run to run.
        if "" in looked_for or len(set(looked_for)) < len(looked_for):
            return False, [], []
    for text in all_texts:
        try:
            expected.append(expectation(tokenizer, text, skips))
            texts.append(text)
        except BaseException:  # a word without a token, or a panic of the package
            pass
    return True, texts, expected


def in_child(work):
    """Some files make the package eat all memory, and an aborted allocation ends its process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the package's panics print
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        try:
            with os.fdopen(write, "wb") as out:
                out.write(pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else (False, [], [])


def serval(tool, path, texts, folder):
    try:
        rows = tokenize_tool.rows_of(tool, path, texts, folder, {**os.environ, "OMP_NUM_THREADS": "1"})
    except tokenize_tool.ToolError as error:
        return None, str(error)
    return [vars(row) for row in rows], ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", nargs="?")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--configs", type=int, default=3000)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    maps = charsmaps()
    if arguments.write:
        return write_fixture(maps)
    pairs = refused = wrong = unloaded = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.seed, arguments.seed + arguments.configs):
            maker = Maker(number, maps)
            config = maker.config()
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w", encoding="utf-8") as out:
                json.dump(config, out, ensure_ascii=False)
            loaded, texts, expected = in_child(lambda: expectations(path, maker.texts(arguments.texts)))
            if not loaded:
                unloaded += 1
                continue
            refused += arguments.texts - len(texts)
            rows, error = serval(arguments.tool, path, texts, folder)
            pairs += len(texts)
            failures = []
            if rows is None:
                failures.append(error)
            else:
                for text, want, row in zip(texts, expected, rows):
                    different = [key for key in want if want[key] is not None and want[key] != row[key]]
                    if different:
                        at = next((i for i, (a, b) in enumerate(zip(want[different[0]], row[different[0]])) if a != b), 0)
                        failures.append((different, text, f"from {at}", *(side[different[0]][max(0, at - 4):at + 20] for side in (want, row)),
                                         want["ids"][:30]))
            if failures:
                wrong += 1
                if wrong <= arguments.show:
                    config["added_tokens"] = [" ".join(k for k, v in t.items() if v and k not in ("id", "content")) + f" {t['id']} {t['content']!r}" for t in config["added_tokens"]]
                    small = {k: v for k, v in config.items() if k not in ("model", "version", "truncation", "padding")}
                    model = {k: v for k, v in config["model"].items() if k not in ("vocab", "merges")}
                    shown = re.sub(r'"precompiled_charsmap": "[^"]*"', '"..."', json.dumps({**small, "model": model}, ensure_ascii=False))
                    print(f"config {number}: {len(failures)} of {len(texts)} differ\n  {shown}\n  {failures[0]!r}"[:2500], flush=True)
                if arguments.keep:
                    os.makedirs(arguments.keep, exist_ok=True)
                    os.replace(path, os.path.join(arguments.keep, f"{number}.json"))
    print(f"{arguments.configs} random tokenizer.json files ({unloaded} that the package refuses), {pairs} texts "
          f"({refused} more that it refuses): {wrong} files differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
