#!/usr/bin/env python3
"""Writes tests/fixtures/text/jinja_cases.json: small templates with what jinja2, set up as transformers does, makes
of them. A case holds "template", "context" and either "text" (with "spans" where there are any) or "error".

    tests/reference/make_jinja_fixtures.py        # needs the Python package transformers
"""
import json
import pathlib

from jinja_oracle import NOW, chat_template_utils, set_up

CONTEXT = {
    "n": 7, "f": 2.5, "s": "Hello World", "u": "Grüße, 世界 🌍", "none_value": None, "yes": True, "no": False,
    "list": [3, 1, 2], "words": ["b", "A", "c"], "empty": [], "blank": "",
    "d": {"b": 1, "a": {"x": [10, 20]}, "items": "key"},
    "rows": [{"name": "x", "age": 3, "on": True}, {"name": "Y", "age": 1, "on": False}, {"name": "z", "age": 3}],
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
}


EXPRESSIONS = r"""
7 / 3 // -1e300
-0.0 // 3
0 / 0b11 // 7
(0 / -5) // 7
-1e-20 // 1
1.0 // -1e999
-1.0 % 1e999
9007199254740993 / 3
9223372036854775807 / 9223372036854775806
-9223372036854775807 / 10
-0.0 | round(1, 'ceil')
-0.04 | round(1, 'ceil')
0.0 | round(1, 'floor')
'nan' | float | round(1, 'ceil')
1e999 | round(1, 'floor')
1 + 2 * 3
(1 + 2) * 3
7 // 2
-7 // 2
7 % -3
-7 % 3
7.5 // 2
-7.5 % 2
7 / 2
4 / 2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2 ** 0.5
1 / 0
1 // 0
1 % 0
1.0 / 0
9223372036854775807
1_000 + 0x1F + 0b101 + 0o17
1e3
1.5e-7
1e16
123456789012345680.0
0.1 + 0.2
1e22
1.0
-0.0
true + true
True and 5
0 or 'x'
none or none
not 1
not not ''
1 < 2 < 3
1 < 3 < 2
1 == 1.0 == true
'a' < 'b'
[1, 2] < [1, 3]
(1, 2) == (1, 2)
[1] == (1,)
1 < 'a'
none < 1
'a' in 'abc'
'' in 'abc'
1 in [1, 2]
'b' in d
'zz' not in d
1 in 'abc'
1 in none
x in undefined_name
1 in 5
'a' ~ 1 ~ none ~ true ~ 1.0 ~ undefined_name
'a' 'b' "c"
'a' + 'b'
'a' + 1
1 + 'a'
'ab' * 3
3 * 'ab'
'ab' * -1
[1] * 2
'a' * 2.0
[1] + [2]
[1] + (2,)
{} + {}
undefined_name
undefined_name + 1
undefined_name.x
undefined_name[0]
undefined_name()
undefined_name == other_undefined
undefined_name == none
undefined_name|length
undefined_name|list
undefined_name or 'fallback'
d.zzz
d.zzz.y
d['zzz']
d['zzz']['y']
none.x
none_value.x.y
n.x
s.foo.bar
list.foo
list[10]
list[10].x
list[-1]
list['0']
list[1.5]
list.0
list.1
d.a.x[1]
d['a']['x'].0
d.items
d['items']
d.b
s[0]
s[-1]
s[100]
u[0:6]
u[8]
u[-1]
u[::-1]
u[1:4]
u[:-2]
s[::2]
s[5:1:-2]
s[::-1]
list[::-1]
list[1:]
list[:1]
list[-2:]
list[5:]
list[::2]
(1, 2, 3)[::-1]
s[::0]
range(10)[2:5]|list
range(5)
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(1, 2, 0)
range('a')
range(1000000)
range(3)[1]
range(3).start
[1, 'a', none, true, 1.5, [2], (3,), {}]
(1,)
()
(1, 2)
{'a': 1, 2: 'b', none: [], (1, 2): 3, 1.5: true}
{'a': 1}['a']
{1: 'x'}[1]
{1: 'x'}[true]
{1: 'x', 1.0: 'y'}
{[1]: 2}
{'a': 1, 'a': 2}
'x' if yes else 'y'
'x' if no else 'y'
'x' if no
('x' if no) is defined
('x' if no).foo
'a' if no else 'b' if no else 'c'
1 if true if false else 2
[x for x in y]
s.upper()
s.lower()
s.title()
s.swapcase()
s.capitalize()
u.upper()
u.lower()
'straße'.upper()
'ΣΑΣ'.lower()
"it's a dog's life".title()
"it's a dog's-life (x) [y]"|title
'élan vital'|title
'  x '.strip() ~ '|'
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'abcba'.strip('ab')
'a,b,,c'.split(',')
'a b  c '.split()
' a b  c '.split(none, 1)
'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)
' a b  c '.rsplit(none, 1)
'a,b'.split('')
'a\nb\r\nc\x0bd'.splitlines()
'a\nb'.splitlines(true)
'abc'.startswith('a')
'abc'.startswith(('x', 'a'))
'abc'.startswith('b', 1)
'abc'.endswith('c')
'abc'.endswith(['c'])
'abcabc'.find('c')
'abcabc'.rfind('c')
'世界世'.rfind('世')
'世界'.find('界')
'abc'.find('z')
'abc'.index('z')
'abc'.count('')
'banana'.count('an')
'banana'.replace('an', 'x')
'banana'.replace('an', 'x', 1)
'ab'.replace('', '-')
'-'.join(['a', 'b'])
'-'.join([1])
'-'.join(words)
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('z')
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'ab'.ljust(5) ~ '|'
'ab'.rjust(5, '*')
'ab'.center(5, '*')
'abc'.center(6, '*')
'-5'.zfill(4)
'a\tb'.expandtabs(4)
'abc'.isalpha()
'ab1'.isalnum()
'12'.isdigit()
''.isdigit()
' '.isspace()
'Ab'.istitle()
'ab'.islower()
'AB1'.isupper()
'ab_1'.isidentifier()
'aé'.isascii()
'a\n'.isprintable()
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 'a')
'{x} {y!r}'.format(x=1, y='q')
'{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c')
'{:05d} {:+d} {:x} {:#x} {:b} {:,}'.format(42, 42, 255, 255, 5, 1234567)
'{:.2f} {:8.3f} {:e} {:g} {:%}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.25)
'{:*^9.3}'.format('abcdef')
'{0[x]} {0[y][0]}'.format({'x': 1, 'y': [2]})
'{{}} {}'.format(1)
'{:{}}'.format('a', 4) ~ '|'
'{} {1}'.format(1, 2)
'{}'.format()
'{0.__class__}'.format(1)
'%s and %r' % ('a', 'b')
'%d %5d %-5d| %05d %+d' % (1, 2, 3, 4, 5)
'%.2f %8.3f %e %g' % (1.005, 2.5, 12345.678, 0.0001)
'%x %X %o %#x %c %%' % (255, 255, 8, 255, 'z')
'%(a)s-%(b)d' % {'a': 1, 'b': 2}
'%s' % 'one'
'%s %s' % 'one'
'%s' % (1, 2)
'%d' % 'a'
'%s' % [1, 2]
'%5.1s|' % 'abc'
d.keys()
d.values()
d.items()
{'x': 1}.items()
{'x': 1}.items()|list
{'x': 1}.keys()|list
{'x': 1}.get('x')
{'x': 1}.get('y')
{'x': 1}.get('y', 2)
d.get('a').x
{'x': 1}.pop('x')
{'x': 1}.update({})
list.append(4)
list.append
list.pop()
list.sort()
list.index(1)
list.index(9)
list.count(1)
(1, 2, 1).count(1)
s.__class__
s.__class__.__mro__
''['__class__']
d.__class__
x is defined
s is defined
s is undefined
none is none
none_value is not none
undefined_name is none
1 is number
1.5 is number
true is number
true is boolean
1 is boolean
1 is integer
true is integer
1.0 is integer
1.0 is float
s is string
n is string
d is mapping
list is mapping
list is sequence
s is sequence
d is sequence
n is sequence
undefined_name is sequence
(1,) is sequence
list is iterable
n is iterable
none is iterable
undefined_name is iterable
s is iterable
true is true
1 is true
false is false
0 is false
3 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(2)
1 is eq 1
1 is equalto(2)
1 is ne 2
1 is lt 2
2 is ge 2
2 is greaterthan 1
1 is in [1, 2]
'a' is in('abc')
1 is not in [1]
s is lower
'abc' is lower
'ABC' is upper
s is sameas s
none is sameas none
range is callable
s is callable
'upper' is filter
'nope' is filter
'odd' is test
1 is nope
s is not string and true
not s is string
s is string is defined
-1|abs
1.5|abs
'x'|abs
s|upper
n|upper
none|upper
s|lower
'hello wORLD'|capitalize
s|length
u|length
d|length
list|count
n|length
none|length
list|first
empty|first
list|last
s|first
s|last
empty|last
list|sum
rows|sum('age')
rows|sum(attribute='age', start=10)
[1.5, 2]|sum
['a']|sum
list|min
list|max
words|max
empty|max
rows|map(attribute='age')|max
list|sort
list|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
rows|sort(attribute='age')|map(attribute='name')|list
rows|sort(attribute='age,name')|map(attribute='name')|list
rows|sort(reverse=true, attribute='age')|map(attribute='name')|list
[1, 'a']|sort
list|reverse|list
s|reverse
list|join
list|join(', ')
words|join('-')
rows|join(',', attribute='name')
[1, none, undefined_name]|join('|')
s|join('.')
n|join
list|list
s|list
d|list
n|list
list|map('string')|list
words|map('upper')|join
words|map('replace', 'b', 'x')|list
rows|map(attribute='name')|list
rows|map(attribute='on', default='?')|list
rows|map(attribute='nope')|list
rows|map('nope')|list
list|map()|list
list|select('odd')|list
list|select('gt', 1)|list
list|select|list
[0, 1, '', 'a']|select|list
[0, 1, '', 'a']|reject|list
list|reject('odd')|list
rows|selectattr('on')|map(attribute='name')|list
rows|selectattr('age', 'eq', 3)|map(attribute='name')|list
rows|selectattr('on', 'defined')|list|length
rows|rejectattr('on')|map(attribute='name')|list
rows|rejectattr('age', 'lt', 2)|list|length
rows|selectattr('age', 'in', [1])|list
rows|groupby('age')
rows|groupby('on', default=false)|map(attribute='grouper')|list
[1, 2, 1]|unique|list
words|unique|list
['a', 'A']|unique|list
['a', 'A']|unique(true)|list
rows|unique(attribute='age')|map(attribute='name')|list
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(2)|list
[1, 2, 3, 4, 5]|slice(3, 'x')|list
d|dictsort|map('first')|list
{'b': 1, 'A': 2}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value')
{'b': 1, 'A': 2}|dictsort(reverse=true)
{'b': 1}|dictsort(by='x')
{'b': 1}|items|list
undefined_name|items|list
list|items|list
undefined_name|default('x')
undefined_name|default
blank|default('x')
blank|default('x', true)
none|default('x')
none|d('x', boolean=true)
'42'|int
'42.7'|int
'x'|int
'x'|int(5)
'x'|int(default=6)
'ff'|int(base=16)
'0xff'|int(0, 16)
'1_000'|int
' 12 '|int
2.9|int
-2.9|int
none|int
true|int
'1e3'|int
'1.5'|float
'x'|float
'x'|float(1)
3|float
'inf'|float
2.5|round
3.5|round
2.567|round(2)
2.5|round(method='ceil')
2.5|round(method='floor')
2.567|round(1, 'floor')
1234|round(-2)
5|round
'x'|round
42|string
none|string
[1]|string ~ ''
' x '|trim ~ '|'
'xax'|trim('x')
n|trim
'a-b'|replace('-', '+')
'aaa'|replace('a', 'b', 2)
123|replace(2, 9)
'a\nb\n\nc'|indent
'a\nb'|indent(2, true)
'a\n\nb'|indent(2, blank=true)
'a\nb'|indent('> ')
'a\nb'|indent(width=1, first=true)
none|indent
'a'|center(5) ~ '|'
s|truncate(8)
s|truncate(5)
s|truncate(5, true)
s|truncate(5, true, '', 0)
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(11)
'a b  c-d'|wordcount
'<a href="x">&\'</a>'|e
'<b>'|escape ~ '<i>'
('<b>'|safe) + '<i>'
'<b>'|safe
'<b>'|safe|e
'<b>'|safe|forceescape
'<b>'|safe is escaped
'a b/c?d=é'|urlencode
{'a b': 'c&d', 'e': 1}|urlencode
{'class': 'x', 'id': none, 'n': 1}|xmlattr
1000|filesizeformat
1|filesizeformat
123456789|filesizeformat
123456789|filesizeformat(true)
'%s-%s'|format('a', 1)
'%(x)s'|format(x=1)
d|attr('b')
s|attr('upper') is defined
s|nope
yes and (s|nope)
(s|nope) if no else 'fine'
d|tojson
list|tojson
u|tojson
u|tojson(ensure_ascii=true)
u|tojson(true)
d|tojson(indent=2)
d|tojson(indent=0)
d|tojson(indent='\t')
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}, [1]]|tojson(indent=4)
d|tojson(separators=(',', ':'))
d|tojson(indent=2, separators=(', ', ': '))
{'b': 1, 'a': 2}|tojson(sort_keys=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1, 2): 3}|tojson
(1, 2)|tojson
'a"b\\c/\n\r\t\x08\x0c\x01\x7f<>&\''|tojson
1.0|tojson
1e100|tojson
none|tojson
true|tojson
('inf'|float)|tojson
undefined_name|tojson
range(3)|tojson
d.keys()|tojson
list|map('string')|tojson
'<b>'|safe|tojson
messages|tojson
'\u00e9\x41\101\N'
'\u00e9\x41\101\q'
'tab\there'
"quote\"d" + 'it\'s'
["it's", 'a"b', 'both\'"', 'n\nl', '\x00', 'é', '\u200b', '\U0001F600']
namespace(a=1).a
namespace({'a': 1}, b=2).b
namespace(a=1).zz is defined
namespace(_a=1)
dict(a=1)
dict([('a', 1)], b=2)
dict({'a': 1})
dict([1])
raise_exception('no way: ' ~ n)
raise_exception()
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y')
strftime_now('%A %j %%')
joiner()
cycler()
loop is defined
self is defined
caller is defined
foo.bar.baz
foo['bar']
1.real
5 .real
n.real
s.upper
s()
1()
none()
s.upper(1)
s.upper(x=1)
dict(**{'a': 1})
dict(*[[('a', 1)]], **{'b': 2})
s.split(*[' '])
s.replace('l', 'L', *[1])
(1, 2)|first
1 2
1 +
)
(1
[1
{1
{1: }
a.
a|
a is
'abc
1 if
not
a b
"a" ~
*a
$
a ? b
{'a': 1}.a
{'get': 1}.get
{'get': 1}['get']
yes is true and no is false
n > 5 and n < 10
n == 7 or boom.x
(n, s)
n, s
-n
+n
-s
+none
- - 3
not n in list
n not in list
list is not none
none is defined
(list|length) > 2
list|length > 2
list|length + 1
-1|string ~ 'x'
2 * 3|string
'a' ~ 'b' * 2
1 + 2 ~ 3 + 4
10 - 3 - 2
2 * 3 % 4
'x' == 'x' != 'y'
'%s' % undefined_name
'%d' % undefined_name
[undefined_name]
undefined_name|upper ~ '|'
undefined_name|trim ~ '|'
undefined_name|int
undefined_name|join(',')
undefined_name|string ~ '|'
undefined_name|first
undefined_name|tojson(indent=1)
undefined_name is in [1]
undefined_name < 1
'a' in undefined_name
undefined_name in 'a'
undefined_name.get('x')
d.a.x|join(' ') ~ (d.a.y|default('none'))
messages[0].role ~ messages[-1]['content']
messages[0]['role'] == 'user' and messages|length == 2
messages|map(attribute='content')|join(' ')
messages|selectattr('role', 'equalto', 'user')|list|length
(messages|last).content
(messages|selectattr('role', 'equalto', 'none')|list|first) is defined
messages[1:]|length
messages[::-1][0].content
loop.index
1.5|string
1e5
123456.789e3
1e-5
0.0001
100000000000000000000.0
3.0e0
1.7976931348623157e308 * 10
true ~ none
[true, none]
"a\\nb"
'\\'
n.__class__
range.__call__
messages.__len__()
d.copy()
s.format_map({'a': 1})
'{a}'.format_map({'a': 1})
9223372036854775807 + 0
1 == '1'
'1' == 1
1 != none
none == none
[] == false
0 == false
'' == false
(1 == 1) ~ ''
[1, [2, [3]]]|tojson
s|wordcount
''|trim is string
'a' is string and 'b' is string
1 is divisibleby 0
'x' is eq('x')
3 is sameas 3
""|length
"{{ x }}"
'{% if %}'
'}}'
{'a': {'b': {'c': 1}}}.a.b.c
{'a': 1, }
[1, 2, ]
(1, 2, )
dict(a=1, )
s.split(',', maxsplit=1)
s.split(sep='o')
""".strip("\n")

