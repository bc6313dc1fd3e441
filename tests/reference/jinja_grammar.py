"""Random templates, made by a grammar of the whole language, and random contexts to render them with.

    gen = Gen(random.Random(7)); template, context = gen.template(), gen.context()

A production is a text in which $S stands for an expression that is a string as a rule, $I integer, $N number, $L list,
$D dict, $B condition, $E any, $A an atom that a method or an index may follow, $T the arguments of a test.
"""
import re

STRINGS = ["", "a", "abc", "Hello World", " x ", "a,b,,c", "Grüße 世界", "🌍é", "line\nbreak", "a\tb", "1", "-12", "3.5", "1e3", "0x1F", "nan", "true", "<b>&'\"</b>",
           "straße ß ﬁ", "İi ǆ", "Σας ΑΣ", "ABC", "Title Case word's", "x=%s", "%d%%", "{}", "{0} {a}", "user", "assistant", "a b  c   d", "\u2028sep\x1cx", "it's", 'say "hi"', "both ' and \"",
           "back\\slash", "100%", "CamelCase", "e\u0301", "\u00a0nbsp\u00a0", "٣", "²", "x" * 90, "the quick brown fox jumps over the lazy dog " * 3, "www.example.com and http://x.org/?a=b&c (see mailto:me@x.de).",
           "<p>a <!-- no --> <i>b</i>\n c</p>", "\x00\x7f\u200b", "12345678901234567890", "9223372036854775807", "\u1e9e", "  lead", "trail  ", "--dash--", "a-b_c",
           "<think>\nwhy\n</think>\n\nanswer", '{"a": [1, 2]}', "-98765432109876543210987", "1_000", "0b101", "0o17", "zz", " 7 ", "+5", "ftp://h/x, https://[::1]:80/p?q=1#f <a@b.org>", "a&amp;b &lt;&#39;&nbsp;", "one\n\n  two\n\tthree\n", "tab\tand\x0bvt\x0cff\x85nel"]
INTS = [0, 1, 2, 3, -1, -2, 5, 7, 10, 255, 1000, 12345678, -7, 2**31, 2**53, 2**62, -(2**63), 2**63 - 1, 2**63, 2**64, -(2**64) - 1, 10**25, -(3**50)]
SMALL = 13  # of INTS
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, 2.5, -2.5, 3.14159, 1e16, 1e22, 1e-5, 123456.789, 1e300, 5e-324, 0.1, -0.1, 1e15, 2.675]

LEAVES = {
    "I": "0 1 2 3 -1 10 0x1f 1_000 0b11 0o17 i j 7 i j 18446744073709551616 007".split(),
    "N": "1.5 0.1 1e3 2.5e-3 f g 1e16 123.456 3.0 i j".split(),
    "S": ["s", "t", "u", "$literal", "s", "t", "$literal"],
    "L": ["l", "w", "m", "rows", "nested", "messages", "l", "[1, 2, 3]"],
    "D": ["d", "e", "d", "e", "{'a': 1, 'b': s}", "{}", "dict(a=1, b=i)", "dict(e, z=3)", "(messages|first)", "(rows|first)", "{1: 'x', none: 2, 1.5: 3, true: 4}", "dict([('k', 1)])", "dict.fromkeys(['a', 'b'], 1)", "{('t', 1): 5}"],
    "B": ["yes", "no", "true", "false", "s", "l", "n", "i", "undefined_name", "True", "False"],
    "E": ["i", "s", "l", "1", "'x'", "none", "f", "d"],
}

ARITHMETIC = ["+", "-", "*", "//", "%"]
INTEGERS = (
    [f"$I {op} $I" for op in ARITHMETIC] + ["$I + $I", "$I - $I", "($L | length)", "$I ** 2", "$I ** 0", "$I ** 3", "$I ** -1", "$I ** 20", "-$I", "+$I", "2 ** 100", "10 ** 18 * $I", "($I) ** 2 % 1000", "i if $B else j"]
    + [f"($S)|{f}" for f in ("length", "int", "wordcount", "count", "int(-1)", "int(default=2, base=16)", "int(0, 8)", "int(base=2)", "int(none, 36)", "int(7, 0)", "int(base=10)")]
    + [f"($I)|{f}" for f in ("abs", "int", "round", "round(-2)", "round(1)", "float|int")]
    + [f"$A.{m}($S)" for m in ("find", "count", "rfind", "index", "rindex")] + ["$A.find($S, $I)", "$A.count($S, $I, $I)", "$A.rfind($S, 0, -1)"]
    + ["($L|sum)", "($L|first)", "($L|last)", "($L|max)", "($L|min)", "($L|count)", "l.count($I)", "(i).bit_length()", "($I).bit_count()", "($F)|int", "(f * 1e10)|int", "($S|float * 7)|int"])
NUMBERS = (
    [f"$N {op} $N" for op in ARITHMETIC + ["/", "**"]] + [f"($N)|{f}" for f in ("round", "round(2)", "round(1, 'ceil')", "round(method='floor')", "round(3, 'common')", "abs", "float", "int", "round(-1)", "round(0)", "round(precision=1)")]
    + ["$S|float", "$S|float(1.5)", "$S|float(default=none)", "$I / $I", "$I / 3", "$I * 0.5", "($L|sum) / 2", "$F", "$F"])
