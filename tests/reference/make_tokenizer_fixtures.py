"""Writes tests/fixtures/text/<name>.json: {"tokenizer": a whole tokenizer.json, "cases": [...]}, the expectations
of the `tokenizers` package (pip install tokenizers). Offsets are given as bytes of the text.

    python3 tests/reference/make_tokenizer_fixtures.py
"""
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = os.path.join(os.path.dirname(__file__), "..", "fixtures", "text")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog didn't mind; it's what they'll do.",
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the sunshine.",
    "def main():\n    print('hello')\n\treturn 12345\n\n\n", "Grüße aus Köln, naïve café, ŒUVRE.",
    "你好,世界。日本語のテキスト。한국어 문장입니다.", "Привет, мир! Γειά σου Κόσμε.", "नमस्ते दुनिया ไทย",
    "In 2024, 1234567 people paid $5.99 (50% off)!!!", "👍🏽 👨‍👩‍👧 🇩🇪 emoji",
] * 3
TEXTS = [
    "", " ", "  ", "\n", "Hello world", " leading", "trailing  ", "a  b   c\t\td", "line\r\nline\n\n\n  indented",
    "I'LL don't WE'RE it'ſ", "1234567890 12 ٣٤٥ Ⅳ ½", "naïve cafe\u0301 e\u0323\u0307 Å \u212b ﬁ", "한국어 \u1112\u1161\u11ab",
    "你好,世界 日本語", "👍🏽👨‍👩‍👧🇩🇪", "नमस्ते ไทย", "İstanbul ΣΑΣ ß", "\u00a0nbsp\u3000wide\u2028sep\u0085",
    "zero\u200bwidth\u180e", "▁under▁score", "Ġ byte Ċ", "<s>x</s> y<s> ", "<0x41> <0x0A>", "a<TOK>b <TOK> c  <TOK>  d",
    "  <L>  x", "x  <R>  y", "<W> a<W> <W>b <W>", "yesterday Yesterday aYesterday", "<S> <S><S>", "!!??..,,--a-b_c",
    "x" * 70 + " " * 40 + "y", "abab" * 30, "\u0f77\u0344\u2126\U0001d15e\u09c7\u09be", "\x00\x01\x7f", "\ufffd\ufeff",
]

# Characters that versions of Unicode disagree about, and stretches of many scripts.
UNICODE = ["\u0378a\u08b5b\u1734\u19da\U0001e94b", "\u2e52\U00010ead\U00011f00\U00031350x", "\u1c89\u1c8a\ua7cb\u0897",
           "\u24b6\u24d0\U0001f130\U0001f170 \xb2\xbd\u2160", "a\u200db\u200cc\u00add", "  ,Ελ\u30fc漢かカ ㄅ한",
           "\u0f0b\u0589\u2010\u301c\ufe58$+<=>^`|~", "e\u0301\u0345\u0334 \u1100\u1161\u11a8\uac00\u11a8 \ufb01\u1e9b\u0323"]
TOKENS = [["hello"], ["un", "##able", "##", "do", "not", "n't", "'s", "."], ["low</w>", "er", "</w>x</w>"],
          ["h", "h", "e", "<pad>", "l", "l", "<pad>", "l", "|", "o"], ["▁a", "▁▁b", "c▁"], ["<0xE4>", "<0xBD>", "<0xA0>", "<0xFF>", "x"],
          ["Ġhe", "llo", "Ċ", "ä", "½ł", "世"], ["hah", "", "hhh", "a b"]]


def case(tokenizer, text, special):
    start = [0]
    for character in text:
        start.append(start[-1] + len(character.encode()))
    encoding = tokenizer.encode(text, add_special_tokens=special)
    return {
        "text": text, "add_special_tokens": special, "ids": encoding.ids,
        "spans": [[start[a], start[b]] for a, b in encoding.offsets],
        "decoded": tokenizer.decode(encoding.ids, skip_special_tokens=False),
        "decoded_without_special": tokenizer.decode(encoding.ids, skip_special_tokens=True),
    }