TEMPLATES = [
    "{% filter last %}{% set x = 1 %}{% endfilter %}",
    "{% filter length %}abc{% endfilter %}",
    "{% filter upper %}abc{% endfilter %}",
    "{% autoescape yes %}{% block a %}{{ '<' }}{{ ('<' ~ '>') | trim }}{{ '<' | e }}{% endblock %}{{ '<' }}{% endautoescape %}",
    "{% macro m() %}{{ '<' }}{% endmacro %}{% autoescape true %}{{ m() }}{{ '<' }}{% endautoescape %}{{ m() }}",
    "{% autoescape true %}{% macro m() %}{{ '<' }}{% endmacro %}{{ m() }}{% endautoescape %}",
    "{{ 'a\\\nb' }}",
    # white space
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc",
    "a\n  {%+ if yes %}\n  b\n  {%+ endif %}\nc",
    "a  {%- if yes -%}  b  {%- endif -%}  c",
    "a\n\n {{- n -}} \n\n b",
    "a {{ n }}\n b",
    "{% if yes +%}\nb{% endif %}",
    "  {# note #}\n  x  {# more #} y\n",
    "a {#- note -#} b",
    "a\n  {#+ note +#}\n b",
    "a\n\n\n", "a\r\nb\rc\n", "\n\na", "", "\n", " \t{% set x = 1 %}  \n x",
    "{% set x = 1 %}{{ x }}", "x {% set a = 1 %} y", "{{ n }}  {% if yes %}  z{% endif %}",
    "\t{% if yes %}\tq{% endif %}\t", "text{% if yes %}\n\nq\n\n{% endif %}\n\nr",
    "{% raw %}{{ n }} {% if %}{% endraw %}", "a\n  {% raw %}\n x {{\n  {% endraw %}\nb", "{%- raw -%}  x  {%- endraw -%}  y",
    "{% raw %}x", "{% raw %}a{% endraw +%}\nb", "{#", "{# x", "{{", "{%", "{% if", "{{ n", "{% if yes %}", "{% endif %}", "{% nope %}",
    "{% if yes %}{% endfor %}", "{% for x in list %}{% endif %}", "{ { n } }", "{n}", "}} %} #}", "a { b", "{", "x{",
    "{{ '%}' }}", "{% if '}}' %}x{% endif %}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}.a.b}}", "{{n}}{{n}}", "{{-n-}}", "{%- set y=1 -%}{{y}}",
    # if
    "{% if n > 10 %}a{% elif n > 5 %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if undefined_name %}a{% else %}b{% endif %}", "{% if undefined_name is defined and undefined_name.x %}a{% else %}b{% endif %}",
    "{% if no %}{{ s|nope }}{% endif %}ok", "{% if yes %}{{ s|nope }}{% endif %}", "{% if %}x{% endif %}",
    "{% if 1, 2 %}tuple{% endif %}", "{% if yes: %}x{% endif %}", "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}",
    # for
    "{% for x in list %}{{ x }},{% endfor %}", "{% for x in empty %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem.y }}{% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in list %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for x in list %}{{ loop }}{% endfor %}",
    "{% for x in list if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{% endfor %}",
    "{% for x in list if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }};{% endfor %}", "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1,)] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for c in 'héé' %}{{ c }}.{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for x in undefined_name %}a{% else %}b{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% break %}{% else %}e{% endfor %}", "{% break %}", "{% continue %}",
    "{% set x = 0 %}{% for i in list %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.y = 1 %}{{ ns.y }}{{ ns.z }}", "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% for x in list %}{{ x }}{% endfor %}{{ x }}", "{% set x = 9 %}{% for x in list %}{{ x }}{% endfor %}{{ x }}",
    "{% for x in list %}{% for y in words %}{{ loop.index }}{{ x }}{{ y }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in list recursive %}{{ x }}{% endfor %}",
    "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for x in list %}{{ loop(x) }}{% endfor %}", "{% for loop in list %}{% endfor %}", "{% for x in list %}{% set loop = 1 %}{% endfor %}",
    "{% for x in list: %}{{ x }}{% endfor %}", "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% for 1 in list %}{% endfor %}", "{% for x.y in list %}{% endfor %}", "{% for x list %}{% endfor %}",
    "{% for x in list|sort|reverse %}{{ x }}{{ loop.last }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% set ns = namespace(go=true) %}{% for x in list if ns.go %}{{ x }}{% set ns.go = false %}{% endfor %}",
    "{% set ns = namespace(go=true) %}{% for x in list if ns.go %}{{ x }}{{ loop.last }}{% set ns.go = false %}{% endfor %}",
    "{% for x in list %}{% if loop.first %}{% set y = 1 %}{% endif %}{{ y }}|{% endfor %}",
    "{% for m in messages %}{{ '<' ~ m.role ~ '>' ~ m['content'] }}\n{% endfor %}",
    # set
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a, b = 1 %}", "{% set (a, b) = [1, 2] %}{{ b }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper %}ab{% endset %}{{ x }}", "{% set x | upper | replace('A', 'z') %}ab{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}", "{% set 1 = 2 %}", "{% set true = 1 %}", "{% set x %}", "{% set 'a' = 1 %}", "{% set x = %}",
    "{{ x }}{% set x = 1 %}{{ x }}", "{% set x = 1 %}{% set x = x + 1 %}{{ x }}", "{% set x = namespace(a=[1]) %}{{ x.a[0] }}",
    "{% for i in [1, 2] %}{% set x %}v{{ i }}{% break %}{% endset %}{% endfor %}x",
    # with, filter, print, autoescape
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}", "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% filter upper %}ab{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aa{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter nope %}x{% endfilter %}",
    "{% filter trim %} {% set q = 1 %} {{ q }} {% endfilter %}{{ q }}", "{% print n %}", "{% print n, s %}", "{% print %}",
    "{% autoescape true %}{{ '<b>' }}{{ '<i>'|safe }}{% endautoescape %}{{ '<u>' }}", "{% autoescape true %}{% set x %}<b>{{ '<' }}{% endset %}{{ x }}{% endautoescape %}",
    # macros
    "{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c=2) }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(7) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}x{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% call n %}x{% endcall %}", "{% call s.upper() %}x{% endcall %}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}", "{% macro m() %}{% set y = 1 %}{{ y }}{% endmacro %}{{ m() }}{{ y }}",
    "{% set y = 1 %}{% macro m() %}{{ y }}{% set y = 2 %}{{ y }}{% endmacro %}{{ m() }}{{ y }}", "{{ m }}{% macro m() %}{% endmacro %}{{ m }}{{ m.name }}{{ m.arguments }}",
    "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% for x in list %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ [1, 2]|map('string')|map('upper')|join }}{{ m(m(1)) }}", "{% macro m() %} a {% endmacro %}[{{ m() | trim }}]{{ m() ~ 'x' }}{{ m() + 'y' }}{{ m()|length }}",
    "{% macro m(a, a) %}{% endmacro %}", "{% macro m(1) %}{% endmacro %}", "{% macro m(caller) %}{% endmacro %}", "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}", "{% macro %}{% endmacro %}", "{{ nope(1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'a': 2}) }}", "{{ s.replace(a=1, a=2) }}",
    "{% for x in list %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% macro m() %}<{{ loop is defined }}>{% endmacro %}{% for x in [1] %}{{ m() }}{{ loop.index }}{% endfor %}",
    # blocks and loaders
    "{% block a %}x{{ n }}{% endblock %}", "{% block a %}x{% endblock a %}{{ self.a() }}", "{% set y = 1 %}{% block a %}{{ y }}{% endblock %}", "{% for i in list %}{% block a scoped %}{{ i }}{% endblock %}{% endfor %}", "{% for i in list %}{% block a %}{{ i }}{% endblock %}{% endfor %}",
    "{% block a %}{% endblock %}{% block a %}{% endblock %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}",
    # generators and views
    "{% set g = list|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = d.items() %}{{ g|list|length }}{{ g|list|length }}", "{{ list|select('odd')|first }}", "{{ (list|map('string'))|length }}", "{{ (list|map('string'))[0] }}", "{{ list|map('string') is iterable }}{{ list|map('string') is sequence }}", "{% if empty|map('string') %}truthy{% endif %}",
    "{{ list|reverse is sequence }}", "{{ list|unique|join(',') }}", "{{ 1 in list|map('int') }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner('|') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    # errors of the sandbox and limits of Python
    "{{ ''.__class__.__mro__ }}", "{{ list.append(1) or '' }}", "{{ d.update({'x': 1}) }}", "{% set _ = list.append(1) %}", "{{ messages.pop() }}", "{{ d.setdefault }}|", "{{ (1).__add__ }}",
    # generation spans
    "{% generation %}abc{% endgeneration %}", "x{% generation %}é{{ n }}{% endgeneration %}y{% generation %}{% endgeneration %}z",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
    "{% for m in messages %}\n  {%- generation -%}\n {{ m.content }} \n  {%- endgeneration -%}\n{% endfor %}", "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}", "{% set x = 1 %}{% generation %}{{ x }}{% endgeneration %}", "{% generation %}a", "{% endgeneration %}",
    "{% generation %}\nline\n{% endgeneration %}\nnext", "{% for m in messages %}{% generation %}{{ loop.index }}{% endgeneration %}{% endfor %}",
    # a generation block is the body of a macro called with nothing
    "{% generation %}{{ varargs }}{{ kwargs }}{{ caller is defined }}{% endgeneration %}",
    "{% macro m() %}{% generation %}{{ caller is defined }}{{ varargs|length }}{% endgeneration %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{{ cycler('a') is callable }}{{ joiner() is callable }}{{ cycler('a').next is callable }}",
    "{% if n %}{% filter nope %}{% endfilter %}{% endif %}", "{% if false %}{{ n|nope }}{% endif %}x",
    "{% autoescape true %}{{ '<a>'|replace('a', '&')|length }}{{ '<a>'|safe|replace('a', '&') }}{{ '<a>'|replace('a'|safe, '&') }}{{ '<a>'|replace('a', '&'|safe) }}{{ '<a>'|replace('a', '&') }}{% endautoescape %}",
    # join: text alone stays text where output is escaped
    "{% autoescape true %}{{ ['<', 'b']|join(',')|length }}{{ ['<', 'b']|join('&')|length }}{{ ['<'|safe, '<']|join('&')|length }}{{ ['<']|join('&'|safe)|length }}{% endautoescape %}",
    "{% autoescape true %}{{ ['<', '>']|join('&') }}{{ ['<'|safe, '>']|join('&') }}{{ ['<', 1]|join('&'|safe) }}{% endautoescape %}",
]


def run(template):
    case = {"template": template, "context": CONTEXT}
    spans = "{% generation" in template or "{%- generation" in template
    try:
        text, indices = chat_template_utils.render_jinja_template(
            conversations=[CONTEXT["messages"]], chat_template=template, return_assistant_tokens_mask=spans,
            **{k: v for k, v in CONTEXT.items() if k != "messages"})
    except Exception as error:  # of whatever kind: ours is one error, too
        case["error"] = str(error)
    else:
        if " at 0x" in text[0]:
            return None  # an address is no result
        case["text"] = text[0]
        if spans:
            case["spans"] = [[len(text[0][:a].encode()), len(text[0][:b].encode())] for a, b in indices[0]]
    del case["context"]
    return case


def main():
    set_up()
    templates = ["{{ " + line + " }}" for line in EXPRESSIONS.split("\n")] + TEMPLATES
    cases = [case for case in map(run, templates) if case is not None]
    path = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "text" / "jinja_cases.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    context = json.dumps(CONTEXT, ensure_ascii=False)
    path.write_text(f'{{"now": {NOW},\n"context": {context},\n"cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases, {sum('error' in c for c in cases)} of them errors")


if __name__ == "__main__":
    main()
