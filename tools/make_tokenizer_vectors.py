#!/usr/bin/env python3
"""Writes tests/data/tokenizer/made/*: a small tiktoken.model with vectors of the `tiktoken` package, and a tokenizer with flagged added tokens
with vectors of the `tokenizers` package, and further vectors of the V3 tokenizer. Needs tiktoken, tokenizers, regex from PyPI."""
import base64, collections, json, lzma, pathlib, random, sys
import regex, tiktoken, tokenizers

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests/data/tokenizer"
OUT = DATA / "made"
# As published with the Moonlight and Kimi-K2 tokenizers.
KIMI = "|".join([r"""[\p{Han}]+""",
                 r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                 r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                 r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""])
SPECIAL = {"[BOS]": 0, "[EOS]": 1, "<|im_end|>": 2, "<|im_user|>": 3, "<|im_assistant|>": 4, "<|im_system|>": 10, "<|im_middle|>": 17}
RANGES = [(0x20, 0x7E)] * 6 + [(0x20, 0x20)] * 3 + [(0x30, 0x39), (0x09, 0x0D), (0x00, 0x1F), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x4FF), (0x590, 0x6FF), (0x900, 0x97F), (0x180E, 0x180E),
          (0x2000, 0x206F), (0x2150, 0x218F), (0x3000, 0x30FF), (0x3005, 0x3007), (0x4E00, 0x4EFF), (0x4E00, 0x4EFF), (0xAC00, 0xACFF), (0xFF00, 0xFFEF), (0x1F600, 0x1F64F), (0x20000, 0x20010)]
TEXTS = ["Hello, World!", "I'm you'll WE'VE it's", "HTTPServer camelCase ABCdef", "3.14159 1000000 ²½Ⅷ", "你好，世界。日本語のテキスト", "한국어 naïve café", "🙂🙃 emoji\u200dzwj", " \n\n\t x  y   \n", "", " ",
         "。、〆々〇", "print('x')\r\n\r\nreturn", "ǅungla ǈ", "مرحبا بالعالم", "x" * 300, "中" * 50 + "a"]


def texts(seed, count):
    r = random.Random(seed)
    for _ in range(count):
        yield "".join(chr(r.randint(*r.choice(RANGES))) for _ in range(r.randint(1, 40)))


def train(pattern, corpus, size):
    """A plain byte-pair trainer: merges the most frequent pair until there are `size` tokens."""
    words = collections.Counter()
    for piece in regex.findall(pattern.replace("&&[^", "--["), corpus, flags=regex.V1):
        words[tuple(bytes([b]) for b in piece.encode())] += 1
    tokens = [bytes([b]) for b in range(256)]
    while len(tokens) < size:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        a, b = max(pairs, key=lambda p: (pairs[p], p))
        tokens.append(a + b)
        merged = collections.Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if i + 1 < len(word) and (word[i], word[i + 1]) == (a, b):
                    out.append(a + b)
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    return {t: i for i, t in enumerate(tokens)}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def make_tiktoken():
    out = OUT / "kimi-like"
    out.mkdir(parents=True, exist_ok=True)
    corpus = (DATA / "vectors/wikitext-8192.txt").read_text(encoding="utf-8")[:20000] + "你好世界，日本語のテキスト。" * 40 + " 123 4567 890" * 20
    ranks = train(KIMI, corpus, 1200)
    (out / "tiktoken.model").write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % i for t, i in ranks.items()))
    base = len(ranks)
    special = {f"<|reserved_token_{i}|>": i for i in range(base, base + 256)}
    named = {base + i: name for name, i in SPECIAL.items()}
    special = {named.get(i, name): i for name, i in special.items()}
    (out / "tokenizer_config.json").write_text(json.dumps({
        "added_tokens_decoder": {str(i): {"content": n, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for i, n in named.items()},
        "bos_token": "[BOS]", "eos_token": "[EOS]", "tokenizer_class": "TikTokenTokenizer"}, indent=1))
    encoding = tiktoken.Encoding("kimi-like", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=special)
    more = ["<|im_user|>user<|im_middle|>hi<|im_end|>", f"a<|reserved_token_{base + 9}|>b", "<|im_user"]
    write_lines(out / "vectors.jsonl", [{"text": t, "ids": encoding.encode(t, allowed_special="all")} for t in TEXTS + more + list(texts(1, 400))])


def make_added():
    out = OUT / "added"
    out.mkdir(parents=True, exist_ok=True)
    mini = json.loads((DATA.parent.parent.parent / "models/mini/tokenizer.json").read_text(encoding="utf-8"))
    flags = [("<a>", {}), ("<ab>", {}), ("<word>", {"single_word": True}), ("<left>", {"lstrip": True}), ("<right>", {"rstrip": True}), ("<both>", {"lstrip": True, "rstrip": True}),
             ("<raw>", {"normalized": False}), ("<raw><a>", {"normalized": True}), ("word", {"single_word": True}), ("<special>", {"special": True, "normalized": False})]
    for i, (content, extra) in enumerate(flags):
        mini["added_tokens"].append({"id": 4096 + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False, **extra})
    (out / "tokenizer.json").write_text(json.dumps(mini, ensure_ascii=False), encoding="utf-8")
    t = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    r = random.Random(5)
    parts = [c for c, _ in flags] + [" ", "  ", "\n", "x", "wordy", "é", "_", "1", "<", "<a", "<think>"]
    rows = ["".join(r.choice(parts) for _ in range(r.randint(1, 8))) for _ in range(400)]
    write_lines(out / "vectors.jsonl", [{"text": x, "ids": t.encode(x).ids} for x in rows])


def make_v3():
    t = tokenizers.Tokenizer.from_str(lzma.open(DATA / "deepseek-v3/tokenizer.json.xz", "rt", encoding="utf-8").read())
    write_lines(OUT / "v3.jsonl", [{"text": x, "ids": t.encode(x).ids} for x in TEXTS + list(texts(2, 600))])


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    make_tiktoken()
    make_added()
    make_v3()
    sys.exit(0)
