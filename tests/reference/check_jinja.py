#!/usr/bin/env python3
"""Renders random templates with jinja2, set up as transformers does, and with `serval render`, and compares.

    tests/reference/check_jinja.py build/release/serval 20000 [seed]

A case is equal where both give the same text or both refuse. Templates come from a grammar of the whole language
(statements, filters, tests, methods, formats, white space control); each is rendered with a few random contexts.

Left out, because Serval refuses them by design: bytes (str.encode, int.to_bytes), characters by name (\\N{...}), integers
beyond 64 bits, complex numbers; slices of what has none, which jinja2 takes for undefined if all of the expression is
constant; and what makes jinja2 fail an assertion of its own. No template asks for random or lipsum, nor prints an object
whose text is its address: lazy sequences and methods are used, never written.
Differences are printed, the shortest templates first.
"""
import concurrent.futures
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import transformers.utils.chat_template_utils as chat_template_utils

NOW = 1_750_000_000
ROWS = 3
BY_DESIGN = ("does not fit 64 bits", "a complex number", "unhashable type: 'slice'", "object is not subscriptable", "in a format is above")


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


STRINGS = ["", "a", "abc", "Hello World", " x ", "a,b,,c", "Grüße 世界", "🌍é", "line\nbreak", "a\tb", "1", "-12", "3.5", "1e3", "0x1F", "nan", "true", "<b>&'\"</b>",
           "straße ß ﬁ", "İi ǆ", "Σας ΑΣ", "ABC", "Title Case word's", "x=%s", "%d%%", "{}", "{0} {a}", "user", "assistant", "a b  c   d", "\u2028sep\x1cx", "it's", 'say "hi"', "both ' and \"",
           "back\\slash", "100%", "CamelCase", "e\u0301", "\u00a0nbsp\u00a0", "٣", "²", "x" * 90, "the quick brown fox jumps over the lazy dog " * 3, "www.example.com and http://x.org/?a=b&c (see mailto:me@x.de).",
           "<p>a <!-- no --> <i>b</i>\n c</p>", "\x00\x7f\u200b", "12345678901234567890", "9223372036854775807", "\u1e9e", "  lead", "trail  ", "--dash--", "a-b_c"]
INTS = [0, 1, 2, 3, -1, -2, 5, 7, 10, 255, 1000, 12345678, -7, 2**31, 2**53, 2**62, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, 2.5, -2.5, 3.14159, 1e16, 1e22, 1e-5, 123456.789, 1e300, 5e-324, 0.1, -0.1, 1e15, 2.675]