FLOAT_LEAVES = ["f", "g", "1.5", "2.675", "1e22", "0.1"]

STRING_METHODS = [
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip()", "rstrip()", "strip($S)", "lstrip($S)", "rstrip($S)", "strip(none)", r"strip('\n')", r"lstrip('\n')", r"rstrip(' \n')", "isdigit()", "isalpha()", "isalnum()",
    "isspace()", "isupper()", "islower()", "istitle()", "isdecimal()", "isnumeric()", "isidentifier()", "isprintable()", "isascii()", "split($S)", "split()", "split($S, 1)", "split($S, 0)", "split($S, -1)", "split($S, 2)", "rsplit($S, 1)", "rsplit($S)",
    "rsplit(none, 1)", "split(none, 1)", "split(maxsplit=1)", "split(sep=$S, maxsplit=2)", "rsplit(maxsplit=1)", "splitlines()", "splitlines(true)", "splitlines(keepends=true)", "partition($S)", "rpartition($S)", "replace($S, $S)", "replace($S, $S, 1)", "replace($S, $S, -1)", "replace($S, $S, 0)", "replace($S, '')", "startswith($S)",
    "endswith($S)", "startswith(($S, $S))", "endswith(('a', $S))", "startswith($S, 1)", "endswith($S, 0, 3)", "startswith(())", "join($L)", "join($A)", "center(10, '*')", "center(7)", "center(0)", "ljust(8)", "rjust(8, '.')", "ljust($I % 20, 'é')", "zfill(6)", "expandtabs(4)", "expandtabs()", "expandtabs(tabsize=2)", "expandtabs(0)",
    "count($S)", "find($S, 1)", "rindex($S)", "removeprefix($S)", "removesuffix($S)", "format($E, a=$E)", "format(*l)", "format(**e)", "format_map(e)", "format_map($D)", "__len__()", "nope()", "translate({97: 'z'})", "translate({97: none, 98: 'BB', 99: 100})", "maketrans('a', 'b')", "maketrans($S, $S, 'x')", "maketrans({'a': 'b'})",
    "translate({'a': 'x'})", "count($S, 0, 2)", "count('')", "index($S, 0, 5)", "split(sep=none)", "join('abc')", "join($L|map('string'))", "split('</think>')[-1].lstrip()", "split('<think>')|last", "split(',')|map('trim')|list", "upper().lower()", "strip().split(' ')", "strip(1)", "replace('a')", "split('')", "partition('')", "zfill(-1)", "center()", "startswith(1)", "encode", "isupper"]
STRING_FILTERS = [
    "upper", "lower", "title", "capitalize", "trim", "trim($S)", "trim(chars=' x')", "string", "safe", "escape", "e", "forceescape", "tojson", "replace($S, $S)", "replace($S, $S, 1)", "replace(old='a', new=$S)", "replace($S, $I)", "indent", "indent(2)", "indent(2, true)", "indent(width=3, blank=true)", "indent('> ')", "indent(first=true)", "indent(0, true, true)",
    "truncate(10)", "truncate(5, true)", "truncate(8, false, '…')", "truncate(5, true, '', 0)", "truncate(length=9, leeway=0)", "truncate(2)", "truncate(20, killwords=true, end='~')", "center(12)", "center", "center(width=5)", "default($S)", "default($S, true)", "d($S, boolean=true)", "default(default_value='v')", "wordwrap(10)", "wordwrap(5, false)", "wordwrap(8, true, '|')",
    "wordwrap(20, break_on_hyphens=false)", "wordwrap(1)", "wordwrap", "wordwrap(width=4, break_long_words=false, wrapstring='<br>')", "wordwrap(0)", "urlencode", "striptags", "urlize", "urlize(10)", "urlize(20, true)", "urlize(nofollow=true, target='_blank')", "urlize(rel='me you')", "urlize(extra_schemes=['ftp://', 'tel:'])", "urlize(trim_url_limit=-3)", "pprint", "reverse", "list|join('-')", "format($E)", "format($E, $E)", "format(a=$E)", "first", "last", "length|string", "batch(2)|list|string", "xmlattr", "title|safe", "upper|e", "e|upper", "escape|replace('<', '>')",
    "filesizeformat", "tojson(indent=2)", "tojson(ensure_ascii=true)", "items|list", "list|sort|join", "unique|join", "trim", "trim|length", "list|tojson", "select('upper')|join", "map('upper')|join('.')", "sort|list|string", "slice(3)|list|string", "batch(3, '_')|map('join')|join('/')", "e|e", "safe|e", "striptags|upper", "attr('upper')()", "nope"]
STRING_FORMS = ["($S ~ $S)", "($S + $S)", "($E ~ $E)", "($S|$sf)", "($S|$sf)", "($S|$sf)", "($S|$sf)", "$A.$sm", "$A.$sm", "$A.$sm", "$A$X", "($L|join)", "($L|join(','))", "($L|join(', ', attribute='name'))", "($L|join('<'))", "($L|join(d=$S))", "$format", "$format", "($S * 2)", "($S * $I)", "($S if $B else $S)", "($S or $S)", "($E|string)"]

