"""Writes src/text/tokenizer/unicode_data.inc: what the `tokenizers` package (pip install tokenizers) takes each
character for. Every table is asked from the package itself, code point by code point, since its parts follow
different versions of Unicode: regular expressions, Rust's own character functions, normalization, scripts.

    python3 tests/reference/make_unicode_tables.py

Takes a few minutes. tests/reference/make_tokenizer_fixtures.py and scripts/check-tokenizers test the result.
"""
import os
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "src", "text", "tokenizer", "unicode_data.inc")
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, POINTS))
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
POSIX = "alnum alpha blank cntrl digit graph lower print punct space upper xdigit word".split()
SCRIPTS = ("Arabic Armenian Bengali Bopomofo Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew "
           "Hiragana Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Sinhala Tamil Telugu Thaana Thai "
           "Tibetan Common Inherited").split()
BLOCK = 128


def matched(part):
    """The code points that are left by a pre-tokenizer that drops the others."""
    found = set()
    for _, (begin, end) in part.pre_tokenize_str(ALL):
        found.update(POINTS[begin:end])
    return found


def regex_class(expression):
    return matched(pre_tokenizers.Split(Regex(f"(?:{expression})+"), "removed", invert=True))


def normalized(part):
    return {c: part.normalize_str(chr(c)) for c in POINTS}


