#!/usr/bin/env bash
# llguidance 1.9.1, seen 2026-11-28: which \u escapes a model may write depends on where the string stands, and a
# declared property spelled with one counts as another property.
#
# In a value of {"type": "string"} only escapes of control characters are admitted: "\n", "\u0001", but not "\u00e9",
# "\ud83d\ude00" or "\/". In the name of a property that the schema does not declare \u escapes of letters are admitted
# too. So with a declared property "a" the text {"\u0061": "x"} passes as an undeclared property without any constraint,
# while every JSON parser, and so the package jsonschema, reads it as the property "a", with the wrong type. RFC 8259
# (section 8.3) has strings compared after their escapes are resolved.
#
# Why an engine must know: a model that has learnt to write JSON in pure ASCII (the default of Python's json.dumps) is
# pushed off its habit by the mask at the first letter beyond ASCII. And "the output fits the schema" needs a check by a
# parser, or additionalProperties false.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet llguidance==1.9.1 jsonschema==4.26.0
"$work/env/bin/python" - <<'PY'
import importlib.metadata
import json
import sys

import jsonschema
from llguidance import LLMatcher, LLTokenizer

for package in ("llguidance", "jsonschema"):
    print(package, importlib.metadata.version(package))
tokenizer = LLTokenizer("byte")
failures = 0


def admits(schema, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def expect(schema, text, stated_admitted, stated_valid):
    global failures
    admitted = admits(schema, text)
    valid = jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))
    as_stated = (admitted, valid) == (stated_admitted, stated_valid)
    failures += not as_stated
    print(f"{json.dumps(schema)}  {text}: llguidance {'admits' if admitted else 'refuses'}, "
          f"jsonschema {'valid' if valid else 'invalid'}" + ("" if as_stated else "  NOT AS STATED"))


string = {"type": "string"}
expect(string, '"\u00e9"', True, True)
expect(string, r'"\n\u0001"', True, True)
expect(string, r'"\u00e9"', False, True)
expect(string, r'"\ud83d\ude00"', False, True)
expect(string, r'"\/"', False, True)

whole = {"type": "object", "properties": {"a": {"type": "integer"}}}
expect(whole, '{"a":"x"}', False, False)
expect(whole, r'{"\u00e9":1}', True, True)
expect(whole, r'{"\u0061":"x"}', True, False)
expect({**whole, "additionalProperties": False}, r'{"\u0061":"x"}', False, False)
sys.exit(failures != 0)
PY