PERCENT_SPECS = "%s|%r|%d|%5d|%-5d!|%05d|%+d|% d|%x|%#x|%X|%o|%#o|%e|%.2e|%f|%.2f|%10.3f|%g|%G|%.3s|%10s|%-10s!|%c|%5c|%%|%a|%i|%u|%s %s|%*d|%.*f|%(a)s|%(a)05.1f|%z|%|%ld|%.0f|%#.3g|%s%%|%5%|%+.1e|%r and %s|%08.3f|%-08d!|%x %X|%.5d|%+.3d|%#010x|%-+6d!|% 05d|%.0s|%(b)r|%(a)d %(a)s|%5.1%|%F|%E|%.10g|%#.0f|%#x|%5s %-5s|%.2s%c|%*s|%-*d!|%*.*f".split("|")
PERCENT_ARGUMENTS = ["($E,)", "$E", "($E, $E)", "(i, j)", "(f,)", "{'a': f}", "{'a': s}", "{'a': $E, 'b': $E}", "d", "i", "f", "j", "(3, i)", "s", "l", "(5, 2, f)", "()", "[]", "($S, $S)", "(-6, $E)"]
BRACE_SPECS = "{}|{!r}|{!s}|{!a}|{:5}|{:<5}!|{:>5}|{:^5}!|{:*^9}|{:d}|{:05d}|{:+d}|{:,}|{:_}|{:x}|{:#x}|{:#b}|{:o}|{:e}|{:.2f}|{:.3}|{:10.2f}|{:g}|{:.2%}|{:n}|{:c}|{:s}|{0}{0}|{1}|{a}|{a!r:>6}|{0.real}|{0[a]}|{0[0]}|{{}}|{|}|{:{}}|{:>{a}}|{0.__class__}|{:+,.1f}|{: }|{:=+6d}|{:06.1f}|{:#o}|{:.0f}|{:e}|{:X}|{:!}|{!x}|{:z}|{:-^7}|{:é<5}|{0:}|{:,.2f}|{:G}|{:.1}|{:#.3g}|{:<05}|{:%}|{:_x}|{:,d}|{:.}|{:5c}|{:08,}|{:.3e}|{:z.1f}|{:+z.0f}|{:zd}|{:-z#.2g}|{:_b}|{:#_x}|{:,x}|{:_.2f}|{:012_x}|{:=8}|{:0=8}|{:x<08}|{:.5s}|{:>8.3s}|{:0>5}|{:#X}|{:#.0f}|{:#.0e}|{:F}|{:E}|{:,.0f}|{:020,.2f}|{:+}|{0:>{1}}|{:{}.{}}|{a:{b}}|{!r:^9}|{0!s}|{0.x}|{a[0]}|{0[-1]}|{:%Y}|{:_,}|{:,_}|{:+s}|{:#s}|{: s}|{:,s}|{:b}|{:#c}|{:+c}|{:.2d}|{: n}|{:#n}|{:,n}|{:_e}|{:_%}|{}{}|{0}{}|{ }|{ 0}|{a }|{0[ a ]}|{:}}|{:{{}}}|{[0]}|{.real}|{!r}{!s}".split("|")
BRACE_ARGUMENTS = ["$E", "$E, $E", "i", "f", "j", "f, i", "s, 9", "$E, a=$E", "i, a=8", "d", "l", "g", "a=$E, b='>7'", "f, 9, 2", "*l", "**d", "yes", "n", "w, 3", "-f", "$S", "$N"]

INDEXES = ["[0]", "[1]", "[-1]", "[2]", "[5]", "[i]", "[$I]", "[::-1]", "[1:]", "[:-1]", "[:2]", "[-2:]", "['a']", "[s]", ".0", ".1", "[none]", "[1.0]", "[true]", "[$b:$b]", "[$b:$b:$b]", "[$b:$b:$b]", "[0, 1]", ".a", ".name"]
BOUNDS = ["0", "1", "-1", "2", "-2", "i", "10", "none", "", "", "j"]

TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable", "sequence", "callable", "odd", "even", "true", "false", "lower", "upper", "escaped", "divisibleby 2", "divisibleby(3)", "divisibleby $I", "eq 1", "equalto('a')", "ne none", "gt 1", "lt(2)", "ge 1", "le 0", "in [1, 2]", "in s", "in($E)", "sameas none", "sameas(true)", "sameas n", "filter", "test", "== 1", "nope", "greaterthan 0", "lessthan 5", "in(l)", "eq s", "lt 'b'", "eq($E)", "!= 2", ">= 1", "none or yes", "string and true"]
TEST_ARGUMENTS = ["'string'", "'number'", "'odd'", "'none'", "'defined'", "'mapping'", "'gt', 2", "'equalto', 1", "'in', [1, 2, 3]", "'divisibleby', 2", "'iterable'", "'sameas', none", "'lower'", "'true'", "'>', 1", "'ne', 'a'", "'even'", "'integer'", "'nope'", "'eq', s", "'in', $E", "'lt', $E", "'=='", "'eq', other=1", "'sequence'", "'float'"]

