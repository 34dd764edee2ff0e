#!/usr/bin/env python3
"""Writes tests/data/chat/jinja_expressions.jsonl: odd expressions and what jinja2 (PyPI) makes of them, set up as transformers sets it
up."""
import json, pathlib
from make_chat_vectors import DATA, environment

VALUES = {"s": "Hello, Wörld", "n": 7, "f": 2.5, "t": True, "none": None, "l": [3, 1, 2], "words": ["b", "A", "c"], "d": {"b": 2, "a": [1, {"k": "v"}], "C": None},
          "m": [{"role": "user", "n": 1}, {"role": "tool", "n": 3}, {"role": "user"}], "e": "", "empty": [], "big": 2**63, "huge": 2**64 - 1, "low": -2**63, "control": "\x00\x1f\x7f\x80\u2028\ud7ff\U0001F642\"\\/",
          "lines": "a\nb\r\nc\rd\x0be\x0cf\x1cg\x85h\u2028i\n\n", "sz": "Straße ﬁ İ ǆ", "sp": "\u00a0\u3000x\u2003y\u200b ", "floats": [0.1, 1e16, 1e-5, 123456789.123, 1e22, 5e-324, 1.7976931348623157e308, -0.0, 100.0]}

SAME = r"""
{{ 'a b  c'.split(none, 1) }}|{{ ' a b '.split(none) }}|{{ ''.split() }}|{{ ''.split(',') }}|{{ 'a,b,c'.split(',', maxsplit=1) }}|{{ 'a b c '.rsplit(none, 1) }}|{{ ' a  b c'.rsplit() }}
{{ 'a,b,c'.split(sep=',', maxsplit=-1) }}|{{ 'aXXbXX'.split('XX') }}
{{ 'a'.split('') }}
{{ dict([('a', 1), ('b', 2)]) }}|{{ dict([['x', 1]], y=2) }}|{{ dict({'a': 1}, a=3) }}|{{ dict() }}|{{ dict(d) == d }}
{{ dict(5) }}
{{ dict([1, 2]) }}
{{ '0' | int }}|{{ '0x1F' | int(0, 16) }}|{{ '1F' | int(0, 16) }}|{{ 'zz' | int(7, 16) }}|{{ '101' | int(base=2) }}|{{ '0b101' | int(0, 2) }}|{{ '0o17' | int(0, 8) }}|{{ '077' | int }}|{{ 'z' | int(0, 36) }}|{{ '12' | int(0, 0) }}|{{ '0x10' | int(0, 0) }}
{{ ' 12 ' | int }}|{{ '1_000' | int }}|{{ '+5' | int }}|{{ '-5' | int }}|{{ '--5' | int }}|{{ '5.9' | int }}|{{ '-5.9' | int }}|{{ '1e3' | int }}|{{ '' | int }}|{{ none | int }}|{{ none | int(4) }}|{{ [] | int(2) }}|{{ true | int }}|{{ 2.9 | int }}|{{ -2.9 | int }}|{{ 'inf' | int(3) }}|{{ 'nan' | int(3) }}|{{ '٣' | int }}
{{ 'x' | int('dflt') }}|{{ 'x' | int(none) }}|{{ 'x' | float('dflt') }}|{{ 'x' | int(2.5) }}
{{ '1.5' | float }}|{{ ' 2 ' | float }}|{{ '1_0.5' | float }}|{{ 'inf' | float }}|{{ '-Infinity' | float }}|{{ 'nan' | float }}|{{ '1e400' | float }}|{{ '.5' | float }}|{{ '5.' | float }}|{{ '+1.5' | float }}|{{ '0x10' | float }}|{{ none | float }}|{{ true | float }}|{{ 3 | float }}|{{ 'x' | float(1) }}
{{ 5 | round }}|{{ 5 | round(1) }}|{{ 15 | round(-1) }}|{{ 25 | round(-1) }}|{{ 1234 | round(-2) }}|{{ 2.5 | round }}|{{ 3.5 | round }}|{{ -2.5 | round }}|{{ 2.675 | round(2) }}|{{ 1.005 | round(2) }}|{{ 0.5 | round }}|{{ 1e20 | round(2) }}|{{ 1.15 | round(1) }}|{{ 2.345 | round(2) }}
{{ 2.1 | round(0, 'ceil') }}|{{ 2.9 | round(0, 'floor') }}|{{ 2.123 | round(2, 'ceil') }}|{{ 2.129 | round(2, 'floor') }}|{{ 7 | round(0, 'ceil') }}|{{ 7 | round(method='floor') }}|{{ -2.1 | round(method='ceil') }}|{{ true | round }}
{{ 2.1 | round(0, 'up') }}
{{ 'x' | round }}
{{ (1, 2) }}|{{ (1,) }}|{{ () }}|{{ 1, 2 }}|{{ (1, 'a', none) }}|{{ [(1, 2)] }}|{{ {'k': (1, 2)} }}|{{ (1, 2) == [1, 2] }}|{{ (1, 2) == (1, 2) }}|{{ (1, 2) + (3,) }}|{{ (1, 2)[0] }}|{{ (1, 2, 3)[1:] }}|{{ (1, 2) | list }}|{{ ((1, 2), 3) }}|{{ (1, 2) | tojson }}|{{ (1, 2) * 2 }}|{{ [1] * 3 }}|{{ 2 * [0] }}
{{ (1, 2) + [3] }}
{{ d.items() | list }}|{{ d | items | list }}|{{ d | dictsort }}|{{ {'a': 1}.items() | first }}|{{ {'a': 1} | dictsort | tojson }}
{{ d.items() }}|{{ d.keys() }}|{{ d.values() }}
{{ d | dictsort(true) }}|{{ {'b': 1, 'a': 2} | dictsort(by='value') }}|{{ {'b': 1, 'a': 2} | dictsort(false, 'key', true) }}
{{ {'b': 1} | dictsort(by='size') }}
{{ 'ß' | upper }}|{{ 'Straße'.upper() }}|{{ 'ﬁ' | upper }}|{{ sz.title() }}|{{ sz | capitalize }}|{{ 'ß'.capitalize() }}|{{ 'İ' | lower | length }}|{{ 'ΑΣ' | lower }}|{{ 'ΑΣ Σ' | lower }}|{{ 'ǆ' | title }}|{{ 'ŉ' | upper }}|{{ 'ΐ'.upper() }}|{{ 'Ǆ'.capitalize() }}
{{ "it's a dog's" | title }}|{{ "it's a dog's".title() }}|{{ 'foo-bar baz_qux (abc) [d]' | title }}|{{ 'foo-bar baz_qux (abc) x2y' | title }}|{{ 'foo bar'.title() }}|{{ 'x2y 3d'.title() }}|{{ 'ABC dEF' | title }}|{{ 'éa ünder' | title }}
{{ 'hELLO wORLD' | capitalize }}|{{ 'aBc'.swapcase() }}|{{ 'Straße'.casefold() }}
{{ lines.splitlines() }}|{{ lines.splitlines(true) }}|{{ lines.splitlines(keepends=true) | length }}|{{ ''.splitlines() }}|{{ '\n'.splitlines() }}|{{ 'a\n'.splitlines() }}
{{ sp.strip() | length }}|{{ sp | trim | length }}|{{ sp.split() }}|{{ sp.isspace() }}|{{ ' \t\n\u00a0'.isspace() }}|{{ ' x '.strip(none) }}|{{ 'xyx'.strip('yx') }}|{{ 'ab' | trim('a') }}|{{ 12 | trim }}
{{ 'a'.strip(5) }}
{{ 1 / 3 }}|{{ 2 / 1 }}|{{ -7 // 2 }}|{{ 7 // -2 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 7.5 % 2 }}|{{ -7.5 % 2 }}|{{ 7.5 % -2 }}|{{ 7.5 // 2 }}|{{ -7.5 // 2 }}|{{ 1e308 * 10 }}|{{ 0.0 * -1 }}|{{ 6.0 % 3 }}|{{ -6.0 % 3 }}|{{ 1e16 // 1 }}|{{ 0.3 // 0.1 }}|{{ 5 % 0.3 }}
{{ 2 ** 3 ** 2 }}|{{ (-2) ** 2 }}|{{ -2 ** 2 }}|{{ 2 ** -2 }}|{{ 2 ** 0.5 }}|{{ 4 ** 0.5 }}|{{ 0 ** 0 }}|{{ 2.0 ** 3 }}|{{ 10 ** 18 }}|{{ (-1) ** 101 }}|{{ (-1) ** 100 }}
{{ 0 ** -1 }}
{{ 0.0 ** -1 }}
{{ 10.0 ** 400 }}
{{ 1 // 0 }}
{{ 1.0 % 0 }}
{{ true + true }}|{{ true * 3 }}|{{ -true }}|{{ true / 2 }}|{{ 1 + 1.0 }}|{{ true == 1 }}|{{ true == 'true' }}|{{ 1 == '1' }}|{{ none == false }}|{{ 'a' * 0 }}|{{ 'a' * -1 }}|{{ 'a' * true }}
{{ 'a' * 1.0 }}
{{ none + 1 }}
{{ none ~ missing ~ 1.50 }}|{{ [1] ~ {'a': none} }}|{{ 1 ~ 2 }}|{{ 'a' ~ (1, 2) }}
{{ 9223372036854775807 }}|{{ -9223372036854775807 - 1 }}|{{ big }}|{{ huge }}|{{ low }}|{{ huge | tojson }}|{{ [huge] }}|{{ huge == huge }}|{{ big > 5 }}|{{ huge > big }}|{{ big is number }}|{{ big is integer }}|{{ huge | string }}|{{ {'id': huge} | tojson }}|{{ big | string | length }}
{{ floats }}|{{ floats | tojson }}|{{ 1e15 }}|{{ 1e16 }}|{{ 1e17 }}|{{ 123456789012345680.0 }}|{{ 1e-4 }}|{{ 0.00001 }}|{{ 1.0e100 }}|{{ -0.0 }}|{{ 1e5 }}|{{ 1.10 }}|{{ 3.0 }}|{{ 12345.678e-10 }}
{{ control | tojson }}|{{ control | tojson(ensure_ascii=true) }}|{{ [control] | length }}
{{ d | tojson }}|{{ d | tojson(sort_keys=true) }}|{{ d | tojson(indent=1) }}|{{ d | tojson(indent=0) }}|{{ [] | tojson(indent=2) }}|{{ {} | tojson(indent=2) }}|{{ [[], {}] | tojson(indent=2) }}|{{ d | tojson(indent='  ') }}|{{ d | tojson(separators=(',', ':')) }}|{{ d | tojson(indent=2, separators=(', ', ' : ')) }}|{{ d | tojson(indent=none) }}
{{ {1: 'a', true: 'b', none: 'c', 2.5: 'd'} | tojson }}|{{ {'b': {'z': 1, 'y': [2]}, 'a': 0} | tojson(sort_keys=true, indent=2) }}|{{ 'a"b\\c/d' | tojson }}|{{ '<&>\'' | tojson }}|{{ 'é🙂' | tojson(ensure_ascii=true) }}|{{ 2.0 | tojson }}|{{ (1, [2]) | tojson }}
{{ missing | tojson }}
{{ namespace(a=1) | tojson }}
{{ range(3) | tojson }}
{{ {} == dict() }}|{{ {'a': 1, 'a': 2} }}|{{ {1: 'x', 1.0: 'y'} }}|{{ {'a': 1}['a'] }}|{{ {1: 'x'}[1] }}|{{ {1: 'x'}[true] }}|{{ {'get': 5}.get }}|{{ {'items': 5}['items'] }}|{{ {'a': {'b': 1}}['a'].b }}
{{ {[1]: 2} }}
{{ 1 < 2 < 2 }}|{{ 1 < 2 > 0 }}|{{ 'a' < 'B' }}|{{ 'é' > 'z' }}|{{ [1, 2] < [1, 3] }}|{{ [1] < [1, 0] }}|{{ (1, 2) < (2,) }}|{{ true < 2 }}|{{ 1 != 1.0 }}|{{ none == none }}|{{ missing == missing }}|{{ missing == none }}|{{ not missing }}|{{ 'a' not in 'b' }}|{{ 1 in [1.0] }}|{{ 'k' in {'k': 1} }}|{{ '' in 'abc' }}|{{ none in [none] }}|{{ 1 == true }}|{{ 9007199254740993 > 9007199254740992.0 }}|{{ 9007199254740993 == 9007199254740992.0 }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ [1] < 'a' }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ 1 in none }}
{{ {} < {} }}
{{ missing }}|{{ missing | length }}|{{ missing | list }}|{{ missing | join }}|{{ missing | upper }}|{{ missing | default }}|{{ missing or 'x' }}|{{ (missing | string) + 'x' }}|{{ missing ~ 'x' }}|{{ d.nope is defined }}|{{ d['nope'] is undefined }}|{{ [1][5] is defined }}|{{ missing is none }}|{{ missing is string }}|{{ missing is iterable }}|{{ 'x' in missing }}|{{ missing | first is defined }}
{{ missing + 1 }}
{{ missing.a.b }}
{{ missing[0] }}
{{ missing() }}
{{ -missing }}
{{ missing < 1 }}
{{ d.nope.more }}
{{ d.nope.more is defined }}
{{ (missing | default({})).a is defined }}
{{ missing | int }}|{{ missing | float }}|{{ missing | int(9) }}|{{ missing | trim }}|{{ missing | replace('a', 'b') }}|{{ missing | d(1) }}|{{ none | d(1) }}|{{ none | d(1, true) }}|{{ 0 | default(5, boolean=true) }}|{{ e | default('z', true) }}|{{ missing | default(default_value='q') }}
{{ l | first }}|{{ empty | first }}|{{ e | first }}|{{ e | last }}|{{ l | last }}|{{ d | first }}|{{ d | last }}|{{ [] | max }}|{{ [] | min }}|{{ [] | sum }}|{{ ['b', 'a'] | max }}|{{ ['a', 'B'] | max }}|{{ ['a', 'B'] | max(case_sensitive=true) }}|{{ ['a', 'B'] | min }}|{{ m[:2] | max(attribute='n') }}|{{ 'hello' | max }}
{{ [1, 'a'] | sort }}
{{ [1, 'a'] | max }}
{{ ['b', 'A', 'a', 'B'] | sort }}|{{ ['b', 'A', 'a', 'B'] | sort(case_sensitive=true) }}|{{ ['b', 'A'] | sort(true) }}|{{ [3, 1.5, true] | sort }}|{{ d | sort }}|{{ 'bca' | sort }}|{{ m[:2] | sort(attribute='n', reverse=true) | map(attribute='n') | list }}|{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}, {'a': 1, 'b': 1}] | sort(attribute='a,b') }}|{{ [[2, 'a'], [1, 'b']] | sort(attribute=0) }}
{{ ['a', 'A', 'b', 1, 1.0] | unique | list }}|{{ ['a', 'A'] | unique(true) | list }}|{{ m | unique(attribute='role') | map(attribute='role') | list }}
{{ [1, 2, 3] | sum(start=10) }}|{{ [0.1, 0.2] | sum }}|{{ [0.1] * 10 | sum }}|{{ ([0.1] * 10) | sum }}|{{ [1.5, 2] | sum(start=1) }}|{{ m[:2] | sum(attribute='n') }}|{{ [true, true] | sum }}|{{ [[1], [2]] | sum(start=[]) }}
{{ ['a'] | sum }}
{{ l | join }}|{{ l | join('-') }}|{{ l | join(d=', ') }}|{{ [none, true, 1.0, 'x', [1]] | join(',') }}|{{ 'abc' | join('.') }}|{{ d | join(',') }}|{{ m[:2] | join(',', attribute='n') }}|{{ [] | join('x') }}|{{ ['a', missing, 'b'] | join('-') }}|{{ l | join(1) }}
{{ ','.join(['a', 1]) }}
{{ ','.join(words) }}|{{ ''.join([]) }}|{{ ','.join('abc') }}|{{ ','.join({'x': 1}) }}
{{ 'abc' | reverse }}|{{ l | reverse | list }}|{{ (1, 2) | reverse | list }}|{{ 'abc' | list }}|{{ d | list }}|{{ 'abc' | length }}|{{ d | count }}|{{ 'é🙂' | length }}|{{ 'e\u0301' | length }}|{{ range(5) | length }}
{{ 5 | length }}
{{ none | length }}
{{ none | list }}
{{ 5 | first }}
{{ s[0] }}|{{ s[-1] }}|{{ s[99] }}|{{ s[1:3] }}|{{ s[-4:] }}|{{ s[::2] }}|{{ s[::-1] }}|{{ s[5:2] }}|{{ s[5:2:-1] }}|{{ s[:100] }}|{{ s[-100:3] }}|{{ s[none:2] }}|{{ l[-100:] }}|{{ l[::-2] }}|{{ l[1:1] }}|{{ l[true] }}|{{ l[-1:] }}|{{ l[:-1] }}|{{ l[3:0:-1] }}|{{ '🙂é'[1] }}
{{ l[::0] }}
{{ l['x'] }}|{{ l[1.0] }}|{{ s['x'] }}|{{ 5[0] }}|{{ none['x'] }}|{{ none.x }}|{{ (5).x }}|{{ true.x }}|{{ l.x }}|{{ s.nope }}
{{ 5[1:] }}
{{ none[1:] }}
{{ l['a':] }}
{{ 'abc'.find('c') }}|{{ 'abc'.find('x') }}|{{ 'abcabc'.find('b', 2) }}|{{ 'abcabc'.find('c', 0, 2) }}|{{ 'abcabc'.rfind('b') }}|{{ 'é🙂x'.find('x') }}|{{ 'abc'.find('') }}|{{ 'abcabc'.rfind('b', 0, 3) }}|{{ 'abc'.index('b') }}|{{ 'abcb'.rindex('b') }}|{{ 'abc'.find('a', 5) }}|{{ 'aaa'.count('a') }}|{{ 'aaa'.count('aa') }}|{{ 'abc'.count('') }}|{{ 'abab'.count('b', 2) }}
{{ 'abc'.index('z') }}
{{ [1, 2].index(5) }}
{{ 'abc'.startswith('a') }}|{{ 'abc'.startswith(('x', 'ab')) }}|{{ 'abc'.startswith('b', 1) }}|{{ 'abc'.endswith('c') }}|{{ 'abc'.endswith(('x', 'bc')) }}|{{ 'abc'.endswith('b', 0, 2) }}|{{ 'abc'.startswith('') }}|{{ ''.startswith('') }}|{{ 'abc'.startswith(()) }}
{{ 'abc'.startswith(['a']) }}
{{ 'abc'.startswith(1) }}
{{ 'aXbX'.replace('X', '-') }}|{{ 'aXbX'.replace('X', '-', 1) }}|{{ 'abc'.replace('', '.') }}|{{ 'abc'.replace('', '.', 2) }}|{{ ''.replace('', 'x') }}|{{ 'aaa'.replace('aa', 'b') }}|{{ 'aXb' | replace('X', '') }}|{{ 'aaa' | replace('a', 'b', 2) }}|{{ 'aaa' | replace('a', 'b', count=1) }}|{{ 5 | replace('5', 'x') }}|{{ 'a1' | replace(1, 2) }}
{{ 'abc'.replace('a') }}
{{ 'abc'.isdigit() }}|{{ '12'.isdigit() }}|{{ '²'.isdigit() }}|{{ '١'.isdigit() }}|{{ ''.isdigit() }}|{{ 'abc'.isalpha() }}|{{ 'é'.isalpha() }}|{{ '日本'.isalpha() }}|{{ 'a1'.isalpha() }}|{{ 'a1'.isalnum() }}|{{ '٣é'.isalnum() }}|{{ 'a b'.isalnum() }}|{{ 'ABC'.isupper() }}|{{ 'ABC1'.isupper() }}|{{ '1'.isupper() }}|{{ 'abc'.islower() }}|{{ 'aBc'.islower() }}|{{ '12'.isnumeric() }}|{{ '½'.isnumeric() }}|{{ '12'.isdecimal() }}|{{ '²'.isdecimal() }}|{{ 'Abc Def'.istitle() }}|{{ 'abc'.isascii() }}|{{ 'é'.isascii() }}|{{ 'a_1'.isidentifier() }}
{{ 'abc'.upper }}
{{ 'a-b'.partition('-') }}|{{ 'ab'.partition('-') }}|{{ 'a-b-c'.rpartition('-') }}|{{ 'ab'.rpartition('-') }}|{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removeprefix('x') }}|{{ 'abc'.removesuffix('bc') }}|{{ 'abc'.removesuffix('') }}|{{ 'x'.center(5) }}|{{ 'x'.ljust(3) }}|{{ 'x'.rjust(3, '.') }}|{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6, '*') }}
{{ 'a\tb'.expandtabs(4) }}
{{ '%s is %d' | format('x', 5) }}|{{ '%s' % 'x' }}|{{ '%d-%s' % (1, 'a') }}|{{ '%05.2f' | format(3.14159) }}|{{ '%x' % 255 }}|{{ '%%' | format }}|{{ '%r' | format('a') }}|{{ '%5s|%-5s|' | format('a', 'b') }}|{{ '%(a)s' | format(a=1) }}|{{ '%02d' % 5 }}|{{ '%.3f' % 2 }}|{{ '%s' % none }}|{{ '%s %s' | format(true, [1]) }}
{{ '{} {}'.format('a', 1) }}|{{ '{0}{0}'.format('x') }}|{{ '{a}'.format(a=5) }}
{{ l | batch(2) | list }}|{{ l | batch(2, 'x') | list }}|{{ [1, 2, 3, 4] | slice(3) | list }}|{{ [1, 2, 3, 4] | slice(3, 'x') | list }}
{{ m | groupby('role') | map(attribute='grouper') | list }}|{% for g in m | groupby('role') %}{{ g.grouper }}:{{ g.list | length }};{% endfor %}|{% for k, v in m | groupby('role') %}{{ k }}{{ v | length }}{% endfor %}
{{ m | map(attribute='n', default='-') | list }}|{{ m | map('length') | list }}|{{ words | map('replace', 'A', 'x') | list }}|{{ [[1, 2], [3]] | map('first') | list }}|{{ ['1', '2'] | map('int') | list }}|{{ [1, 2] | map('string') | list }}|{{ [1, 2] | map('default', 3) | list }}|{{ m | map(attribute='n') | select('defined') | list }}
{{ l | map('nosuch') | list }}
{{ l | map | list }}
{{ [1, 0, 2, none, ''] | select | list }}|{{ [1, 0] | reject | list }}|{{ l | select('odd') | list }}|{{ l | select('>', 1) | list }}|{{ l | select('ge', 2) | list }}|{{ l | reject('in', [1, 2]) | list }}|{{ m | selectattr('n', 'defined') | list | length }}|{{ m | selectattr('n') | map(attribute='n') | list }}|{{ m | rejectattr('n', 'undefined') | list | length }}|{{ m | selectattr('role', '==', 'user') | list | length }}|{{ m | selectattr('n', '>', 1) | list }}|{{ m | selectattr('role', 'in', ['tool']) | list }}|{{ words | select('equalto', 'b') | list }}
{{ l | select('nosuch') | list }}
{{ m | selectattr('n', 'gt', 1) | list }}
{{ 'a b' | urlencode }}|{{ {'a': 'x y', 'b': 1} | urlencode }}|{{ 'a/b?é' | urlencode }}
{{ 'hello world foo' | wordcount }}|{{ '<b>hi</b>' | striptags }}|{{ 'hello world' | truncate(8) }}|{{ 'hello world' | truncate(5, true) }}|{{ 'hello' | center(11) }}|{{ 'hello world' | wordwrap(5) }}|{{ 1234567 | filesizeformat }}
{{ '<a>' | e }}|{{ '<a>' | escape }}|{{ '"\'&' | e }}|{{ 5 | e }}|{{ '<a>' | forceescape }}|{{ '<a>' | safe }}|{{ none | e }}
{{ {'id': 'x', 'class': none} | xmlattr }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('>>') }}|{{ '\na' | indent(1) }}|{{ 'a\n' | indent(2) }}|{{ '' | indent(2, true) }}|{{ 'a\r\nb' | indent(1) }}
{{ -5 | abs }}|{{ (-5) | abs }}|{{ -5.5 | abs }}|{{ true | abs }}|{{ 5 | string }}|{{ 5.0 | string }}|{{ none | string }}|{{ [1, 'a'] | string }}
{{ 'x' | abs }}
{{ n is odd }}|{{ -3 is odd }}|{{ 4 is even }}|{{ n is divisibleby(7) }}|{{ f is number }}|{{ t is number }}|{{ t is integer }}|{{ 1.0 is integer }}|{{ 1.0 is float }}|{{ s is sequence }}|{{ d is sequence }}|{{ 5 is iterable }}|{{ s is iterable }}|{{ d is mapping }}|{{ l is mapping }}|{{ none is none }}|{{ n is in [7] }}|{{ n is not in [7] }}|{{ 'a' is in 'abc' }}|{{ n is sameas 7 }}|{{ 1 is sameas true }}|{{ 1 is sameas 1.0 }}|{{ none is sameas none }}|{{ n is eq(7) }}|{{ n is ne 7 }}|{{ n is lt 8 }}|{{ n is le 7 }}|{{ n is gt 7 }}|{{ n is ge 7 }}|{{ n is == 7 }}
{{ n is eq 7 }}|{{ n is greaterthan 3 }}|{{ n is lessthan 3 }}|{{ range is callable }}|{{ s is callable }}|{{ s.upper is callable }}|{{ 'A' is upper }}|{{ 'a1' is lower }}|{{ '1' is upper }}|{{ 'abc' is filter }}|{{ 'upper' is filter }}|{{ 'odd' is test }}|{{ 'x' is escaped }}|{{ t is true }}|{{ 1 is true }}|{{ 0 is false }}|{{ f is boolean }}|{{ (1, 2) is sequence }}|{{ range(3) is sequence }}|{{ l is not none }}|{{ not l is none }}
{{ 2.5 is odd }}|{{ 3.0 is odd }}
{{ 'x' is odd }}
{{ 5 is divisibleby 0 }}
{% for i in range(3) %}{{ loop.index }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.changed(i // 2) }};{% endfor %}
{% for i in [1, 2] %}{% for j in [1] %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}{{ loop.depth }}{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}|{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}|{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in missing %}x{% else %}none{% endfor %}|{% for x in 'ab' %}{{ x }}.{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{% for x in [1, 2, 3] if x is odd %}{{ x }}{{ loop.index }}{% endfor %}|{% for x in [] %}{% else %}{{ x is defined }}{% endfor %}
{% for x in [1, 2] recursive %}{{ x }}{% endfor %}
{{ loop is defined }}|{% for x in [1] %}{{ loop is defined }}{% endfor %}|{{ x is defined }}
{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% else %}never{% endfor %}|{% for x in [1, 2, 3] %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}|{% if true %}{% set x = 3 %}{% endif %}{{ x }}|{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% set (p, q) = (3, 4) %}{{ p }}{{ q }}|{% set a, b = b, a %}{{ a }}{{ b }}
{% set a, b = 1 %}
{% set d.x = 1 %}
{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}|{% set ns2 = namespace({'a': 1}, b=2) %}{{ ns2.a }}{{ ns2.b }}|{% set ns2.a = ns2.a + 1 %}{{ ns2.a }}|{{ ns['x'] }}|{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}
{% set x %}a{{ 1 }}b{% endset %}{{ x }}|{{ x | length }}|{% set y | upper %}abc{% endset %}{{ y }}|{% set z %}{% endset %}{{ z == '' }}
{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, c=3) }}|{{ f(b=1, a=2) }}|{{ f() }}|{{ f(1, 2) | length }}|{{ f.name }}|{{ f.arguments }}
{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}
{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}hi{% endcall %}
{% macro f(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}
{% set v = 5 %}{% macro f() %}{{ v }}{% endmacro %}{{ f() }}{% set v = 6 %}{{ f() }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{{ f2() if false else 'ok' }}{% macro f2() %}x{% endmacro %}{{ f2() }}
{% if false %}{{ x | nosuchfilter }}{% endif %}ok
{% if false %}{{ x is nosuchtest }}{% endif %}ok
{{ 'a' if true else x | nosuchfilter }}
{% if x is defined and x | nosuchfilter %}a{% endif %}ok
{% if true %}{{ 5 | nosuchfilter }}{% endif %}
{{ x | nosuchfilter }}
{{ 5 is nosuchtest }}
{% if false %}{{ nosuch() }}{% endif %}ok
{% if false %}{{ [1] | map('nosuchfilter') | list }}{% endif %}ok
{% filter upper %}a{{ 'b' }}{% endfilter %}|{% filter replace('a', 'b') | upper %}aa{% endfilter %}
{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x is defined }}|{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% autoescape false %}<{% endautoescape %}
{% do l.append(1) %}
{% include 'x' %}
{% extends 'x' %}
{% block b %}in{% endblock %}
a  {%- if true %}  b  {%- endif %}  c|{{- ' x ' -}}  d
  {% if true %}  a
  {% endif %}  b
x {# c #}
 {# c #} y {#- c -#} z
a{% raw %}{{ x }}{% endraw %}b|{%- raw -%} {{ y }} {%- endraw -%} c
{{ '{{ x }}' }}|{{ "{% if %}" }}|{{ '}}' }}|{{ '%}' }}
{{ 'a\nb' }}|{{ 'a\\nb' }}|{{ '\x41\u00e9\U0001F642\101\0' | length }}|{{ '\'' }}|{{ "\"" }}|{{ '\q' }}|{{ 'a' "b" 'c' }}
{{ 1_000 }}|{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1e2 }}|{{ 1.5e-3 }}|{{ 1E2 }}|{{ 00 }}
{{ 1. }}
{{ [1, 2, ] }}|{{ {'a': 1, } }}|{{ (1, 2, ) }}|{{ [
 1] }}|{{ {} }}|{{ [[]] }}|{{ [1,2][0] }}
{{ 1 if true }}|{{ 1 if false }}|{{ (1 if false) is defined }}|{{ 1 if false else 2 if true else 3 }}|{{ (1 if true else 2) + 1 }}|{{ not 1 == 2 }}|{{ 1 and 2 }}|{{ 0 or none }}|{{ '' and 1 }}|{{ not (1 and 0) }}|{{ 1 or 1 / 0 }}
{{ not 1 in [1] }}|{{ 1 + 1 in [2] }}|{{ -1 | abs }}|{{ -'5' | int }}
{{ 'a' in 'abc' and 'b' in 'abc' }}|{{ 'x' if 'a' in s else 'y' }}|{{ 2 + 3 ~ 4 }}|{{ 2 * 3 ~ 4 }}|{{ 'a' ~ 'b' * 2 }}|{{ 10 - 2 - 3 }}|{{ 100 / 10 / 2 }}|{{ 2 * 3 % 4 }}|{{ 7 // 2 * 2 }}
{{ s.upper().lower().title() }}|{{ s | upper | lower | first }}|{{ (s | upper)[0] }}|{{ s.split(',')[0].strip() | length }}|{{ [s, 'x'] | map('length') | sum }}|{{ 'a.b.c'.split('.')[1:] | join('/') }}|{{ ('x' * 3)[1:] }}|{{ [1, 2, 3][::-1][0] }}
{{ d.a[1]['k'] }}|{{ d['a'][0] }}|{{ d.get('zz', d.b) }}|{{ d.get('C') }}|{{ d.get('C', 1) }}|{{ d.get('b') + 1 }}|{{ d.keys() | list | length }}|{{ 'b' in d.keys() }}|{{ 2 in d.values() }}|{{ d.items() | length }}|{{ d.copy() == d }}|{{ d.b }}|{{ d['b'] }}
{{ d.pop('b') }}
{{ d.update({'x': 1}) }}
{{ l.append(1) }}
{{ l.sort() }}
{{ l.copy() }}|{{ l.index(1) }}|{{ l.count(3) }}|{{ l.index(2, 1) }}|{{ (1, 2).count(1) }}|{{ (1, 2).index(2) }}
{{ ''.__class__ }}
{{ d.__class__ is defined }}|{{ s['__class__'] is defined }}
{{ range(3) }}|{{ range(1, 4) | list }}|{{ range(3, 0, -1) | list }}|{{ range(0) | list }}|{{ range(3)[1] }}|{{ range(10)[2:4] | list }}|{{ 2 in range(3) }}
{{ range(1.5) }}
{{ range(1, 2, 0) }}
{{ range(end=3) }}
{{ lipsum is defined }}|{{ cycler is defined }}|{{ joiner is defined }}|{{ namespace is defined }}|{{ self is defined }}|{{ undefined is defined }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}|{% set j = joiner(', ') %}{{ j() }}{{ j() }}
{{ strftime_now('%Y') | length }}|{{ strftime_now('%d') | int > 0 }}
{{ raise_exception('x') }}
{{ raise_exception() }}
{{ 'x' is string and 5 is number }}|{{ 'x' is string or nosuch.x }}|{{ (5 is number) and not (none is string) }}|{{ 5 is not string }}|{{ l is sequence and l is not mapping }}
{{ {'a': 1} | length }}|{{ {'a': 1}.a }}|{{ {'a': [1, 2]}.a | sum }}|{{ {'a': 1, 'b': 2}.values() | sum }}|{{ {'a': 1} == {'a': 1.0} }}|{{ {'x': none}.x is none }}|{{ {'x': 1}.y is defined }}
{{ True }}{{ true }}{{ TRUE is defined }}{{ None }}{{ none }}{{ False }}{{ null is defined }}
{{ ['a', 'b'] == ['a', 'b'] }}|{{ [1, [2]] == [1, [2]] }}|{{ 'a' == "a" }}|{{ [] == () }}|{{ '' == none }}|{{ 0 == false }}|{{ [0] == [false] }}
{{ "a'b" }}|{{ ["a'b", 'c"d', 'e\'f"g', 'tab\t', 'nl\n', 'back\\', 'é', '\x7f', '\u200b', '\u00a0', '🙂', '\u0378'] }}|{{ {'k"': "v'"} }}
{{ [1.0, 1e20, none, true, missing] }}
{{ [namespace] | length }}|{{ [s.upper] | length }}
{% if l %}a{% endif %}{% if empty %}b{% endif %}{% if 0.0 %}c{% endif %}{% if ' ' %}d{% endif %}{% if none %}e{% endif %}{% if missing %}f{% endif %}{% if {} %}g{% endif %}{% if namespace() %}h{% endif %}{% if range(0) %}i{% endif %}
{% if n > 5 and n < 10 %}a{% elif n %}b{% else %}c{% endif %}|{% if not n %}a{% elif n == 7 and not e %}b{% endif %}
{{ (1, 2, 3) | max }}|{{ (3, 1) | sort }}|{{ (1, 2) | join('-') }}|{{ (1, 2) | first }}|{{ (1, 2) | length }}|{{ (1, 2) | map('string') | list }}|{{ (1, 2) is iterable }}|{{ 1 in (1, 2) }}|{{ (1, 2) | string }}|{{ ((1,),) }}
{{ 'a,b;c' | replace(';', ',') | replace(',', ' ') }}|{{ '  a ' | trim | upper }}|{{ 'abc'[1:] | upper }}|{{ 'x' ~ l | join('-') }}|{{ l | map('string') | map('upper') | join }}|{{ 'a' | default('b') | upper }}
{{ s | nosuch | default('x') }}
{{ f(1)
{% if true %}
{{ 'abc }}
{{ a b }}
{{ 1 + }}
{% for x %}{% endfor %}
{% endif %}
{{ }}
{{ *l }}
{{ f(*l) }}
{{ [x for x in l] }}
{{ lambda: 1 }}
{{ a = 1 }}
{{ l | sort(attribute=) }}
{{ 5 | }}
{{ 'a' is }}
{{ s.split(',', 1, 2) }}
{{ s | upper(1) }}
{{ s.upper(1) }}
{{ s | replace('a') }}
{{ l | join(',', 'x', 'y', 'z') }}
{{ s | default('a', nosuch=1) }}
{{ s.split(nosuch=1) }}
""".strip("\n")


def expressions():
    """A line each; lines that do not end an open tag go on in the next one."""
    out, held = [], ""
    for line in SAME.split("\n"):
        held = held + "\n" + line if held else line
        if line.endswith("{{ [") or line.endswith("  a") or line == "x {# c #}" or line in ("  {% endif %}  b",) and False:
            continue
        out.append(held)
        held = ""
    return out


def main():
    env = environment()
    from datetime import datetime
    env.globals["strftime_now"] = lambda f: datetime.now().strftime(f)
    with open(DATA / "jinja_expressions.jsonl", "w", encoding="utf-8") as f:
        f.write(json.dumps({"values": VALUES}, ensure_ascii=False) + "\n")
        for source in expressions():
            # Expressions between bars are judged one by one, so that one refusal hides no other.
            parts = source.split("}}|{{")
            parts = [("{{" if i else "") + p + ("}}" if i + 1 < len(parts) else "") for i, p in enumerate(parts)]
            for part in [source] if "{%" in source else parts:
                row = {"source": part}
                try:
                    row["text"] = env.from_string(part).render(**VALUES)
                except Exception as e:
                    row["error"] = type(e).__name__
                f.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
