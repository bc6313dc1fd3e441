"""Compares Serval's tokenizer with the `tokenizers` package; run through scripts/check-tokenizers, which explains it.

Every line of the data and a generated set of hostile texts goes through each tokenizer: ids and offsets with special
tokens, ids without, and the text decoded from them with and without special tokens must all be equal.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as pre, processors,
                        trainers)


def data_lines(data):
    lines = []
    for path in sorted((data / "datasets").rglob("*")):
        if path.suffix in (".txt", ".en"):
            lines += path.read_text(errors="replace").split("\n")
        elif path.suffix == ".jsonl":
            for line in path.read_text(errors="replace").split("\n"):
                lines.append(line)
                try:
                    lines += [v for v in json.loads(line).values() if isinstance(v, str)]
                except (ValueError, AttributeError):
                    pass
        elif path.suffix == ".json" and path.stat().st_size < 4 << 20:
            lines += path.read_text(errors="replace").split("\n")
    return [line for line in lines if len(line) < 100_000]


def hostile_texts(count, seed):
    """All scripts, marks, emoji sequences, ill-formed UTF-8, long words, runs of blanks, control characters."""
    rng = random.Random(seed)
    points = [c for c in range(0x30000) if not 0xD800 <= c < 0xE000] + list(range(0xE0000, 0xE0200))
    blocks = [points[i:i + 256] for i in range(0, len(points), 256)]
    marks = [c for c in range(0x300, 0x370)] + [0x94D, 0x9BC, 0xE31, 0x20D0, 0x20E3, 0x3099, 0xFE0F, 0x200D, 0x1F3FD]
    emoji = ["👍🏽", "👨‍👩‍👧", "🇩🇪", "🏳️‍🌈", "1️⃣", "😀", "🫠"]
    words = ["don't", "I'LL", "we'RE", "it'ſ", "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|eot_id|>", "[MASK]",
             "▁", "Ġ", "##ing", "<0x41>", "http://a.b/c?d=e&f", "x_y", "3.14", "1234567", "٣٤", "½", "ﬁ", "Å", "İ", "ß", "ΣΑΣ",
             "각", "\u1100\u1161\u11a8", "你好", "日本語", "ไทย", "नमस्ते", "العربية", "\u00ad", "\ufeff", "\u180e", "\u2581a"]
    blanks = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "\n\n \n", "    "]
    out = []
    for i in range(count):
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.randrange(11)
            if kind <= 1:
                block = rng.choice(blocks)
                parts.append("".join(chr(rng.choice(block)) for _ in range(rng.randint(1, 8))))
            elif kind == 2:
                parts.append(rng.choice("aeioucnEAOgकか") + "".join(chr(rng.choice(marks)) for _ in range(rng.randint(1, 4))))
            elif kind == 3:
                parts.append(rng.choice(emoji))
            elif kind <= 5:
                parts.append(rng.choice(words))
            elif kind <= 7:
                parts.append(rng.choice(blanks) * rng.choice([1, 1, 1, 2, 3, 40]))
            elif kind == 8:
                parts.append("".join(chr(rng.randrange(0x80)) for _ in range(rng.randint(1, 6))))
            elif kind == 9:
                parts.append(rng.choice(["a", "ab", "the", "!", "é", "你", "0"]) * rng.choice([3, 17, 100, 700]))
            else:
                parts.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEF") for _ in range(rng.randint(1, 14))))
        text = "".join(parts).encode("utf-8")
        if i % 8 == 0:  # ill-formed: bytes cut out, changed, or put in
            broken = bytearray(text)
            for _ in range(rng.randint(1, 5)):
                at = rng.randrange(len(broken) + 1)
                broken[at:at + rng.randrange(3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(3)))
            text = bytes(broken)
        out.append(text)
    return out


def made_tokenizers(lines, folder):
    """Kinds that the data lacks, trained on a part of it."""
    corpus = lines[::7][:6000]
    rng = random.Random(11)
    special = ["<unk>", "<s>", "</s>", "<pad>", "[CLS]", "[SEP]", "[MASK]"]
    every = {
        "bert": (normalizers.BertNormalizer(), pre.BertPreTokenizer(), "wordpiece", decoders.WordPiece()),
        "bert-cased": (normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False), pre.BertPreTokenizer(),
                       "wordpiece", decoders.WordPiece(cleanup=False)),
        "words": (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
                  pre.Whitespace(), "wordlevel", None),
        "words-scripts": (normalizers.NFKC(), pre.Sequence([pre.UnicodeScripts(), pre.WhitespaceSplit()]), "wordlevel", None),
        "nmt": (normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip()]), pre.Metaspace(), "bpe",
                decoders.Metaspace()),
        "nfkd-digits": (normalizers.NFKD(), pre.Sequence([pre.Punctuation(), pre.Digits(True)]), "bpe", decoders.Fuse()),
        "nfc-bytes": (normalizers.NFC(), pre.ByteLevel(add_prefix_space=True), "bytes", decoders.ByteLevel()),
        "bytes-normalizer": (normalizers.Sequence([normalizers.Lowercase(), normalizers.ByteLevel()]), None, "bytes",
                             decoders.ByteLevel()),
        "replace": (normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("e", "ee"),
                                          normalizers.Prepend("_")]), pre.CharDelimiterSplit(" "), "bpe", decoders.BPEDecoder()),
        "fixed": (normalizers.NFD(), pre.FixedLength(4), "bpe", None),
        "metaspace-first": (None, pre.Metaspace(prepend_scheme="first"), "bpe", decoders.Metaspace(prepend_scheme="first")),
        "metaspace-whole": (None, pre.Metaspace(prepend_scheme="never", split=False), "fallback",
                            decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])),
        "gpt4o": (None, pre.Sequence([pre.Split(Regex(O200K), "isolated"), pre.ByteLevel(False, use_regex=False)]), "bytes",
                  decoders.ByteLevel()),
        "deepseek": (None, pre.Sequence([pre.Split(Regex(r"\p{N}{1,3}"), "isolated"),
                                         pre.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
                                         pre.Split(Regex(DEEPSEEK), "isolated"), pre.ByteLevel(False, use_regex=False)]),
                     "bytes", decoders.ByteLevel()),
        "classes": (None, pre.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True), "bpe", None),
        "properties": (None, pre.Split(Regex(r"[\p{Han}\p{Hiragana}]+|\p{Lu}\p{Ll}*|[[:punct:]]+|\P{L}"), "merged_with_next"),
                       "bpe", None),
    }
    for name, (normalizer, splitter, kind, decoder) in every.items():
        if kind == "wordpiece":
            tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
            trainer = trainers.WordPieceTrainer(vocab_size=6000, special_tokens=special, show_progress=False)
        elif kind == "wordlevel":
            tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
            trainer = trainers.WordLevelTrainer(vocab_size=9000, special_tokens=special, show_progress=False)
        else:
            fallback = kind == "fallback"
            tokenizer = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>", fuse_unk=rng.random() < .5,
                                             byte_fallback=fallback))
            alphabet = pre.ByteLevel.alphabet() if kind == "bytes" else []
            trainer = trainers.BpeTrainer(
                vocab_size=5000, initial_alphabet=alphabet, show_progress=False, limit_alphabet=400,
                special_tokens=special + ([f"<0x{b:02X}>" for b in range(256)] if fallback else []))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        if splitter is not None:
            tokenizer.pre_tokenizer = splitter
        if decoder is not None:
            tokenizer.decoder = decoder
        small = [line[:200] for line in corpus] if kind in ("fallback",) else corpus
        tokenizer.train_from_iterator(small, trainer)
        if kind != "fallback":
            tokenizer.add_tokens([
                AddedToken("don't", normalized=True), AddedToken("http", single_word=True), AddedToken("😀", lstrip=True),
                AddedToken("日本", rstrip=True, normalized=False), AddedToken("ÅÅ", normalized=True)])
        tokenizer.post_processor = rng.choice([
            processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
            processors.BertProcessing(("[SEP]", 5), ("[CLS]", 4)),
            processors.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=True, add_prefix_space=name == "nfc-bytes"),
            processors.Sequence([processors.ByteLevel(trim_offsets=True, add_prefix_space=True)])])
        yield "made: " + name, save(tokenizer, folder, name)


DEEPSEEK = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""")
_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _CASE +
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _CASE +
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def save(tokenizer, folder, name):
    path = folder / f"{name}.json"
    tokenizer.save(str(path))
    return path


