#!/usr/bin/env bash
# tokenizers 0.23.3, seen 2026-11-28: the "id" of an entry of added_tokens in tokenizer.json is not what the token gets.
#
# The loader sorts the entries by id and then numbers them itself: the first takes the number of entries of the
# model's vocabulary (their count, not their highest id plus one), each further one the next. Two things follow:
#   - a gap before or between added tokens is closed on load;
#   - where the vocabulary itself has a hole, an added token can be given the id of an ordinary token. Both then encode
#     to the same id, and decoding it finds the added one: the ordinary token is gone from the text, silently.
# Nothing is reported, and saving the tokenizer writes the new ids.
#
# Why an engine must know: rows of the embedding follow the ids that the file states. An engine that takes them at
# their word (the only reading in which the file can mean anything) disagrees with this package on such files, so
# vectors made with the package are no judge there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --no-deps tokenizers==0.23.3
"$work/env/bin/python" - <<'PY'
import json
import sys

import tokenizers
from tokenizers import Tokenizer

print("tokenizers", tokenizers.__version__)
failures = 0


def expect(what, seen, stated):
    global failures
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


def load(vocabulary, added):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return Tokenizer.from_str(json.dumps({
        "version": "1.0",
        "added_tokens": [{"id": id, "content": content, **flags} for content, id in added.items()],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }))


print("vocabulary a, b, c = 0, 1, 2; the file says <x> = 10, <y> = 20")
gap = load({"a": 0, "b": 1, "c": 2}, {"<x>": 10, "<y>": 20})
expect("  ids of a<x>b<y>c", gap.encode("a<x>b<y>c").ids, [0, 3, 1, 4, 2])
expect("  token of id 10", gap.id_to_token(10), None)
saved = {token["content"]: token["id"] for token in json.loads(gap.to_str())["added_tokens"]}
expect("  ids when saved again", saved, {"<x>": 3, "<y>": 4})

print("vocabulary a, b, c = 0, 1, 3 (a hole at 2); the file says <x> = 4")
hole = load({"a": 0, "b": 1, "c": 3}, {"<x>": 4})
expect("  ids of abc<x>", hole.encode("abc<x>").ids, [0, 1, 3, 3])
expect("  text of the ids of abc", hole.decode(hole.encode("abc").ids).replace(" ", ""), "ab<x>")
sys.exit(failures != 0)
PY