LIST_FILTERS = [
    "list", "sort", "sort(reverse=true)", "sort(true, true)", "sort(attribute='name')", "sort(attribute='age,name')", "sort(case_sensitive=true)", "sort(attribute=0)", "sort(attribute='tags.0')", "sort(false, false, 'name')", "reverse|list", "unique|list", "unique(true)|list", "unique(attribute='name')|list", "unique(case_sensitive=true, attribute='age')|list", "batch(2)|list", "batch(3, '-')|list", "batch(linecount=2, fill_with=0)|list", "batch(0)|list", "slice(2)|list", "slice(3, none)|list", "slice(2, 'z')|list", "slice(slices=4)|list", "slice(0)|list",
    "map('upper')|list", "map('string')|list", "map('length')|list", "map('default', 'q')|list", "map('default', default_value='q', boolean=true)|list", "map(attribute='name')|list", "map(attribute='opt', default='D')|list", "map(attribute='tags.0')|list", "map(attribute=0)|list", "map('int')|list", "map('int', base=16)|list", "map('tojson')|list", "map('round', 1)|list", "map('replace', 'a', 'b')|list", "map('nope')|list", "map|list", "map('first')|list", "map('trim', 'x')|list", "map('attr', 'upper')|list|length", "map('format', 1)|list", "map('truncate', 4, true)|list", "map('list')|list", "map('join', '+')|list", "map(attribute='name', default=none)|list", "map('upper', attribute='x')|list", "map(nope=1)|list",
    "select|list", "reject|list", "select($T)|list", "reject($T)|list", "selectattr('on')|list", "rejectattr('on')|list", "selectattr('age', $T)|list", "selectattr('name', 'eq', 'x')|list", "rejectattr('opt', $T)|list", "selectattr('tags.0', 'defined')|list", "selectattr('role', 'equalto', 'user')|list", "rejectattr('role', 'in', ['user', 'tool'])|list", "selectattr('content', 'string')|map(attribute='content')|list", "selectattr('opt', 'defined')|rejectattr('opt', 'none')|list", "selectattr|list", "groupby('name')|list", "groupby('age')|list",
    "groupby('opt', default='none')|list", "groupby('name', case_sensitive=true)|list", "groupby(attribute='tags')|list", "groupby('name')|map('last')|list", "groupby('role')|map(attribute='list')|map('length')|list", "groupby(0)|list", "map('abs')|list", "map('trim')|map('upper')|list", "$lazy", "$lazy", "first", "last", "list", "sum|list", "items|list", "min", "max", "min(attribute='age')", "max(attribute='name')", "max(true)", "max(case_sensitive=true, attribute='name')", "tojson", "pprint", "string|list", "xmlattr|list", "map('indent')|list", "attr('x')|list", "sum(attribute='age')", "sum('age', 10)", "join(attribute='name')|list", "dictsort", "length", "default([])|list", "nope"]
LAZY = ["reverse", "unique", "select", "map('string')", "batch(2)", "slice(2)", "map", "selectattr('on')", "reject('none')", "map(attribute='name')", "groupby('age')|map('first')", "map('upper')", "select('in', s)", "items", "rejectattr('age', 'gt', 2)"]
LAZY_USES = ["list", "first", "join('+')", "length|string", "sort", "unique|list", "map('upper')|list", "select('string')|list", "sum", "max", "tojson", "last", "batch(2)|list", "sum(start=[])", "dictsort", "items|list", "trim|length|string", "reverse|list", "slice(2)|list", "default('x')|list", "map('list')|list", "join", "min", "groupby(0)|list"]
LIST_FORMS = (
    ["($L|$lf)"] * 5 + ["[$E]", "[$E, $E]", "[$E, $E, $E]", "[]", "($E,)", "($E, $E)", "()", "range(3)", "range(1, 4)", "range(5, 0, -2)", "range(($I) % 7)", "range(0)", "range(0, 10, 3)", "range(($I) % 9)", "($L + $L)", "($L + [$E])", "$A.split()", "$A.split(',')", "$A.split(' ')", "($L)$X", "($L * 2)", "($L * 0)", "($L * (i % 3))", "$D.items()", "$D.keys()", "$D.values()", "($D|list)"]
    + [f"($D|{f})" for f in ("dictsort", "items|list", "list", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "dictsort(false, 'value', true)", "dictsort(case_sensitive=true, reverse=true)", "dictsort(by='nope')")]
    + ["rows|map(attribute='name')|list", "rows|selectattr('on')|list", "rows|groupby('age')", "rows|groupby('name')|map(attribute='grouper')|list", "rows|map(attribute='tags')|sum(start=[])", "nested|sum(start=[])", "messages|selectattr('role', 'equalto', 'user')|list", "messages[1:]", "messages[:-1]", "messages[::-1]", "(messages if $B else [])", "$S|list", "big"])

