#!/usr/bin/env bash
# llguidance 1.9.1, seen 2026-11-28: whole numbers of a JSON schema beyond 2^53 are changed, and the changed number is
# the one the model is made to write.
#
# {"const": 9007199254740993} lets a model write 9007199254740992 and nothing else; 12345678901234567890 becomes
# 12345678901234567000. The numbers of the schema go through a double on their way. So do minimum and maximum: a
# minimum of 9007199254740993 admits 9007199254740992. No error, no warning. The package jsonschema, which has exact
# whole numbers, calls what was written invalid. JSON Schema compares numbers by their mathematical value.
#
# Why an engine must know: ids of 64 bits (of posts, of orders, of rows) are what const and enum are used for, and
# the constrained text is exactly what nobody checks again. An engine with a compiler of its own has to keep the
# digits as the schema wrote them (and its JSON parser must hand them over); one that uses this package should refuse
# such schemas.
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


expect({"const": 9007199254740991}, "9007199254740991", True, True)
expect({"const": 9007199254740993}, "9007199254740993", False, True)
expect({"const": 9007199254740993}, "9007199254740992", True, False)
expect({"enum": [12345678901234567890]}, "12345678901234567890", False, True)
expect({"enum": [12345678901234567890]}, "12345678901234567000", True, False)
expect({"type": "integer", "minimum": 9007199254740993}, "9007199254740992", True, False)
expect({"type": "integer", "maximum": 9007199254740993}, "9007199254740993", False, True)
sys.exit(failures != 0)
PY