def real_tokenizers(data, folder):
    for path in sorted((data / "tokenizers").glob("*/*tokenizer*.json")):
        if path.name == "tokenizer_config.json":
            continue
        yield path.parent.name + ("" if path.name == "tokenizer.json" else "/" + path.name), path
    vocabulary = data / "tokenizers" / "gpt2" / "vocab.json"
    if vocabulary.exists():
        gpt2 = Tokenizer(models.BPE.from_file(str(vocabulary), str(vocabulary.with_name("merges.txt"))))
        gpt2.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
        gpt2.post_processor = processors.ByteLevel(trim_offsets=True)
        gpt2.decoder = decoders.ByteLevel()
        yield "gpt2", save(gpt2, folder, "gpt2")


def reference_file(path, folder):
    """The same file as the package reads it: it refuses old merges whose tokens hold blanks, so those become pairs."""
    try:
        return Tokenizer.from_file(str(path)), path
    except BaseException:
        file = json.loads(path.read_text())
        vocabulary = file["model"]["vocab"]

        def pair(line):
            for at in (i for i, c in enumerate(line) if c == " "):
                a, b = line[:at], line[at + 1:]
                if a in vocabulary and b in vocabulary and a + b in vocabulary:
                    return [a, b]
            raise ValueError(line)

        file["model"]["merges"] = [m if isinstance(m, list) else pair(m) for m in file["model"]["merges"]]
        copy = folder / ("pairs-" + path.parent.name + ".json")
        copy.write_text(json.dumps(file))
        return Tokenizer.from_file(str(copy)), path