DICT_FORMS = ["$D", "$D", "$D", "{$k: $E}", "{$k: $E, $k: $E}", "{}", "$D.copy()", "namespace(a=1, b=s)", "(d|dictsort|list)", "(d.items()|list)", "dict($D, a=$E)", "dict(**e)", "dict(d.items())", "dict.fromkeys($L)", "dict(zip=1)"]
KEYS = ["'a'", "'b'", "s", "1", "none", "1.5", "true", "i", "(1, 2)", "j", "$E"]

COMPARISONS = ["==", "!=", "<", "<=", ">", ">="]
CONDITIONS = (
    [f"{a} {op} {a}" for a in ("$I", "$N", "$S", "$E") for op in COMPARISONS] + ["$E in $L", "$E not in $S", "$E in $D", "$E in $E", "$S in $S", "$S in $D", "$E in $D.items()", "$E in $D.keys()", "$E not in $D.values()", "$L in $D.items()", "$D in $L", "$E in $L|map('string')"]
    + ["($E) is $t", "($E) is not $t"] * 8 + ["not $B", "not $B", "($B and $B)", "($B or $B)", "($B and $B)", "$I < $I < $I", "$I == $I != $I", "$I <= $I > $I", "$A.startswith($S)", "$A.endswith($S)", "$L == $L", "$D == $D", "$L < $L", "d.keys() == e.keys()", "$method", "$B and not $B", "(messages[0].role == 'user') != (i % 2 == 0)", "loop is defined", "v is mapping and v.a is defined", "($S is string) and ($S|trim)|length > 0"])
METHOD_THINGS = ["d.items", "s.title", "l.append", "l.index", "i.bit_length", "d.update", "range", "dict", "namespace", "cycler('a', 'b')", "joiner()", "strftime_now", "raise_exception", "s|attr('upper')", "e.get", "d.pop", "i.real", "w.sort"]
METHOD_TESTS = ["defined", "callable", "string", "iterable", "mapping", "none", "sequence", "number"]

THINGS = ["none", "None", "undefined_name", "n", "undefined_name.x", "v", "v.a", "v[0]", "d.a", "d['b']", "d.get('a')", "d.get('zz', 5)", "d.get($E)", "d.nope", "e.x", "rows[0].name", "rows[0]['age']", "messages[-1].content", "messages[0]['role']", "i.real", "f.imag", "s.nope", "l.nope", "l.index(1)", "l.count(2)", "w.index('a')", "f.is_integer()", "i.bit_length()", "f.hex()", "i.numerator", "d.pop('a')", "l.append(1)", "''.join(w)", "d|attr('a')", "l.copy()", "i.conjugate()", "f.as_integer_ratio()", "(1, 2).count(1)", "range(3).stop", "e.keys()|list", "yes.real", "s.__class__", "l.__len__()", "$method", "cycler('a', 'b').next()", "joiner()()", "loop", "self", "varargs", "caller", "raise_exception('no')", "strftime_now('%Y-%m-%d %H:%M:%S %j %A %b')", "strftime_now('%d %B %Y')", "strftime_now('%y%m%d %I:%M %p %% %a %U %w %Z')", "strftime_now($S)", "1 .real", "big[0]", "big[1]", "(big|first) + 1", "j.denominator", "l.index($E)", "w.index('a', 1)", "(rows|first|default({})).tags", "messages|length", "(messages|last).content", "messages[loop.index0].role", "d.items()|first", "tools", "add_generation_prompt", "documents is none", "e|length"]
JSON = ["tojson", "tojson(indent=2)", "tojson(indent=0)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(ensure_ascii=true)", "tojson(true, 1)", "tojson(indent='--')", "tojson(indent=4, sort_keys=true)", "tojson(indent=none)", "tojson(separators=('; ', '=> '), indent=1)", "tojson(false, 2, none, true)", "tojson(sort_keys=true, separators=(', ', ': '))", "tojson|safe", "tojson|e", "tojson|length", "tojson(indent=true)", "tojson(nope=1)"]
ANY_FILTERS = ["string", "pprint", "length", "list", "default(1)", "first", "last", "int", "float", "upper", "trim", "e", "safe", "sort", "sum", "abs", "round", "join", "reverse|list", "items|list", "dictsort", "title", "urlencode", "xmlattr", "filesizeformat", "filesizeformat(true)", "filesizeformat(binary=true)", "wordcount", "unique|list", "max", "min", "count", "format(1)", "indent", "center(9)", "truncate(4)", "striptags", "urlize", "wordwrap(6)", "attr('real')", "replace(1, 2)", "capitalize", "batch(2)|list", "slice(2)|list", "map(attribute=0)|list", "forceescape", "d", "d('z', true)", "nope", "xmlattr(false)", "xmlattr(autospace=true)", "int(5)", "float(0)", "round(2, 'floor')", "string|length", "list|length", "lower", "tojson|tojson", "map('string')|join", "select('defined')|list", "e|string", "attr('keys')", "groupby('a')|list", "sum(start=1)", "sum('a')"]
ANY_FORMS = (
    ["$I", "$N", "$S", "$L", "$D", "$B"] * 2 + ["$S", "$S", "$L", "$L"] + ["$thing"] * 2 + ["$E if $B else $E", "$E if $B", "($E)|$json", "($E)|$json", "($E)|$any", "($E)|$any", "($L)$X", "($S)$X", "($D)$X", "($E)$X", "($E or $E)", "($E and $E)", "($E)", "$macro", "$var", "$loop"])