class Gen:
    def __init__(self, rng):
        self.r = rng
        self.depth = 0
        self.macros = []
        self.vars = []
        self.in_loop = 0
        self.loopvars = []

    def pick(self, *options):
        return self.r.choice(options)

    def chance(self, p):
        return self.r.random() < p

    # ---- values

    def json_value(self, depth=0):
        k = self.r.randrange(10 if depth < 3 else 7)
        if k < 2:
            return self.r.choice(STRINGS)
        if k < 4:
            return self.r.choice(INTS[:14])
        if k == 4:
            return self.r.choice(FLOATS)
        if k == 5:
            return self.pick(True, False, None)
        if k == 6:
            return self.r.choice(["x", "y", "z"])
        if k == 7:
            return [self.json_value(depth + 1) for _ in range(self.r.randrange(4))]
        return {self.r.choice(["a", "b", "c", "name", "x y", "é", "items", "1", "B", "role"]): self.json_value(depth + 1) for _ in range(self.r.randrange(4))}

    def context(self):
        r = self.r
        ctx = {
            "i": r.choice(INTS[:13]), "j": r.choice(INTS), "f": r.choice(FLOATS), "g": r.choice(FLOATS), "s": r.choice(STRINGS), "t": r.choice(STRINGS), "u": r.choice(STRINGS),
            "n": None, "yes": True, "no": False, "l": [r.choice(INTS[:13]) for _ in range(r.randrange(6))], "w": [r.choice(STRINGS) for _ in range(r.randrange(6))],
            "m": [self.json_value() for _ in range(r.randrange(5))], "d": {k: self.json_value(1) for k in r.sample(["a", "b", "c", "items", "name", "B", "é"], r.randrange(6))},
            "e": {k: r.choice(INTS[:10]) for k in r.sample(["x", "Y", "z", "A"], r.randrange(4))},
            "rows": [{"name": r.choice(["x", "Y", "z", "y"]), "age": r.choice([1, 2, 3, 2.5]), "on": r.choice([True, False]), "tags": [r.choice("pqr") for _ in range(r.randrange(3))], **({"opt": r.choice([None, "o", 5])} if r.random() < .5 else {})} for _ in range(r.randrange(5))],
            "nested": [[1, [2, 3]], [], [[4]]], "v": self.json_value(),
            "messages": [{"role": r.choice(["user", "assistant", "system", "tool"]), "content": r.choice([r.choice(STRINGS), None, [{"type": "text", "text": "p"}]])} for _ in range(r.randrange(4))],
        }
        return ctx

    # ---- expressions

    def string_literal(self):
        s = self.r.choice(STRINGS)
        if self.chance(0.15):
            return self.pick(r"'a\nb'", r'"\x41\u00e9"', r"'\t\\\''", r"'\U0001F600\101'", r"'\q'", r"'a' 'b'", r"'a' ~ 'b'")
        q = "'" if "'" not in s else '"'
        if q in s or "\\" in s or "\n" in s:
            s = s.replace("\\", "\\\\").replace(q, "\\" + q).replace("\n", "\\n")
        return q + s + q

    def int_expr(self):
        k = self.r.randrange(14)
        if k < 3 or self.depth > 4:
            return self.pick("0", "1", "2", "3", "-1", "10", "0x1f", "1_000", "0b11", "0o17", "i", "j", "007" if self.chance(.1) else "7")
        self.depth += 1
        try:
            if k < 6:
                return f"{self.int_expr()} {self.pick('+', '-', '*', '//', '%', '+', '-')} {self.int_expr()}"
            if k == 6:
                return f"({self.list_expr()} | length)"
            if k == 7:
                return f"({self.string_expr()})|{self.pick('length', 'int', 'wordcount', 'count', 'int(-1)', 'int(default=2, base=16)', 'int(0, 8)')}"
            if k == 8:
                return f"({self.int_expr()})|{self.pick('abs', 'int', 'round')}"
            if k == 9:
                return f"{self.string_expr()}.{self.pick('find', 'count', 'rfind', 'index')}({self.string_expr()})"
            if k == 10:
                return self.pick("loop.index", "loop.index0", "loop.revindex", "loop.length", "loop.depth") if self.in_loop else "i"
            if k == 11:
                return f"({self.list_expr()}|{self.pick('sum', 'first', 'last', 'max', 'min')})"
            if k == 12:
                return f"{self.pick('-', '+')}{self.int_expr()}"
            return f"{self.int_expr()} ** {self.pick('2', '0', '3', '-1')}"
        finally:
            self.depth -= 1

    def num_expr(self):
        k = self.r.randrange(6)
        if k < 2:
            return self.int_expr()
        if k == 2 or self.depth > 4:
            return self.pick("1.5", "0.1", "1e3", "2.5e-3", "f", "g", "1e16", "123.456", "3.0")
        self.depth += 1
        try:
            if k == 3:
                return f"{self.num_expr()} {self.pick('+', '-', '*', '/', '//', '%', '**')} {self.num_expr()}"
            if k == 4:
                return f"({self.num_expr()})|{self.pick('round', 'round(2)', 'round(1, ' + repr('ceil') + ')', 'round(method=' + repr('floor') + ')', 'abs', 'float', 'int', 'round(-1)')}"
            return f"{self.string_expr()}|float{self.pick('', '(1.5)', '(default=none)')}"
        finally:
            self.depth -= 1

    def string_expr(self):
        k = self.r.randrange(16)
        if k < 4 or self.depth > 4:
            return self.pick("s", "t", "u", self.string_literal(), "s", "v" if self.chance(.1) else "t")
        self.depth += 1
        try:
            if k < 6:
                return f"({self.string_expr()} {self.pick('~', '+', '~')} {self.string_expr()})"
            if k == 6:
                return f"({self.expr()} ~ {self.expr()})"
            if k < 9:
                return f"{self.string_atom()}.{self.str_method()}"
            if k < 13:
                return f"({self.string_expr()}|{self.str_filter()})"
            if k == 13:
                return f"{self.string_atom()}{self.subscript()}"
            if k == 14:
                return f"({self.list_expr()}|join({self.pick('', repr(','), repr(', ') + ', attribute=' + repr('name'), repr('<'))}))"
            return self.format_expr()
        finally:
            self.depth -= 1

    def string_atom(self):
        return self.pick("s", "t", "u", self.string_literal(), f"({self.string_expr()})")

    def str_method(self):
        a, b = self.string_expr, self.int_expr
        return self.pick(
            "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip()", "rstrip()", f"strip({a()})", f"lstrip({a()})", f"rstrip({a()})", "isdigit()", "isalpha()", "isalnum()",
            "isspace()", "isupper()", "islower()", "istitle()", "isdecimal()", "isnumeric()", "isidentifier()", "isprintable()", "isascii()", f"split({a()})", "split()", f"split({a()}, {self.pick(1, 2, 0, -1)})", f"rsplit({a()}, 1)",
            "rsplit(none, 1)", "split(none, 1)", "split(maxsplit=1)", "splitlines()", "splitlines(true)", f"partition({a()})", f"rpartition({a()})", f"replace({a()}, {a()})", f"replace({a()}, {a()}, {self.pick(1, 0, -1)})", f"startswith({a()})",
            f"endswith({a()})", f"startswith(({a()}, {a()}))", f"startswith({a()}, 1)", f"endswith({a()}, 0, 3)", f"join({self.list_expr()})", f"center({self.pick(10, 7, 0)}, '*')", "ljust(8)", "rjust(8, '.')", "zfill(6)", "expandtabs(4)", "expandtabs()",
            f"count({a()})", f"find({a()}, 1)", f"rindex({a()})", f"removeprefix({a()})", f"removesuffix({a()})", f"format({self.expr()}, a={self.expr()})", "format(*l)", "format_map(e)", f"__len__()", "nope()", f"translate({{97: 'z'}})", "maketrans('a', 'b')",
            f"count({a()}, 0, 2)", f"index({a()}, 0, 5)", "split(sep=none)", f"join('abc')", f"join({self.list_expr()}|map('string'))")

    def str_filter(self):
        a = self.string_expr
        return self.pick(
            "upper", "lower", "title", "capitalize", "trim", f"trim({a()})", "string", "safe", "escape", "e", "forceescape", "tojson", f"replace({a()}, {a()})", f"replace({a()}, {a()}, 1)", "indent", "indent(2)", "indent(2, true)", "indent(width=3, blank=true)", "indent('> ')",
            "truncate(10)", "truncate(5, true)", "truncate(8, false, '…')", "truncate(5, true, '', 0)", "truncate(length=9, leeway=0)", "center(12)", "center", f"default({a()})", f"default({a()}, true)", f"d({a()}, boolean=true)", "wordwrap(10)", "wordwrap(5, false)", "wordwrap(8, true, '|')",
            "wordwrap(20, break_on_hyphens=false)", "urlencode", "striptags", "urlize", "urlize(10)", "urlize(20, true)", "urlize(nofollow=true, target='_blank')", "pprint", "reverse", "list|join('-')", f"format({self.expr()})", "first", "last", "length|string", "batch(2)|list|string", "xmlattr", "title|safe", "upper|e", "e|upper", "escape|replace('<', '>')",
            "filesizeformat", "tojson(indent=2)", "tojson(ensure_ascii=true)", "items|list", "list|sort|join", "unique|join", "trim")

    def format_expr(self):
        e = self.expr
        spec = self.pick("%s", "%r", "%d", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%#x", "%X", "%o", "%#o", "%e", "%.2e", "%f", "%.2f", "%10.3f", "%g", "%G", "%.3s", "%10s", "%-10s|", "%c", "%5c", "%%", "%a", "%i", "%u", "%s %s", "%*d", "%.*f", "%(a)s", "%(a)05.1f", "%z", "%", "%ld", "%.0f", "%#.3g", "%s%%", "%5%", "%+.1e", "%r and %s", "%08.3f", "%-08d|", "%x %X")
        if self.chance(.5):
            args = self.pick(f"({e()},)", e(), f"({e()}, {e()})", "(i, j)", "(f,)", "{'a': f}", "{'a': s}", "d", "i", "f", "j", "(3, i)", "s", "l")
            return f"('{spec}' % {args})"
        spec = self.pick("{}", "{!r}", "{!s}", "{!a}", "{:5}", "{:<5}|", "{:>5}", "{:^5}|", "{:*^9}", "{:d}", "{:05d}", "{:+d}", "{:,}", "{:_}", "{:x}", "{:#x}", "{:#b}", "{:o}", "{:e}", "{:.2f}", "{:.3}", "{:10.2f}", "{:g}", "{:.2%}", "{:n}", "{:c}", "{:s}", "{0}{0}", "{1}", "{a}", "{a!r:>6}", "{0.real}", "{0[a]}", "{0[0]}", "{{}}", "{", "}", "{:{}}", "{:>{a}}", "{0.__class__}", "{:+,.1f}", "{: }", "{:=+6d}", "{:06.1f}", "{:#o}", "{:.0f}", "{:e}", "{:X}", "{:!}", "{!x}", "{:z}", "{:-^7}", "{:é<5}", "{0:}", "{:,.2f}", "{:G}", "{:.1}", "{:#.3g}", "{:<05}", "{:%}", "{:_x}", "{:,d}", "{:.}", "{:5c}", "{:08,}", "{:.3e}")
        args = self.pick(e(), f"{e()}, {e()}", "i", "f", "j", "f, i", "s, 9", f"{e()}, a={e()}", "i, a=8", "d", "l", "g")
        return f"'{spec}'.format({args})"

    def subscript(self):
        b = lambda: self.pick("0", "1", "-1", "2", "-2", "i", "10", "none", "")
        return self.pick(f"[{self.pick('0', '1', '-1', '2', '5')}]", "[0]", f"[{b()}:{b()}]", f"[{b()}:{b()}:{self.pick('1', '-1', '2', '-2', '0', '', 'none')}]", "[::-1]", "[1:]", "[:-1]", "[:2]", "['a']", "[s]", ".0", ".1")

    def list_expr(self):
        k = self.r.randrange(18)
        if k < 4 or self.depth > 4:
            return self.pick("l", "w", "m", "rows", "nested", "messages", "l", "[1, 2, 3]")
        self.depth += 1
        try:
            if k == 4:
                return "[" + ", ".join(self.expr() for _ in range(self.r.randrange(4))) + "]"
            if k == 5:
                return "(" + "".join(self.expr() + ", " for _ in range(self.r.randrange(4))) + ")"
            if k == 6:
                return f"range({self.pick('3', '1, 4', '5, 0, -2', 'i % 7', '0', '0, 10, 3')})"
            if k < 11:
                return f"({self.list_expr()}|{self.list_filter()})"
            if k == 11:
                return f"({self.list_expr()} + {self.list_expr()})"
            if k == 12:
                return f"{self.string_atom()}.split({self.pick('', repr(','), repr(' '))})"
            if k == 13:
                return f"({self.list_expr()}){self.subscript()}"
            if k == 14:
                return f"({self.list_expr()} * {self.pick('2', '0', 'i % 3')})"
            if k == 15:
                return f"{self.dict_atom()}.{self.pick('items', 'keys', 'values')}()"
            if k == 16:
                return f"({self.dict_atom()}|{self.pick('dictsort', 'items|list', 'list', 'dictsort(true)', 'dictsort(by=' + repr('value') + ')', 'dictsort(reverse=true)', 'dictsort(false, ' + repr('value') + ', true)')})"
            return self.pick("rows|map(attribute='name')|list", "rows|selectattr('on')|list", "rows|groupby('age')", "rows|groupby('name')|map(attribute='grouper')|list", "rows|map(attribute='tags')|sum(start=[])", "nested|sum(start=[])")
        finally:
            self.depth -= 1

    def test_args(self):
        return self.pick("'string'", "'number'", "'odd'", "'none'", "'defined'", "'mapping'", "'gt', 2", "'equalto', 1", "'in', [1, 2, 3]", "'divisibleby', 2", "'iterable'", "'sameas', none", "'lower'", "'true'", "'>', 1", "'ne', 'a'", "'even'", "'integer'", "'nope'", "'eq', s")

    def list_filter(self):
        return self.pick(
            "list", "sort", "sort(reverse=true)", "sort(true, true)", "sort(attribute='name')", "sort(attribute='age,name')", "sort(case_sensitive=true)", "reverse|list", "unique|list", "unique(true)|list", "unique(attribute='name')|list", "batch(2)|list", "batch(3, '-')|list", "slice(2)|list", "slice(3, none)|list", "slice(2, 'z')|list",
            "map('upper')|list", "map('string')|list", "map('length')|list", "map('default', 'q')|list", "map(attribute='name')|list", "map(attribute='opt', default='D')|list", "map(attribute='tags.0')|list", "map(attribute=0)|list", "map('int')|list", "map('tojson')|list", "map('round', 1)|list", "map('replace', 'a', 'b')|list", "map('nope')|list", "map|list", "map('first')|list",
            "select|list", "reject|list", f"select({self.test_args()})|list", f"reject({self.test_args()})|list", "selectattr('on')|list", "rejectattr('on')|list", f"selectattr('age', {self.test_args()})|list", f"selectattr('name', 'eq', 'x')|list", f"rejectattr('opt', {self.test_args()})|list", "selectattr('tags.0', 'defined')|list", "groupby('name')|list", "groupby('age')|list",
            "groupby('opt', default='none')|list", "groupby('name', case_sensitive=true)|list", "groupby(attribute='tags')|list", "map('abs')|list", "map('trim')|map('upper')|list", self.lazy_filter(), "first", "last", "list", "sum|list", "items|list", "min", "max", "min(attribute='age')", "max(attribute='name')", "max(true)", "tojson", "pprint", "string|list", "xmlattr|list", "map('indent')|list", "attr('x')|list")

    def lazy_filter(self):
        """A filter without a list of its own, with something that uses it up or looks at it."""
        lazy = self.pick("reverse", "unique", "select", "map('string')", "batch(2)", "slice(2)", "map", "selectattr('on')", "reject('none')", "map(attribute='name')", "groupby('age')|map('first')")
        return lazy + "|" + self.pick("list", "first", "join('+')", "length|string", "sort", "unique|list", "map('upper')|list", "select('string')|list", "sum", "max", "tojson", "last", "batch(2)|list", "sum(start=[])", "dictsort", "items|list", "trim|length|string")

    def method_use(self):
        """A method or a function that is not called, in a place that does not write it."""
        thing = self.pick("d.items", "s.title", "l.append", "l.index", "i.bit_length", "d.update", "range", "dict", "namespace", "cycler('a', 'b')", "joiner()", "strftime_now", "raise_exception", "s|attr('upper')", "e.get")
        return f"({thing}) is {self.pick('defined', 'callable', 'string', 'iterable', 'mapping', 'none', 'sequence', 'number')}"

    def dict_atom(self):
        return self.pick("d", "e", "d", "e", "{'a': 1, 'b': s}", "{}", "dict(a=1, b=i)", "dict(e, z=3)", "(messages|first)", "(rows|first)", "{1: 'x', none: 2, 1.5: 3, true: 4}", "dict([('k', 1)])", "dict.fromkeys(['a', 'b'], 1)", "{('t', 1): 5}")

    def dict_expr(self):
        k = self.r.randrange(7)
        if k < 4:
            return self.dict_atom()
        if k == 4:
            return "{" + ", ".join(f"{self.pick(repr('a'), repr('b'), 's', '1', 'none', '1.5')}: {self.expr()}" for _ in range(self.r.randrange(3))) + "}"
        if k == 5:
            return f"{self.dict_atom()}.copy()"
        return self.pick("namespace(a=1, b=s)", "(d|dictsort|list)", "(d.items()|list)")

    def bool_expr(self):
        k = self.r.randrange(12)
        if k < 2 or self.depth > 4:
            return self.pick("yes", "no", "true", "false", "s", "l", "n", "i", "undefined_name", "True", "False")
        self.depth += 1
        try:
            if k < 5:
                e = self.pick(self.int_expr, self.num_expr, self.string_expr, self.expr)
                return f"{e()} {self.pick('==', '!=', '<', '<=', '>', '>=')} {e()}"
            if k == 5:
                return f"{self.expr()} {self.pick('in', 'not in')} {self.pick(self.list_expr, self.string_expr, self.dict_expr, self.expr)()}"
            if k < 8:
                return f"({self.expr()}) is {self.pick('', 'not ')}{self.test()}"
            if k == 8:
                return f"not {self.bool_expr()}"
            if k == 9:
                return f"({self.bool_expr()} {self.pick('and', 'or')} {self.bool_expr()})"
            if k == 10:
                return f"{self.int_expr()} {self.pick('<', '<=', '==')} {self.int_expr()} {self.pick('<', '!=', '>')} {self.int_expr()}"
            return f"{self.string_atom()}.{self.pick('startswith', 'endswith')}({self.string_expr()})"
        finally:
            self.depth -= 1

    def test(self):
        return self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable", "sequence", "callable", "odd", "even", "true", "false", "lower", "upper", "escaped", "divisibleby 2", "divisibleby(3)", "eq 1", "equalto('a')", "ne none", "gt 1", "lt(2)", "ge 1", "le 0", "in [1, 2]", "in s", "sameas none", "sameas(true)", "filter", "test", "== 1", "nope", "greaterthan 0", "lessthan 5", "in(l)", "eq s", "lt 'b'")

    def expr(self):
        if self.depth > 5:
            return self.pick("i", "s", "l", "1", "'x'", "none", "f")
        self.depth += 1
        try:
            k = self.r.randrange(26)
            if k < 3:
                return self.int_expr()
            if k < 5:
                return self.num_expr()
            if k < 9:
                return self.string_expr()
            if k < 13:
                return self.list_expr()
            if k < 15:
                return self.dict_expr()
            if k < 17:
                return self.bool_expr()
            if k == 17:
                return self.pick("none", "None", "undefined_name", "n", "undefined_name.x", "v", "v.a", "v[0]", "d.a", "d['b']", "d.get('a')", "d.get('zz', 5)", "d.nope", "e.x", "rows[0].name", "rows[0]['age']", "messages[-1].content", "messages[0]['role']", "i.real", "f.imag", "s.nope", "l.nope", "l.index(1)", "l.count(2)", "w.index('a')", "f.is_integer()", "i.bit_length()", "f.hex()", "i.numerator", "d.pop('a')", "l.append(1)", "''.join(w)", "d|attr('a')", "l.copy()", "i.conjugate()", "f.as_integer_ratio()", "(1, 2).count(1)", "range(3).stop", "e.keys()|list", "yes.real", "s.__class__", "l.__len__()", self.method_use(), "cycler('a', 'b').next()", "joiner()()", "loop", "self", "varargs", "caller", "raise_exception('no')", "strftime_now('%Y-%m-%d %H:%M:%S %j %A %b')", "1 .real")
            if k == 18:
                return f"{self.expr()} if {self.bool_expr()}" + (f" else {self.expr()}" if self.chance(.7) else "")
            if k == 19:
                return f"({self.expr()})|{self.pick('tojson', 'tojson(indent=2)', 'tojson(indent=0)', 'tojson(sort_keys=true)', 'tojson(separators=(' + repr(',') + ', ' + repr(':') + '))', 'tojson(ensure_ascii=true)', 'tojson(true, 1)', 'tojson(indent=' + repr('--') + ')')}"
            if k == 20:
                return f"({self.expr()})|{self.pick('string', 'pprint', 'length', 'list', 'default(1)', 'first', 'last', 'int', 'float', 'upper', 'trim', 'e', 'safe', 'sort', 'sum', 'abs', 'round', 'join', 'reverse|list', 'items|list', 'dictsort', 'title', 'urlencode', 'xmlattr', 'filesizeformat', 'filesizeformat(true)', 'wordcount', 'unique|list', 'max', 'min', 'count', 'format(1)', 'indent', 'center(9)', 'truncate(4)', 'striptags', 'urlize', 'wordwrap(6)', 'attr(' + repr('real') + ')', 'replace(1, 2)', 'capitalize', 'batch(2)|list', 'slice(2)|list', 'map(attribute=0)|list', 'forceescape', 'nope' if self.chance(.1) else 'd')}"
            if k == 21:
                return f"({self.pick(self.list_expr, self.string_expr, self.dict_expr, self.expr)()}){self.subscript()}"
            if k == 22:
                return f"({self.expr()} {self.pick('or', 'and')} {self.expr()})"
            if k == 23 and self.macros:
                name, params = self.r.choice(self.macros)
                args = [self.expr() for _ in range(self.r.randrange(len(params) + 2 if self.chance(.2) else len(params) + 1))]
                if self.chance(.3):
                    args.append(f"{self.pick('p', 'q', 'zz')}={self.expr()}")
                if self.chance(.1):
                    args.append("*l")
                if self.chance(.1):
                    args.append("**e")
                return f"{name}({', '.join(args)})"
            if k == 24 and self.vars:
                return self.r.choice(self.vars)
            if self.loopvars and self.chance(.7):
                return self.pick(self.r.choice(self.loopvars), "loop.first", "loop.last", "loop.previtem", "loop.nextitem", "loop.cycle('a', 'b', 'c')", "loop.changed(s)", "loop.depth0", "loop.revindex0", "loop.index", "loop.length", "loop.nope", "loop.previtem.x")
            return f"({self.expr()})"
        finally:
            self.depth -= 1

    # ---- statements

    def text(self):
        return self.pick("text", "a ", " b", "\n", "  \n", "\n\n", "x\n  y", "é", "  ", "\t", "{", "}", "%", "{ {", "#", "<|im_start|>", "\r\n", "line\n", "- ", "'")

    def tag(self, inner):
        return "{%" + self.pick("", "", "", "-", "+") + " " + inner + " " + self.pick("", "", "", "-", "+") + "%}"

    def output(self):
        return "{{" + self.pick("", "", "", "-", "+" if self.chance(.3) else "") + " " + self.expr() + " " + self.pick("", "", "-") + "}}"

    def body(self, depth, n=None):
        return "".join(self.statement(depth + 1) for _ in range(self.r.randrange(1, 4) if n is None else n))

    def statement(self, depth=0):
        k = self.r.randrange(30 if depth < 4 else 10)
        if k < 4:
            return self.text()
        if k < 11:
            return self.output()
        if k < 14:
            out = self.tag(f"if {self.bool_expr()}") + self.body(depth)
            if self.chance(.3):
                out += self.tag(f"elif {self.bool_expr()}") + self.body(depth)
            if self.chance(.5):
                out += self.tag("else") + self.body(depth)
            return out + self.tag("endif")
        if k < 18:
            return self.for_loop(depth)
        if k < 21:
            name = self.pick("x", "y", "z")
            if self.chance(.25):
                if self.chance(.5):
                    out = self.tag(f"set {name}") + self.body(depth) + self.tag("endset")
                else:
                    out = self.tag(f"set {name} | {self.str_filter()}") + self.body(depth) + self.tag("endset")
            elif self.chance(.2):
                out = self.tag(f"set x, y = {self.pick('1, 2', 's, t', 'l', '(i, j)', 'd.items()', '[3, 4]')}")
                self.vars += ["x", "y"]
            elif self.chance(.25):
                self.vars.append("ns.c")
                out = self.tag(f"set ns = namespace(c={self.expr()}, k=0)") + self.body(depth) + self.tag(f"set ns.c = {self.expr()}")
            else:
                out = self.tag(f"set {name} = {self.expr()}")
            self.vars.append(name)
            return out
        if k == 21:
            params = self.r.choice([[], ["p"], ["p", "q=2"], ["p", "q"], ["p=s", "q=p"], ["p='d'"]])
            name = self.pick("mac", "fun")
            old = self.vars, self.in_loop, self.loopvars
            self.vars, self.in_loop, self.loopvars = self.vars + [q.split("=")[0] for q in params] + (["varargs", "kwargs"] if self.chance(.3) else []) + (["caller()"] if self.chance(.3) else []), 0, []
            out = self.tag(f"macro {name}({', '.join(params)})") + self.body(depth) + self.tag("endmacro")
            self.vars, self.in_loop, self.loopvars = old
            self.macros.append((name, params))
            return out
        if k == 22 and self.macros:
            name, params = self.r.choice(self.macros)
            return self.tag(f"call{self.pick('', '(a)', '(a, b=1)')} {name}({', '.join(self.expr() for _ in params)})") + self.body(depth) + self.tag("endcall")
        if k == 23:
            return self.tag(f"filter {self.str_filter()}") + self.body(depth) + self.tag("endfilter")
        if k == 24:
            names = self.pick(["x"], ["x", "y"], [])
            out = self.tag("with " + ", ".join(f"{n} = {self.expr()}" for n in names))
            old, self.vars = self.vars, self.vars + names
            out += self.body(depth) + self.tag("endwith")
            self.vars = old
            return out
        if k == 25:
            return self.pick(self.tag("raw") + self.pick("{{ x }}", " {% if %} ", "\n{#") + self.tag("endraw"), "{#" + self.pick("", "-", "+") + " c {{ x }} " + self.pick("", "-", "+") + "#}", "{# multi\nline #}\n")
        if k == 26:
            return self.tag("generation") + self.body(depth) + self.tag("endgeneration")
        if k == 27:
            if self.in_loop:
                return self.tag(f"if {self.bool_expr()}") + self.tag(self.pick("break", "continue")) + self.tag("endif")
            return self.tag(f"print {self.expr()}") if self.chance(.3) else self.output()
        if k == 28:
            return self.tag(f"autoescape {self.pick('true', 'false', 'yes')}") + self.body(depth) + self.tag("endautoescape")
        if k == 29 and self.chance(.3):
            name = f"b{self.r.randrange(100)}"
            return self.tag(f"block {name}{self.pick('', ' scoped')}") + self.body(depth) + self.tag("endblock") + self.pick("", "{{ self." + name + "() }}")
        return self.output()

    def for_loop(self, depth):
        target, source = self.r.choice([("x", self.list_expr), ("x", self.list_expr), ("k, x", lambda: self.dict_atom() + ".items()"), ("x", self.string_expr), ("c", lambda: "messages"), ("x", lambda: "rows"), ("a, b", lambda: "[(1, 2), (3, 4)]"), ("x", self.dict_atom), ("x", self.expr), ("k, x", lambda: self.dict_atom() + "|items")])
        names = [n.strip() for n in target.split(",")]
        old = self.loopvars
        head = f"for {target} in {source()}"
        self.loopvars = old + names
        recursive = False
        if self.chance(.2):
            self.in_loop, saved = 0, self.in_loop
            head += f" if {self.bool_expr()}"
            self.in_loop = saved
        elif self.chance(.08):
            head = "for x in nested recursive"
            recursive = True
        self.in_loop += 1
        out = self.tag(head) + self.body(depth)
        if recursive:
            out += "{% if x is sequence and x is not string %}[{{ loop(x) }}]{% else %}{{ x }}{% endif %}"
        self.in_loop -= 1
        self.loopvars = old
        if self.chance(.2):
            out += self.tag("else") + self.body(depth)
        return out + self.tag("endfor")

    def template(self):
        if self.chance(.5):
            return "{{ " + self.expr() + " }}"
        return "".join(self.statement() for _ in range(self.r.randrange(1, 6)))


class TooLong(Exception):
    pass


def alarm(*_):
    raise TooLong


def oracle(template, rows):
    answers = []
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
    except Exception as error:
        return [{"error": f"{type(error).__name__}: {error}"}] * len(rows)
    for row in rows:
        try:
            answers.append({"text": compiled.render(**{"tools": None, "documents": None, "add_generation_prompt": False, **row})})
        except Exception as error:
            answers.append({"error": f"{type(error).__name__}: {error}"})
    return answers


def ours(serval, template, rows, folder, number):
    path, data = folder / f"{number}.jinja", folder / f"{number}.jsonl"
    path.write_text(template, newline="")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = subprocess.run([serval, "render", "--template", path, "--conversations", data, "--now", str(NOW), "--num-threads", "1"], capture_output=True, timeout=60, env={**os.environ, "TZ": "UTC"})
    path.unlink()
    data.unlink()
    lines = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    if len(lines) != len(rows):
        return [{"crash": f"exit {run.returncode}: {run.stderr.decode()[-300:]}"}] * len(rows)
    return [{"text": line} if isinstance(line, str) else line for line in lines]


def has_surrogate(text):
    return any(0xD800 <= ord(c) < 0xE000 for c in text)


def main():
    serval, count = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    warnings.simplefilter("ignore")
    chat_template_utils.datetime = FixedDate
    os.environ["TZ"] = "UTC"
    time.tzset()
    signal.signal(signal.SIGALRM, alarm)
    cases = []
    for n in range(count):
        rng = random.Random(seed * 1_000_003 + n)
        gen = Gen(rng)
        cases.append((gen.template(), [gen.context() for _ in range(ROWS)]))
    equal = refused = skipped = 0
    differing = []
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        folder = pathlib.Path(scratch)
        results = pool.map(lambda n: ours(serval, *cases[n], folder, n), range(count))
        for (template, rows), mine in zip(cases, results):
            signal.alarm(20)
            try:
                theirs = oracle(template, rows)
            except (TooLong, RecursionError, MemoryError):
                skipped += ROWS
                continue
            finally:
                signal.alarm(0)
            for row, a, b in zip(rows, theirs, mine):
                text = a.get("text", "")
                if "AssertionError" in a.get("error", "") or has_surrogate(text) or any(reason in b.get("error", "") for reason in BY_DESIGN):
                    skipped += 1
                elif "error" in a and "error" in b:
                    refused += 1
                elif "text" in a and a.get("text") == b.get("text"):
                    equal += 1
                else:
                    differing.append((template, row, a, b))
                    break
    print(f"{count} templates: {equal} renderings equal, {refused} refused by both, {skipped} skipped, {len(differing)} templates differ")
    for template, row, a, b in sorted(differing, key=lambda d: len(d[0]))[:int(os.environ.get("SHOW", "40"))]:
        print("---", repr(template)[:500])
        print("  theirs:", repr(a)[:400])
        print("  ours:  ", repr(b)[:400])
        if os.environ.get("ROWS"):
            print("  row:", json.dumps(row, ensure_ascii=False)[:1500])
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
