#!/usr/bin/env bash
# tiktoken 0.14.0 and tokenizers 0.23.3, seen 2026-11-28: the same vocabulary and the same merges give other ids.
#
# Before it merges anything tiktoken looks whether the whole piece (what the pattern cut out) is a token, and takes it
# if so. A token that no chain of merges can build, because none of the tokens on the way exist, is therefore used when
# it is a piece of its own and never inside a longer one. tokenizers merges only, so that token is never used, unless
# the model says "ignore_merges": true, which is that look at the whole piece.
# A rank file says nothing of all this: it is a list of tokens, the merges are what two tokens can make.
#
# Why an engine must know: reading a rank file (Kimi-K2, Moonlight) as merges needs the look at the whole piece first;
# reading a tokenizer.json needs it only with ignore_merges. An engine with one code path for both is wrong for one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet tiktoken==0.14.0
"$work/env/bin/pip" install --quiet --no-deps tokenizers==0.23.3
"$work/env/bin/python" - <<'PY'
import json
import sys

import tiktoken
import tokenizers

print("tiktoken", tiktoken.__version__, "tokenizers", tokenizers.__version__)
failures = 0
ranks = {"a": 0, "b": 1, "c": 2, "d": 3, "x": 4, "ab": 5, "abcd": 6}  # "abcd": no "cd", no "abc"
merges = [["a", "b"]]


def by_tiktoken(text):
    encoding = tiktoken.Encoding("made", pat_str="[a-z]+", special_tokens={},
                                 mergeable_ranks={token.encode(): rank for token, rank in ranks.items()})
    return encoding.encode(text)


def by_tokenizers(text, ignore_merges):
    model = {"type": "BPE", "vocab": ranks, "merges": merges, "ignore_merges": ignore_merges}
    file = json.dumps({"version": "1.0", "added_tokens": [], "model": model})
    return tokenizers.Tokenizer.from_str(file).encode(text).ids


def expect(what, seen, stated):
    global failures
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


expect("abcd, tiktoken", by_tiktoken("abcd"), [6])
expect("abcd, tokenizers", by_tokenizers("abcd", False), [5, 2, 3])
expect("abcd, tokenizers with ignore_merges", by_tokenizers("abcd", True), [6])
expect("xabcd, tiktoken", by_tiktoken("xabcd"), [4, 5, 2, 3])
expect("xabcd, tokenizers", by_tokenizers("xabcd", False), [4, 5, 2, 3])
expect("xabcd, tokenizers with ignore_merges", by_tokenizers("xabcd", True), [4, 5, 2, 3])
sys.exit(failures != 0)
PY