LOOP_THINGS = ["loop.first", "loop.last", "loop.previtem", "loop.nextitem", "loop.cycle('a', 'b', 'c')", "loop.changed(s)", "loop.depth0", "loop.revindex0", "loop.index", "loop.index0", "loop.length", "loop.nope", "loop.previtem.x", "loop.changed(loop.index > 1)", "loop.cycle(*w)", "loop.revindex", "loop.depth", "loop.previtem == loop.nextitem", "(loop.previtem|default({})).role", "loop.nextitem is defined and loop.nextitem"]

NAMED = {"sf": STRING_FILTERS, "sm": STRING_METHODS, "lf": LIST_FILTERS, "t": TESTS, "k": KEYS, "b": BOUNDS, "thing": THINGS, "json": JSON, "any": ANY_FILTERS,
         "X": INDEXES, "T": TEST_ARGUMENTS, "F": FLOAT_LEAVES, "A": ["s", "t", "u", "$literal", "($S)"], "lazy": None, "literal": None, "format": None, "method": None, "macro": None, "var": None, "loop": None}
FORMS = {"I": INTEGERS, "N": NUMBERS, "S": STRING_FORMS, "L": LIST_FORMS, "D": DICT_FORMS, "B": CONDITIONS, "E": ANY_FORMS}
LEAF_CHANCE = {"I": .25, "N": .35, "S": .28, "L": .22, "D": .5, "B": .18, "E": 0}
HOLE = re.compile(r"\$([A-Za-z]+)")


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
            return self.r.choice(INTS)
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
        return {
            "i": r.choice(INTS[:SMALL]), "j": r.choice(INTS), "f": r.choice(FLOATS), "g": r.choice(FLOATS), "s": r.choice(STRINGS), "t": r.choice(STRINGS), "u": r.choice(STRINGS),
            "n": None, "yes": True, "no": False, "l": [r.choice(INTS[:SMALL]) for _ in range(r.randrange(6))], "w": [r.choice(STRINGS) for _ in range(r.randrange(6))],
            "big": [r.choice(INTS[SMALL:]) for _ in range(r.randrange(1, 4))],
            "m": [self.json_value() for _ in range(r.randrange(5))], "d": {k: self.json_value(1) for k in r.sample(["a", "b", "c", "items", "name", "B", "é"], r.randrange(6))},
            "e": {k: r.choice(INTS[:10]) for k in r.sample(["x", "Y", "z", "A"], r.randrange(4))},
            "rows": [{"name": r.choice(["x", "Y", "z", "y"]), "age": r.choice([1, 2, 3, 2.5]), "on": r.choice([True, False]), "tags": [r.choice("pqr") for _ in range(r.randrange(3))], **({"opt": r.choice([None, "o", 5])} if r.random() < .5 else {})} for _ in range(r.randrange(5))],
            "nested": [[1, [2, 3]], [], [[4]]], "v": self.json_value(),
            "messages": [{"role": r.choice(["user", "assistant", "system", "tool"]), "content": r.choice([r.choice(STRINGS), None, [{"type": "text", "text": "p"}]])} for _ in range(r.randrange(4))],
        }

    # ---- expressions

    def fill(self, production):
        return HOLE.sub(lambda hole: self.make(hole[1]), production)

    def make(self, kind):
        if kind in FORMS:
            return self.deeper(kind)
        choices = NAMED[kind]
        return self.fill(self.r.choice(choices)) if choices is not None else getattr(self, kind)()

    def deeper(self, kind):
        if self.depth > 5 or self.chance(LEAF_CHANCE[kind]):
            return self.fill(self.r.choice(LEAVES[kind]))
        self.depth += 1
        try:
            return self.fill(self.r.choice(FORMS[kind]))
        finally:
            self.depth -= 1

    def expr(self):
        return self.deeper("E")

    def literal(self):
        s = self.r.choice(STRINGS)
        if self.chance(0.15):
            return self.pick(r"'a\nb'", r'"\x41\u00e9"', r"'\t\\\''", r"'\U0001F600\101'", r"'\q'", r"'a' 'b'", r"'\r\n'", r"'\0'")
        q = "'" if "'" not in s else '"'
        if q in s or "\\" in s or "\n" in s:
            s = s.replace("\\", "\\\\").replace(q, "\\" + q).replace("\n", "\\n")
        return q + s + q

    def format(self):
        if self.chance(.5):
            return "('" + self.r.choice(PERCENT_SPECS) + "' % " + self.fill(self.r.choice(PERCENT_ARGUMENTS)) + ")"
        return "'" + self.r.choice(BRACE_SPECS) + "'.format(" + self.fill(self.r.choice(BRACE_ARGUMENTS)) + ")"

    def lazy(self):
        """A filter without a list of its own, with something that uses it up or looks at it."""
        return self.r.choice(LAZY) + "|" + self.r.choice(LAZY_USES)

    def method(self):
        """A method or a function that is not called, in a place that does not write it."""
        return f"({self.r.choice(METHOD_THINGS)}) is {self.r.choice(METHOD_TESTS)}"

    def macro(self):
        if not self.macros:
            return self.expr()
        name, params = self.r.choice(self.macros)
        args = [self.expr() for _ in range(self.r.randrange(len(params) + 2 if self.chance(.2) else len(params) + 1))]
        if self.chance(.3):
            args.append(f"{self.pick('p', 'q', 'zz')}={self.expr()}")
        if self.chance(.1):
            args.append("*l")
        if self.chance(.1):
            args.append("**e")
        return f"{name}({', '.join(args)})"

    def var(self):
        return self.r.choice(self.vars) if self.vars else self.expr()

    def loop(self):
        if not self.loopvars:
            return self.expr()
        return self.r.choice(self.loopvars) if self.chance(.3) else self.fill(self.r.choice(LOOP_THINGS))

    # ---- statements

    def text(self):
        return self.pick("text", "a ", " b", "\n", "  \n", "\n\n", "x\n  y", "é", "  ", "\t", "{", "}", "%", "{ {", "#", "<|im_start|>", "\r\n", "line\n", "- ", "'")

    def tag(self, inner):
        return "{%" + self.pick("", "", "", "-", "+") + " " + self.fill(inner) + " " + self.pick("", "", "", "-", "+") + "%}"

    def output(self):
        return "{{" + self.pick("", "", "", "-", "+" if self.chance(.3) else "") + " " + self.expr() + " " + self.pick("", "", "-") + "}}"

    def body(self, depth):
        return "".join(self.statement(depth + 1) for _ in range(self.r.randrange(1, 4)))

    def statement(self, depth=0):
        k = self.r.randrange(34 if depth < 4 else 10)
        if k < 4:
            return self.text()
        if k < 11:
            return self.output()
        if k < 14:
            out = self.tag("if $B") + self.body(depth)
            if self.chance(.3):
                out += self.tag("elif $B") + self.body(depth)
            if self.chance(.5):
                out += self.tag("else") + self.body(depth)
            return out + self.tag("endif")
        if k < 18:
            return self.for_loop(depth)
        if k < 21:
            return self.assignment(depth)
        if k == 21:
            return self.define_macro(depth)
        if k == 22 and self.macros:
            name, params = self.r.choice(self.macros)
            arguments = ", ".join("$E" for _ in params)
            return self.tag(f"call{self.pick('', '(a)', '(a, b=1)', '(*a)' if self.chance(.05) else '()')} {name}({arguments})") + self.body(depth) + self.tag("endcall")
        if k == 23:
            return self.tag("filter $sf" + self.pick("", "", "|$sf", "|$sf|trim")) + self.body(depth) + self.tag("endfilter")
        if k == 24:
            names = self.pick(["x"], ["x", "y"], [])
            out = self.tag("with " + ", ".join(f"{n} = $E" for n in names))
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
                return self.tag("if $B") + self.tag(self.pick("break", "continue")) + self.tag("endif")
            return self.tag("print $E") if self.chance(.3) else self.output()
        if k == 28:
            return self.tag(f"autoescape {self.pick('true', 'true', 'false')}") + self.body(depth) + self.tag("endautoescape")
        if k == 29 and self.chance(.3):
            name = f"b{self.r.randrange(100)}"
            return self.tag(f"block {name}{self.pick('', ' scoped')}") + self.body(depth) + self.tag("endblock") + self.pick("", "{{ self." + name + "() }}")
        if k == 30:
            return self.message_loop(depth)
        if k == 31:
            return self.recursive_macro()
        if k == 32:
            return self.namespace_counter(depth)
        return self.output()

    def assignment(self, depth):
        name = self.pick("x", "y", "z")
        if self.chance(.25):
            out = self.tag(f"set {name}" + self.pick("", " | $sf", " | $sf | $sf")) + self.body(depth) + self.tag("endset")
        elif self.chance(.2):
            out = self.tag(f"set {self.pick('x, y', '(x, y)', 'x, (y, z)')} = {self.pick('1, 2', 's, t', 'l', '(i, j)', 'd.items()', '[3, 4]', '1, [2, 3]', '$L', '$E')}")
            self.vars += ["x", "y"]
        elif self.chance(.25):
            self.vars += ["ns.c", "ns.k", "ns"]
            out = self.tag("set ns = namespace(c=$E, k=0)") + self.body(depth) + self.tag("set ns.c = $E")
        else:
            out = self.tag(f"set {name} = $E")
        self.vars.append(name)
        return out

    def define_macro(self, depth):
        params = self.r.choice([[], ["p"], ["p", "q=2"], ["p", "q"], ["p=s", "q=p"], ["p='d'"], ["p", "q=none", "z=[]"], ["p=undefined_name"], ["caller=none"]])
        name = self.pick("mac", "fun")
        old = self.vars, self.in_loop, self.loopvars
        names = [q.split("=")[0] for q in params]
        extra = (["varargs", "kwargs", "varargs|length", "kwargs|dictsort", "kwargs.zz"] if self.chance(.3) else []) + (["caller()", "caller(1)", "caller(s, b=i)", "caller is defined"] if self.chance(.3) else [])
        self.vars, self.in_loop, self.loopvars = self.vars + names + extra, 0, []
        out = self.tag(f"macro {name}({', '.join(params)})") + self.body(depth) + self.tag("endmacro")
        self.vars, self.in_loop, self.loopvars = old
        self.macros.append((name, params))
        return out

    def for_loop(self, depth):
        target, source = self.r.choice([("x", "$L"), ("x", "$L"), ("k, x", "$D.items()"), ("x", "$S"), ("c", "messages"), ("x", "rows"), ("a, b", "[(1, 2), (3, 4)]"), ("x", "$D"), ("x", "$E"), ("k, x", "$D|items"), ("k, x", "$D|dictsort"), ("a, (b, c)", "[(1, (2, 3)), (4, '56')]"), ("k, x", "rows|groupby('name')"), ("x", "range(($I) % 5)"), ("x", "$L|reverse"), ("x", "$L|batch(2)"), ("a, b", "$L")])
        old = self.loopvars
        head = f"for {target} in {self.fill(source)}"
        self.loopvars = old + re.findall(r"\w", target)
        recursive = False
        if self.chance(.2):
            self.in_loop, saved = 0, self.in_loop
            head += f" if {self.deeper('B')}"
            self.in_loop = saved
        elif self.chance(.1):
            head = "for x in nested" + self.pick("", " if x") + " recursive"
            recursive = True
        self.in_loop += 1
        out = self.tag(head) + self.body(depth)
        if recursive:
            out += "{% if x is sequence and x is not string %}[{{ loop(x) }}]{% else %}{{ x }}@{{ loop.depth }}{% endif %}"
        self.in_loop -= 1
        self.loopvars = old
        if self.chance(.2):
            out += self.tag("else") + self.body(depth)
        return out + self.tag("endfor")

    def message_loop(self, depth):
        """As chat templates walk over their messages."""
        old = self.loopvars
        self.loopvars = old + ["message.content", "message['role']", "message.role", "message.get('tool_calls')"]
        self.in_loop += 1
        out = self.tag("for message in " + self.pick("messages", "messages[1:]", "messages[::-1]", "messages if message.role != 'system'"))
        out += self.tag("if " + self.pick("message.role == 'user'", "message['role'] in ['user', 'tool']", "(message.role == 'user') == (loop.index0 % 2 == 0)", "message.content is string", "message.content is iterable and message.content is not string", "loop.last and add_generation_prompt is false", "not loop.first and messages[loop.index0 - 1].role != message.role"))
        out += self.body(depth) + self.tag("else") + self.pick("{{ '<|' ~ message.role ~ '|>' }}", "{{- message.content|trim -}}", "{{ message | tojson }}", "{{ message.content + '\\n' }}") + self.tag("endif")
        self.in_loop -= 1
        self.loopvars = old
        return out + self.tag("endfor")

    def recursive_macro(self):
        name = self.pick("show", "walk")
        inner = self.pick("{{ v|string|upper }}", "{{ v|tojson }}", "{{ v }}", "<{{ v|e }}>")
        return (self.tag(f"macro {name}(v, depth=0)") + self.tag("if v is mapping") + "{" + self.tag("for k, x in v|dictsort" if self.chance(.5) else "for k, x in v.items()") + "{{ k }}:{{ " + name + "(x, depth + 1) }}"
                + self.tag("if not loop.last") + "," + self.tag("endif") + self.tag("endfor") + "}" + self.tag("elif v is iterable and v is not string") + "[" + self.tag("for x in v") + "{{ " + name + "(x, depth=depth + 1) }};" + self.tag("endfor") + "]"
                + self.tag("else") + inner + "{{ depth }}" + self.tag("endif") + self.tag("endmacro") + "{{ " + name + self.fill("($E)") + self.pick("", "|trim", "|length", "|indent(2)") + " }}")

    def namespace_counter(self, depth):
        old = self.loopvars
        self.loopvars = old + ["ns.c", "ns.seen", "x"]
        self.in_loop += 1
        out = self.tag("set ns = namespace(c=$I, seen=false, l=[])") + self.tag("for x in $L") + self.tag("set ns.c = " + self.pick("ns.c + 1", "ns.c ~ x", "ns.c * 3", "loop.index", "$E")) + self.tag("set ns.l = ns.l + [" + self.pick("x", "ns.c", "$E") + "]")
        out += self.tag("if $B") + self.tag("set ns.seen = true") + self.pick("", self.tag("break")) + self.tag("endif") + self.body(depth)
        self.in_loop -= 1
        self.loopvars = old
        return out + self.tag("endfor") + "{{ ns.c }}{{ ns.seen }}{{ ns.l" + self.pick("", "|length", "|join(',')", "|tojson") + " }}"

    def template(self):
        if self.chance(.5):
            return "{{ " + self.expr() + " }}"
        return "".join(self.statement() for _ in range(self.r.randrange(1, 6)))