class Reader:
    def __init__(self, data):
        self.numbers, self.data, self.at = memoryview(data), data, 0

    def number(self):
        value = struct.unpack_from("<i", self.data, self.at)[0]
        self.at += 4
        return value

    def array(self, count):
        values = np.frombuffer(self.data, dtype="<i4", count=count, offset=self.at)
        self.at += 4 * count
        return values

    def text(self):
        size = self.number()
        value = self.data[self.at:self.at + size]
        self.at += size
        return value


def byte_starts(raw, text):
    """For each character of the repaired text, and its end, the byte of the input where it starts."""
    if len(raw) == len(text):
        return None
    starts, at = [0], 0
    if raw == text.encode():
        for character in text:
            at += len(character.encode())
            starts.append(at)
        return starts
    # Ill-formed: Python's decoder tells how many bytes each replacement stands for.
    starts = []
    while at < len(raw):
        try:
            piece, used = raw[at:].decode(), len(raw) - at
        except UnicodeDecodeError as error:
            piece, used = raw[at:at + error.start].decode(), error.start
            for character in piece:
                starts.append(at)
                at += len(character.encode())
            starts.append(at)
            at += error.end - error.start
            continue
        for character in piece:
            starts.append(at)
            at += len(character.encode())
    return starts + [len(raw)]


def skips_by_name(tokenizer):
    """The package does not skip special tokens that it looks for in normalized text, since it compares that form."""
    return not any(t.special and t.normalized and tokenizer.normalizer is not None
                   and tokenizer.normalizer.normalize_str(t.content) != t.content
                   for t in tokenizer.get_added_tokens_decoder().values())


