#!/usr/bin/env python3
"""Writes src/text/jinja/unicode_tables.cc: what Python's str knows about characters (classes, cases, digits), and the
named character references of html.unescape. Run by the Python whose behaviour is wanted; the file names its version.

    tests/reference/make_python_text_tables.py
"""
import html.entities
import pathlib
import sys
import unicodedata

FLAGS = ["space", "line_break", "alpha", "decimal", "digit", "numeric", "upper", "lower", "title", "printable", "id_start", "id_continue", "cased", "case_ignorable"]


def flags(c):
    # Sigma is written in its final form after a cased character, whatever case-ignorable ones stand between.
    after_letter = ("a" + c + "\u03a3").lower().endswith("\u03c2")
    after_blank = (" " + c + "\u03a3").lower().endswith("\u03c2")
    facts = [c.isspace(), len(("a" + c + "b").splitlines()) > 1, c.isalpha(), c.isdecimal(), c.isdigit(), c.isnumeric(), c.isupper(), c.islower(),
             unicodedata.category(c) == "Lt", c.isprintable(), c.isidentifier(), ("a" + c).isidentifier(),
             (c + "a").title()[-1] == "a", after_letter and not after_blank]
    return sum(1 << i for i, fact in enumerate(facts) if fact)


def deltas(convert):
    """Ranges (first, last, step, delta) of characters that become one other, and the rest as texts."""
    single, several = [], []
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000:
            continue
        to = convert(chr(cp))
        if to == chr(cp):
            continue
        if len(to) != 1:
            several.append((cp, to))
            continue
        delta = ord(to) - cp
        if single and single[-1][3] == delta and (cp - single[-1][1] == single[-1][2] or (single[-1][0] == single[-1][1] and cp - single[-1][1] in (1, 2))):
            single[-1][2] = cp - single[-1][1]
            single[-1][1] = cp
        else:
            single.append([cp, cp, 1, delta])
    return single, several


def literal(text):
    return '"' + "".join(f"\\{b:03o}" if b < 32 or b > 126 or chr(b) in '"\\?' else chr(b) for b in text.encode()) + '"'


def rows(items, width=108):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "\n".join(lines + [line])


def main():
    out = [f"// Made by tests/reference/make_python_text_tables.py from Python {sys.version.split()[0]} (Unicode {unicodedata.unidata_version}).",
           '#include "text/jinja/unicode_tables.h"', "", "namespace serval::jinja {", "", "// clang-format off"]
    ranges, last = [], None
    for cp in range(0x110000):
        f = 0 if 0xD800 <= cp < 0xE000 else flags(chr(cp))
        if f != last:
            ranges.append((cp, f))
            last = f
    out.append(f"const std::array<CharacterRange, {len(ranges)}> kCharacterRanges = {{{{\n" + rows(f"{{{cp}, {f}}}" for cp, f in ranges) + "\n}};")
    digits = [cp for cp in range(0x110000) if unicodedata.decimal(chr(cp), None) == 0]
    out.append(f"const std::array<char32_t, {len(digits)}> kZeros = {{\n" + rows(str(d) for d in digits) + "\n};")
    for name, convert in (("Upper", str.upper), ("Lower", str.lower), ("Title", str.title), ("Fold", str.casefold)):
        single, several = deltas(convert)
        out.append(f"const std::array<CaseRange, {len(single)}> k{name}Ranges = {{{{\n" + rows("{%d, %d, %d, %d}" % tuple(s) for s in single) + "\n}};")
        out.append(f"const std::array<CaseText, {len(several)}> k{name}Texts = {{{{\n" + rows(f"{{{cp}, {literal(to)}}}" for cp, to in several) + "\n}};")
    entities = sorted(html.entities.html5.items())
    out.append(f"const std::array<HtmlEntity, {len(entities)}> kHtmlEntities = {{{{\n" + rows(f"{{{literal(name)}, {literal(text)}}}" for name, text in entities) + "\n}};")
    out += ["// clang-format on", "", "}  // namespace serval::jinja", ""]
    source = pathlib.Path(__file__).resolve().parents[2] / "src" / "text" / "jinja"
    (source / "unicode_tables.cc").write_text("\n".join(out))
    sizes = {line.split("> ")[1].split(" ")[0]: line.split(", ")[1].split(">")[0] for line in out if line.startswith("const std::array")}
    types = {line.split("> ")[1].split(" ")[0]: line.split("<")[1].split(",")[0] for line in out if line.startswith("const std::array")}
    header = ["// Tables made by tests/reference/make_python_text_tables.py; src/text/jinja/unicode.h is how they are read.", "#pragma once", "#include <array>", "#include <cstdint>", "", "namespace serval::jinja {", "",
              "enum CharacterFlag : uint16_t {"]
    header += [f"  k{''.join(p.title() for p in name.split('_'))} = 1 << {i}," for i, name in enumerate(FLAGS)]
    header += ["};", "struct CharacterRange {", "  char32_t first;  // up to the next range", "  uint16_t flags;", "};",
               "struct CaseRange {", "  char32_t first, last;", "  uint32_t step;", "  int32_t delta;", "};",
               "struct CaseText {", "  char32_t character;", "  const char* text;", "};",
               "struct HtmlEntity {", "  const char *name, *text;", "};", ""]
    header += [f"extern const std::array<{types[name]}, {size}> {name};" for name, size in sizes.items()]
    header += ["", "}  // namespace serval::jinja", ""]
    (source / "unicode_tables.h").write_text("\n".join(header))


if __name__ == "__main__":
    main()
