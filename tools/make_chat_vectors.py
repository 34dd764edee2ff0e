#!/usr/bin/env python3
"""Writes tests/data/chat/vectors.jsonl and jinja_vectors.jsonl with jinja2 (PyPI), set up as transformers sets it up."""
import itertools, json, pathlib, sys
import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests/data/chat"


class Generation(Extension):
    """{% generation %} marks assistant text for training and prints its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    return env


def call(name, arguments, type="function"):
    return {"type": type, "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "A"}, {"role": "system", "content": "B"}, {"role": "user", "content": "Q"}],
    [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}, {"role": "user", "content": "Q2"}],
    [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA1"}, {"role": "user", "content": "Q2"}],
    [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "a</think>b</think>c"}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "The answer is"}],
    [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "The answer", "prefix": True}],
    [{"role": "user", "content": "w?"}, {"role": "assistant", "content": None, "tool_calls": [call("get", "{\"c\": \"Paris\"}")]}, {"role": "tool", "content": "21"}],
    [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "Let me see.", "tool_calls": [call("f", "{}"), call("g", "{\"ü\": 1}")]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "Both."}, {"role": "user", "content": "ok"}],
    [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "", "tool_calls": [call("f", {"x": [1, 2.5, None, True], "y": {"z": "ж"}})]}, {"role": "tool", "content": "r"}],
    [{"role": "user", "content": "你好 🙂 <｜User｜> <|im_end|> {{ x }} {% y %}"}, {"role": "assistant", "content": "<｜end▁of▁sentence｜>"}, {"role": "user", "content": " \n spaces \t"}],
    [{"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "text", "text": "part two"}]}],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "You do."}],
    [],
]
TOOLS = [None, [{"type": "function", "function": {"name": "get", "description": "Gets \"it\" <｜User｜>", "parameters": {"type": "object", "properties": {"ü": {"type": "number"}}, "required": []}}}]]
VARIABLES = [{}, {"thinking": True}, {"thinking": False}, {"enable_thinking": True}]


def chat_vectors():
    env = environment()
    for path in sorted((DATA / "templates").glob("*.jinja")):
        template = env.from_string(path.read_text(encoding="utf-8"))
        cases = itertools.product(CONVERSATIONS, TOOLS, VARIABLES if "thinking" in path.read_text(encoding="utf-8") else [{}], [False, True])
        for messages, tools, variables, generation in cases:
            row = {"template": path.name, "messages": messages, "tools": tools, "variables": variables, "add_generation_prompt": generation}
            try:
                row["text"] = template.render(messages=messages, tools=tools, documents=None, add_generation_prompt=generation,
                                              bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>", **variables)
            except Exception:
                row["error"] = True
            yield row


VALUES = {"s": "Hello, Wörld", "n": 7, "f": 2.5, "t": True, "none": None, "l": [3, 1, 2], "words": ["b", "A", "c"], "d": {"b": 2, "a": [1, {"k": "v"}]},
          "m": [{"role": "user", "n": 1, "q": {"z": 5}}, {"role": "tool", "n": 3, "q": {"z": 4}}, {"role": "user", "n": 2}], "e": "", "empty": [], "html": "<a href='x'>&\"</a>", "multi": "one\n  two\n\nthree\n"}
SNIPPETS = r"""
{{ s }}|{{ n }}|{{ f }}|{{ t }}|{{ none }}|{{ l }}|{{ d }}|{{ missing }}
{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1.5 + 1 }} {{ 1e3 }} {{ 10 / 5 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }} {{ 'x' + 'y' }} {{ 'ab' * 3 }} {{ [1] + [2, 3] }}
{{ 'a' ~ 1 + 2 }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 'Wör' in s }} {{ 'z' not in s }} {{ 3 in l }} {{ 'a' in d }} {{ [1, 2] == [1, 2] }} {{ not true }} {{ true and 0 }} {{ '' or 'x' }}
{{ 'yes' if t else 'no' }} {{ 'yes' if e }} {{ 'a' if false else 'b' if false else 'c' }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[7] }} {{ d['b'] }} {{ d.a[1].k }} {{ d.zzz }} {{ l[9] }} {{ s[-3:] }}
{{ d.keys() | list }} {{ d.values() | list }} {{ d.get('b') }} {{ d.get('x') }} {{ d.get('x', 5) }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.split(', ') }} {{ s.split() }} {{ ' x '.strip() }}| {{ 'xxaxx'.strip('x') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ s.startswith('He') }} {{ s.endswith(('x', 'ld')) }} {{ s.replace('l', 'L', 1) }} {{ s.find('ö') }} {{ s.count('l') }} {{ '-'.join(['a', 'b']) }} {{ 'abc'.capitalize() }} {{ multi.splitlines() }} {{ ' a b '.lstrip() }}| {{ ' a b '.rstrip() }}| {{ '12'.isdigit() }}
{{ s | upper }} {{ s | length }} {{ l | length }} {{ l | sort }} {{ l | sort(reverse=true) }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ l | first }} {{ l | last }} {{ l | join(', ') }} {{ l | sum }} {{ l | max }} {{ l | min }} {{ l | reverse | list }} {{ words | map('upper') | list }} {{ words | map('upper') | join('-') }}
{{ m | selectattr('role', 'equalto', 'user') | list | length }} {{ m | rejectattr('role', 'equalto', 'user') | map(attribute='n') | list }} {{ m | map(attribute='q.z', default=0) | list }} {{ m | sort(attribute='n') | map(attribute='n') | join }} {{ m | selectattr('q') | list | length }} {{ [0, 1, '', 'x'] | select | list }} {{ [1, 2, 3, 4] | select('even') | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ m | sum(attribute='n') }} {{ [1, 2, 3] | select('gt', 1) | list }}
{{ missing | default('d') }} {{ e | default('d') }}| {{ e | default('d', true) }} {{ none | default('d') }} {{ missing | d('x') }}
{{ d | tojson }} {{ d | tojson(indent=2) }} {{ s | tojson }} {{ l | tojson(separators=(',', ':')) }} {{ html | tojson }} {{ {'z': 1, 'a': 2} | tojson(sort_keys=true) }} {{ s | tojson(true) }} {{ none | tojson }} {{ true | tojson }} {{ 1.0 | tojson }} {{ [] | tojson(indent=2) }}
{% for k, v in d | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in d | items %}{{ k }}{% endfor %} {{ '5' | int + 1 }} {{ 'x' | int }} {{ '2.5' | float }} {{ 3.7 | int }} {{ -3 | abs }} {{ 3.567 | round(2) }} {{ 3.5 | round }} {{ 4.2 | round(method='ceil') }} {{ 5 | string + 'x' }} {{ ' x ' | trim }}| {{ s | replace('l', 'L') }} {{ html | e }} {{ html | safe }} {{ words | unique | list }} {{ ['a', 'A', 'b'] | unique | list }} {{ s | list | length }} {{ s | capitalize }} {{ multi | indent }}| {{ multi | indent(2, first=true) }}| {{ multi | indent(1, blank=true) }}|
{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index0 }}{{ x }}{{ loop.first }}{{ loop.revindex }}{{ loop.revindex0 }};{% else %}none{% endfor %}{% for x in empty %}x{% else %}none{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'añb' %}[{{ c }}]{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %} {{ range(2, 10, 3) | list }} {{ range(3) | list }} {{ range(5, 0, -2) | list }}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }}{% endfor %}
{% set x = 1 %}{% for y in l %}{% set x = y %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b='x') %}{% for y in l %}{% set ns.a = ns.a + y %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}
{% set a, b = [1, 2] %}{{ a }}{{ b }}{% set block %}in {{ a }} block{% endset %}{{ block | upper }}
{% macro greet(name, greeting='Hi', n=1) %}{{ greeting }} {{ name }}{{ n }}{% endmacro %}{{ greet('A') }} {{ greet('B', 'Yo') }} {{ greet(name='C', n=5) }} {{ greet() }}
{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}
{% raw %}{{ not }} {% this %}{% endraw %}{# comment #}after
a {%- if true -%} b {%- endif -%} c
a   {{- 'x' -}}   b
   {% if true %}
   body
   {% endif %}
end
  {%+ if true %} kept {% endif +%}
x
{{ n is number }} {{ n is integer }} {{ f is float }} {{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ l is sequence }} {{ missing is defined }} {{ missing is not defined }} {{ none is none }} {{ t is boolean }} {{ t is true }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ 'a' is in ['a'] }} {{ n is eq 7 }} {{ n is gt(3) }} {{ s is undefined }} {{ t is integer }} {{ n is sameas 7 }} {{ 'abc' is lower }} {{ t is number }}
{{ missing.attr }}
{{ missing['x'] }}
{{ none.x }}|
{{ raise_exception('no way') }}
{{ 1 / 0 }}
{{ 'a' + 1 }}
{{ l | nosuchfilter }}
{{ l is nosuchtest }}
{{ s.nosuch() }}
{{ undefined_function() }}
{% nosuchtag %}
{% if true %}unclosed
{{ 'unclosed }}
{{ (1 + }}
{{ {'a': 1, 'b': [1, 2,], } }} {{ (1, 2) | list }} {{ () | list }} {{ [] }} {{ {} }} {{ [[1, 'x'], {'k': none}] }}
{{ "it's" }} {{ 'say "hi"' }} {{ 'tab\tnew\\n\'q\'' }} {{ ["it's"] }} {{ ['a"b'] }} {{ ['a\nb'] }} {{ ['é'] }} {{ '\u00e9\x41' }}
{{ 'a' 'b' }} {{ 1_000 }} {{ true }} {{ True }} {{ none }} {{ None }} {{ false }}
{{ -n }} {{ +n }} {{ - - n }} {{ not not n }} {{ -2 ** 2 }} {{ n|string|length }} {{ -3|abs }}
{% generation %}gen{{ n }}{% endgeneration %}{% filter upper %}abc {{ s }}{% endfilter %}
{{ dict(a=1, b=s) }} {{ dict(a=1).a }} {{ namespace(x=2).x }} {{ l.index(2) }} {{ l.count(1) }}
{{ l.append(4) }}
{% set x = l %}{{ x | map('string') | join('+') }} {{ [1, 2, 3][1] }} {{ 'abc'[1] }} {{ {'x': {'y': 3}}.x.y }} {{ 'a.b'.split('.')[-1] }} {{ ('a' ~ 'b').upper() }}
{% for m1 in m %}{% for x in l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% if n == 1 %}a{% elif n == 7 %}b{% else %}c{% endif %}{% if e %}x{% endif %}{% if missing %}x{% endif %}{% if l and s %}y{% endif %}
{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-5 }} {{ 123456789.0 }} {{ 1/3 }} {{ 5e-324 }} {{ 1.0e22 }} {{ 12345678901234567.0 }}
{{ words|join(' ')|title }} {{ 'ÀÉ'|lower }} {{ 'straße'|length }} {{ 'x'.join(words|map('lower')) }} {{ 'aXbX'.replace('X', '') }} {{ 'abc'|first }} {{ 'abc'|last }} {{ 'abc'|reverse }} {{ [1,2]|string }}
""".strip("\n")


def snippets():
    lines, out = SNIPPETS.split("\n"), []
    # The multi-line white space samples belong together.
    text = "\n".join(lines)
    block = "   {% if true %}\n   body\n   {% endif %}\nend\n  {%+ if true %} kept {% endif +%}\nx"
    before, after = text.split(block)
    out = before.strip("\n").split("\n") + [block] + after.strip("\n").split("\n")
    return out


def jinja_vectors():
    env = environment()
    for source in snippets():
        row = {"source": source}
        try:
            row["text"] = env.from_string(source).render(**VALUES)
        except Exception:
            row["error"] = True
        yield row


def main():
    for name, rows in (("vectors.jsonl", chat_vectors()), ("jinja_vectors.jsonl", jinja_vectors())):
        with open(DATA / name, "w", encoding="utf-8") as f:
            if name.startswith("jinja"):
                f.write(json.dumps({"values": VALUES}, ensure_ascii=False) + "\n")
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