def compare(name, tokenizer, path, texts, tool, folder, show):
    records, out = folder / "records", folder / "out"
    records.write_bytes(b"".join(struct.pack("<I", len(t)) + t for t in texts))
    result = subprocess.run([tool, str(path), str(records), str(out)], capture_output=True, text=True)
    if result.returncode != 0:
        return {"lines": 0, "errors": 1, "note": result.stderr.strip()[-200:]}
    reader = Reader(out.read_bytes())
    wrong = {"ids": 0, "offsets": 0, "plain": 0, "decoded": 0}
    shown = 0
    skips = skips_by_name(tokenizer)
    for begin in range(0, len(texts), 20000):
        batch = [t.decode("utf-8", errors="replace") for t in texts[begin:begin + 20000]]
        special = tokenizer.encode_batch(batch)
        plain = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        decoded = tokenizer.decode_batch([e.ids for e in special], skip_special_tokens=False)
        skipped = tokenizer.decode_batch([e.ids for e in special], skip_special_tokens=True)
        for i, text in enumerate(batch):
            raw = texts[begin + i]
            count = reader.number()
            ids, spans = reader.array(count), reader.array(2 * count)
            bare = reader.array(reader.number())
            with_special, without = reader.text(), reader.text()
            failed = []
            if ids.tolist() != special[i].ids:
                failed.append("ids")
            else:
                starts = byte_starts(raw, text)
                expected = special[i].offsets if starts is None else [(starts[a], starts[b]) for a, b in special[i].offsets]
                if [x for pair in expected for x in pair] != spans.tolist():
                    failed.append("offsets")
            if bare.tolist() != plain[i].ids:
                failed.append("plain")
            if with_special != decoded[i].encode() or (skips and without != skipped[i].encode()):
                failed.append("decoded")
            for what in failed:
                wrong[what] += 1
            if failed and shown < show:
                shown += 1
                print(f"  {name}: {failed} {text!r}"[:400], file=sys.stderr)
                if "ids" in failed:
                    print(f"    expected {special[i].tokens[:30]} {special[i].ids[:30]}\n    got {ids.tolist()[:30]}", file=sys.stderr)
                if failed == ["offsets"]:
                    print(f"    expected {expected[:30]}\n    got {spans.tolist()[:60]}", file=sys.stderr)
                if failed == ["decoded"]:
                    print(f"    expected {decoded[i]!r} {skipped[i]!r}\n    got {with_special!r} {without!r}"[:400], file=sys.stderr)
    return {"lines": len(texts), "errors": sum(wrong.values()), "note": "" if not any(wrong.values()) else str(wrong)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--data", default=os.environ.get("SERVAL_TEST_DATA", "../shared/data"))
    parser.add_argument("--lines", type=int, default=1_100_000, help="in all, over the tokenizers")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", type=int, default=3)
    arguments = parser.parse_args()
    data = Path(arguments.data)
    tool = str(Path(arguments.build) / "tests/text/tokenize_tool")
    if not (data / "datasets").is_dir():
        sys.exit(f"check-tokenizers: no datasets in {data}; name the folder with --data")
    lines = data_lines(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [(n, p) for n, p in [*real_tokenizers(data, folder), *made_tokenizers(lines, folder)] if arguments.only in n]
        each = arguments.lines // max(1, len(chosen)) + 1
        total = errors = 0
        print(f"{'tokenizer':<28}{'lines':>9}{'wrong':>7}  {'seconds':>7}")
        for index, (label, path) in enumerate(chosen):
            begin = time.time()
            rng = random.Random(index)
            hostile = hostile_texts(min(20000, each // 2), index)
            texts = [line.encode() for line in rng.sample(lines, min(len(lines), each - len(hostile)))] + hostile
            tokenizer, path = reference_file(path, folder)
            tokenizer.no_truncation()
            tokenizer.no_padding()
            row = compare(label, tokenizer, path, texts, tool, folder, arguments.show)
            total += row["lines"]
            errors += row["errors"]
            print(f"{label:<28}{row['lines']:>9}{row['errors']:>7}  {time.time() - begin:>7.1f}  {row['note']}", flush=True)
        print(f"{'all':<28}{total:>9}{errors:>7}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