def ranges(points):
    """Sorted, inclusive ranges."""
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def single_word_class():
    """Characters beside which an added token with single_word is not taken."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("<W>", single_word=True)])
    word = tokenizer.token_to_id("<W>")
    return {c for c in POINTS if word not in tokenizer.encode("<W>" + chr(c)).ids}


def scripts():
    """A number for each code point: 0 goes with any neighbour, others split from different ones."""
    part = pre_tokenizers.UnicodeScripts()

    def together(a, b):
        return len(part.pre_tokenize_str(chr(a) + chr(b))) == 1

    number, first_of, last = {}, [], 0
    for c in POINTS:
        if together(ord("a"), c) and together(0x416, c):
            number[c] = 0
            continue
        if last == 0 or not together(first_of[last - 1], c):
            last = next((i + 1 for i, other in enumerate(first_of) if together(other, c)), 0)
            if last == 0:
                first_of.append(c)
                last = len(first_of)
        number[c] = last
    return number


def combining_classes():
    """By the order that the package gives two marks."""
    form = normalizers.NFD()

    def swaps(a, b):
        return a != b and form.normalize_str(chr(a) + chr(b)) == chr(b) + chr(a)

    def is_mark(c):
        return form.normalize_str(chr(c)) == chr(c) and (swaps(0x345, c) or swaps(c, 0x334))

    # U+0334 and U+0345 have the lowest and the highest class. Marks that are newer than the package are starters to it.
    reference = {}
    for c in POINTS:
        if (k := unicodedata.combining(chr(c))) and is_mark(c):
            reference.setdefault(k, c)
    classes = {}
    for c in POINTS:
        if is_mark(c):
            classes[c], = [k for k, mark in reference.items() if not swaps(c, mark) and not swaps(mark, c)]
    return classes


def compositions(canonical):
    """Pairs that NFC makes one character of, Hangul aside."""
    compose = normalizers.NFC()
    pairs = {}
    for c, text in canonical.items():
        if 0xAC00 <= c <= 0xD7A3 or compose.normalize_str(chr(c)) != chr(c):
            continue
        # All but the last character compose to the first of the pair.
        first = compose.normalize_str(text[:-1])
        assert len(first) == 1, hex(c)
        assert compose.normalize_str(first + text[-1]) == chr(c), hex(c)
        pairs[(ord(first), ord(text[-1]))] = c
    return pairs


def numbers(values, per_line=22):
    values = list(values)
    return "".join("    " + ", ".join(map(str, values[i:i + per_line])) + ",\n" for i in range(0, len(values), per_line))


def hexes(values):
    return numbers([hex(v) if v > 9 else str(v) for v in values], 14)


def main():
    category = {}
    for index, name in enumerate(CATEGORIES):
        for c in regex_class(r"\p{%s}" % name):
            assert c not in category
            category[c] = index
    assert len(category) == len(POINTS)
    print("categories")

    flags = {}
    names = []

    def flag(name, points):
        names.append(name)
        for c in points:
            flags[c] = flags.get(c, 0) | 1 << (len(names) - 1)

    flag("RegexWord", regex_class(r"\w"))
    flag("RegexSpace", regex_class(r"\s"))
    for name in POSIX:
        flag("Posix" + name.capitalize(), regex_class("[[:%s:]]" % name))
    print("regular expressions")
    flag("Space", set(POINTS) - matched(pre_tokenizers.WhitespaceSplit()))
    flag("Numeric", numeric_class())
    flag("Punctuation", set(POINTS) - matched(pre_tokenizers.Punctuation("removed")))
    flag("Word", single_word_class())
    print("classes")

    bert = normalized(normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False))
    flag("BertRemoved", {c for c, text in bert.items() if text == ""})
    flag("BertBlank", {c for c, text in bert.items() if text == " "})
    assert all(text in ("", " ", chr(c)) for c, text in bert.items())
    accents = normalized(normalizers.StripAccents())
    flag("CombiningMark", {c for c, text in accents.items() if text == ""})
    canonical = {c: text for c, text in normalized(normalizers.NFD()).items() if text != chr(c)}
    stripped = normalized(normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False))
    nonspacing = {c for c, text in stripped.items() if text == ""}
    flag("NonspacingMark", nonspacing)
    for c, text in stripped.items():
        assert text == "".join(x for x in canonical.get(c, chr(c)) if ord(x) not in nonspacing), hex(c)
    print("marks")

    compatible = {c: text for c, text in normalized(normalizers.NFKD()).items() if text != chr(c)}
    classes = combining_classes()
    pairs = compositions(canonical)
    seconds = {b for _, b in pairs} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    composed = normalized(normalizers.NFC())
    composed_k = normalized(normalizers.NFKC())
    still = {c for c in POINTS if classes.get(c, 0) == 0}
    flag("NfcStable", {c for c in still - seconds if composed[c] == chr(c)})
    flag("NfkcStable", {c for c in still - seconds if composed_k[c] == chr(c)})
    flag("NfdStable", {c for c in still if c not in canonical})
    flag("NfkdStable", {c for c in still if c not in compatible})
    print("forms")

    lower = {c: text for c, text in normalized(normalizers.Lowercase()).items() if text != chr(c)}
    assert {c for c, text in lower.items() if len(text) > 1} == {0x130}
    script = scripts()
    print("scripts", max(script.values()))

    records, record_of, blocks, block_of = [], {}, [], {}
    stage1 = []
    for start in range(0, 0x110000, BLOCK):
        block = []
        for c in range(start, start + BLOCK):
            record = (category.get(c, CATEGORIES.index("Cn")), classes.get(c, 0), script.get(c, 0), flags.get(c, 0))
            if record not in record_of:
                record_of[record] = len(records)
                records.append(record)
            block.append(record_of[record])
        block = tuple(block)
        if block not in block_of:
            block_of[block] = len(blocks)
            blocks.append(block)
        stage1.append(block_of[block])
    print(len(records), "records", len(blocks), "blocks")

    out = [f"// Written by tests/reference/make_unicode_tables.py with tokenizers {tokenizers.__version__}; not to be edited.\n\n"]

    def table(kind, name, values, text=numbers):
        values = list(values)
        out.append(f"constexpr {kind} {name}[{len(values)}] = {{\n{text(values)}}};\n\n")

    constants = [out[0]]
    for i, name in enumerate(CATEGORIES):
        constants.append(f"constexpr uint8_t kCategory{name} = {i};\n")
    constants.append("\n")
    for i, name in enumerate(names):
        constants.append(f"constexpr uint32_t k{name} = 1u << {i};\n")
    with open(OUT.replace("_data", "_constants"), "w") as file:
        file.write("".join(constants))
    wide = "uint8_t" if len(records) < 256 else "uint16_t"
    out.append("// category, combining class, script, flags\n")
    out.append(f"constexpr CharacterRecord kRecords[{len(records)}] = {{\n"
               + "".join(f"    {{{a}, {b}, {c}, {d:#x}}},\n" for a, b, c, d in records) + "};\n\n")
    out.append(f"constexpr size_t kBlock = {BLOCK};\n")
    table("uint16_t", "kBlockOf", stage1, lambda v: numbers(v, 24))
    table(wide, "kRecordOf", [r for block in blocks for r in block], lambda v: numbers(v, 26))

    runs = []  # first, last, step, delta
    for c, text in sorted(lower.items()):
        if c == 0x130:
            continue
        delta = ord(text) - c
        if runs and runs[-1][3] == delta and c - runs[-1][1] in (1, 2) and (runs[-1][0] == runs[-1][1] or runs[-1][2] == c - runs[-1][1]):
            runs[-1][2] = c - runs[-1][1]
            runs[-1][1] = c
        else:
            runs.append([c, c, 1, delta])
    out.append("// first, last, step, distance to the lower case\n")
    out.append(f"constexpr LowercaseRun kLowercaseRuns[{len(runs)}] = {{\n"
               + "".join("    " + " ".join(f"{{{a:#x}, {b:#x}, {c}, {d}}}," for a, b, c, d in runs[i:i + 4]) + "\n"
                         for i in range(0, len(runs), 4)) + "};\n\n")

    pool = []
    for kind, mapping in (("Canonical", canonical), ("Compatible", compatible)):
        keys = [c for c in sorted(mapping) if not 0xAC00 <= c <= 0xD7A3]
        if kind == "Compatible":
            keys = [c for c in keys if mapping[c] != canonical.get(c)]
        rows = []
        for c in keys:
            text = list(map(ord, mapping[c]))
            assert len(text) <= 18
            rows.append((c, len(pool), len(text)))
            pool += text
        out.append(f"// character, first and number of its {kind.lower()} decomposition in kDecomposed\n")
        out.append(f"constexpr Decomposition k{kind}[{len(rows)}] = {{\n"
                   + "".join("    " + " ".join(f"{{{a:#x}, {b}, {n}}}," for a, b, n in rows[i:i + 6]) + "\n"
                             for i in range(0, len(rows), 6)) + "};\n\n")
    table("char32_t", "kDecomposed", pool, hexes)
    rows = sorted((a, b, c) for (a, b), c in pairs.items())
    out.append("// first, second, what they compose to\n")
    out.append(f"constexpr Composition kCompositions[{len(rows)}] = {{\n"
               + "".join("    " + " ".join(f"{{{a:#x}, {b:#x}, {c:#x}}}," for a, b, c in rows[i:i + 4]) + "\n"
                         for i in range(0, len(rows), 4)) + "};\n\n")

    # What the regular expressions know beyond the Unicode 14 of PCRE2 10.42.
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11"
    changed = {c for c in POINTS if unicodedata.category(chr(c)) != CATEGORIES[category[c]]}
    rows = []
    for a, b in ranges(changed):
        for c in range(a, b + 1):
            row = [c, c, CATEGORIES.index(unicodedata.category(chr(c))), category[c]]
            if rows and rows[-1][1] == c - 1 and rows[-1][2:] == row[2:]:
                rows[-1][1] = c
            else:
                rows.append(row)
    out.append("// first, last, category in Unicode 14, category now\n")
    out.append(f"constexpr CategoryChange kCategoryChanges[{len(rows)}] = {{\n"
               + "".join("    " + " ".join(f"{{{a:#x}, {b:#x}, {c}, {d}}}," for a, b, c, d in rows[i:i + 4]) + "\n"
                         for i in range(0, len(rows), 4)) + "};\n\n")
    print("changed otherwise than from unassigned:", [row for row in rows if CATEGORIES[row[2]] != "Cn"])

    pool, rows = [], []
    for name in SCRIPTS:
        found = ranges(regex_class(r"\p{%s}" % name))
        rows.append((name, len(pool), len(found)))
        pool += found
    out.append("// The scripts of regular expressions: name, first and number of its ranges\n")
    out.append(f"constexpr ScriptRanges kScripts[{len(rows)}] = {{\n"
               + "".join(f'    {{"{n}", {a}, {b}}},\n' for n, a, b in rows) + "};\n\n")
    out.append(f"constexpr CharacterRange kScriptRanges[{len(pool)}] = {{\n"
               + "".join("    " + " ".join(f"{{{a:#x}, {b:#x}}}," for a, b in pool[i:i + 6]) + "\n"
                         for i in range(0, len(pool), 6)) + "};\n\n")
    with open(OUT, "w") as file:
        file.write("".join(out).rstrip("\n") + "\n")
    print(os.path.getsize(OUT), "bytes")


def numeric_class():
    # Runs of digits are cut off from what stands beside them, and from each other where they are individual.
    found = set()
    together = pre_tokenizers.Digits(individual_digits=False)
    for c in POINTS:
        if len(together.pre_tokenize_str("a" + chr(c))) == 2:
            found.add(c)
    return found


if __name__ == "__main__":
    main()