def write(name, tokenizer, pairs=True):
    file = json.loads(tokenizer.to_str())
    if not pairs:
        file["model"]["merges"] = [" ".join(merge) for merge in file["model"]["merges"]]
    # Read back, so that what is expected is what the file says.
    tokenizer = Tokenizer.from_str(json.dumps(file))
    cases = [case(tokenizer, text, True) for text in TEXTS] + [case(tokenizer, "Hello <S> world", False)]
    with open(os.path.join(OUT, name + ".json"), "w") as out:
        json.dump({"tokenizer": file, "cases": cases}, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


def byte_level_model(vocab_size=420):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def add_tokens(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<S>", special=True)])
    tokenizer.add_tokens([
        AddedToken("<TOK>", normalized=False), AddedToken("<L>", lstrip=True, normalized=False),
        AddedToken("<R>", rstrip=True, normalized=False), AddedToken("<W>", single_word=True, normalized=False),
        AddedToken("Yesterday", normalized=True),
    ])


def sentencepiece_model(fallback=True, fuse=True):
    alphabet = [f"<0x{b:02X}>" for b in range(256)] if fallback else []
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(CORPUS[:4], trainers.BpeTrainer(
        vocab_size=480 if fallback else 200, special_tokens=["<unk>", "<s>", "</s>"] + alphabet, show_progress=False))
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    file["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(file))


def main():
    os.makedirs(OUT, exist_ok=True)
    gpt2 = byte_level_model()
    gpt2.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    write("tokenizer_gpt2", gpt2, pairs=False)

    roberta = byte_level_model(300)
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    roberta.post_processor = processors.RobertaProcessing(("c", 66), ("a", 64), trim_offsets=True, add_prefix_space=True)
    roberta.decoder = decoders.ByteLevel()
    write("tokenizer_roberta", roberta)

    split = byte_level_model()
    split.normalizer = normalizers.NFC()
    split.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    split.decoder = decoders.ByteLevel()
    add_tokens(split)
    split.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<S> $A <S>:1", special_tokens=[("<S>", split.token_to_id("<S>"))])])
    write("tokenizer_split_nfc", split)

    llama = sentencepiece_model()
    llama.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    write("tokenizer_llama", llama, pairs=False)
    add_tokens(llama)
    write("tokenizer_llama_added", llama)

    for scheme, fuse in (("first", True), ("always", False)):
        metaspace = sentencepiece_model(fallback=False, fuse=fuse)
        metaspace.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
        metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        metaspace.decoder = decoders.Metaspace(prepend_scheme=scheme)
        add_tokens(metaspace)
        write(f"tokenizer_metaspace_{scheme}", metaspace)

    bert = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    bert.normalizer = normalizers.BertNormalizer()
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    bert.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    bert.decoder = decoders.WordPiece()
    add_tokens(bert)
    write("tokenizer_bert", bert)

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    words.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.UnicodeScripts(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)])
    words.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    add_tokens(words)
    write("tokenizer_words", words)

    classic = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=False))
    classic.normalizer = normalizers.Nmt()
    classic.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    classic.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=250, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False))
    classic.decoder = decoders.BPEDecoder()
    write("tokenizer_suffix", classic)

    write_parts("tokenizer_parts", {
        "digits": pre_tokenizers.Digits(individual_digits=False), "punctuation": pre_tokenizers.Punctuation("merged_with_next"),
        "whitespace": pre_tokenizers.Whitespace(),
        "whitespace_split": pre_tokenizers.WhitespaceSplit(),
        "split_previous": pre_tokenizers.Split(" ", "merged_with_previous"),
        "split_contiguous": pre_tokenizers.Split(Regex(r"[\s\d]"), "contiguous"),
        "split_inverted": pre_tokenizers.Split(Regex(r"\w{1,3}+|[^\w\s]"), "removed", invert=True),
        "split_next": pre_tokenizers.Split(Regex(r"(?i:[a-c])|^\S|\h$"), "merged_with_next"),
    }, ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"), TEXTS)

    more = {"bert": pre_tokenizers.BertPreTokenizer(), "scripts": pre_tokenizers.UnicodeScripts(),
            "fixed": pre_tokenizers.FixedLength(3), "delimiter": pre_tokenizers.CharDelimiterSplit("l"),
            "digit": pre_tokenizers.Digits(individual_digits=True),
            "classes": pre_tokenizers.Split(Regex(r"[\p{Han}\p{Hiragana}]+|[^\S\n]|[[:punct:]]|\p{^Lu}\P{L}"), "isolated"),
            "words": pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "isolated"), "no_words": pre_tokenizers.Split(Regex(r"[\w\s]+|\W+"), "isolated"),
            "negated": pre_tokenizers.Split(Regex(r"[\W\D]+"), "removed")}
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        more[behavior] = pre_tokenizers.Split(Regex(r"[aeiou\s]"), behavior)
        more[behavior + "_inverted"] = pre_tokenizers.Split("l", behavior, invert=True)
        more["punctuation_" + behavior] = pre_tokenizers.Punctuation(behavior)
    write_parts("tokenizer_more_parts", more, ("StripAccents", "Nmt", "ByteLevel", "BertNormalizer"), TEXTS[5::2] + UNICODE)


def write_parts(name, parts, forms, texts):
    """Pre-tokenizers one by one: characters are the tokens, so that the spans show the cuts."""
    cases = []
    for part in parts.values():
        for text in texts:
            start = [0]
            for character in text:
                start.append(start[-1] + len(character.encode()))
            cases.append({"part": json.loads(part.__getstate__()), "text": text,
                          "pieces": [[start[a], start[b]] for _, (a, b) in part.pre_tokenize_str(text)]})
    normalized = []
    for form in forms:
        normalizer = getattr(normalizers, form)()
        normalized += [{"part": json.loads(normalizer.__getstate__()), "text": text,
                        "normalized": normalizer.normalize_str(text)} for text in texts]
    decoded = []
    for decoder in (decoders.BPEDecoder("</w>"), decoders.WordPiece(), decoders.WordPiece("", False), decoders.CTC(),
                    decoders.CTC("a", "b", False), decoders.Metaspace(), decoders.Metaspace(prepend_scheme="never"),
                    decoders.ByteFallback(), decoders.ByteLevel(), decoders.Replace(Regex("l+"), "L"), decoders.Strip("h", 1, 0), decoders.Strip("h", 0, 1),
                    decoders.Fuse(), decoders.Sequence([decoders.Fuse(), decoders.Replace("##", "")])):
        for tokens in TOKENS:
            try:
                text = decoder.decode(tokens)
            except BaseException:  # the package panics where nothing is left
                continue
            decoded.append({"part": json.loads(decoder.__getstate__()), "tokens": tokens, "text": text})
    with open(os.path.join(OUT, name + ".json"), "w") as out:
        json.dump({"pre_tokenizers": cases, "normalizers": normalized, "decoders": decoded}, out, ensure_ascii=False,
                  separators=(",", ":"))
        out.write("\n")


if __name__ == "__main__":
    main()
