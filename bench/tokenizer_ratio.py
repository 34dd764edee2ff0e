#!/usr/bin/env python3
"""tokenizer_ratio.py BOOKS_DIR MODEL_DIR: encodes every *.txt with Hadal (build-bench/tokenizer_throughput) and with the PyPI package `tokenizers`, one call a
book, one thread each, in turns, and prints MB/s and the ratio. Build first: cmake --preset bench && ninja -C build-bench tokenizer_throughput"""
import json, os, pathlib, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ["RAYON_NUM_THREADS"] = "1"


def package():
    """The tokenizers package from .venv, which is made on first use."""
    venv = ROOT / ".venv"
    if not (venv / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "-q", "tokenizers"], check=True)
    if pathlib.Path(sys.prefix) != venv:
        os.execv(str(venv / "bin/python"), [str(venv / "bin/python"), *sys.argv])
    import tokenizers
    return tokenizers


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    tokenizers = package()
    books = sorted(map(str, pathlib.Path(sys.argv[1]).glob("*.txt")))
    reference = tokenizers.Tokenizer.from_file(sys.argv[2] + "/tokenizer.json")
    ours, first, theirs, size, ratios = {}, {}, {}, {}, []
    for book in books:
        text = pathlib.Path(book).read_bytes().decode("utf-8")
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            count = len(reference.encode(text).ids)
            seconds.append(time.perf_counter() - start)
        row = json.loads(subprocess.run([str(ROOT / "build-bench/tokenizer_throughput"), sys.argv[2], book], check=True, capture_output=True).stdout)
        if row["tokens"] != count:
            raise SystemExit(f"{book}: {row['tokens']} tokens, the package gives {count}")
        # Both sides remember words between calls; the first call of a fresh process is given too.
        size[book], ours[book], first[book], theirs[book] = row["bytes"], row["seconds"], row["first"], statistics.median(seconds)
        ratios.append(theirs[book] / ours[book])
        print(f"{pathlib.Path(book).stem:55} {size[book] / ours[book] / 1e6:7.1f} MB/s {size[book] / theirs[book] / 1e6:6.2f} MB/s {ratios[-1]:6.1f}x")
    for what, times in (("all", ours), ("all, first call of a process", first)):
        print(f"{what:55} {sum(size.values()) / sum(times.values()) / 1e6:7.1f} MB/s {sum(size.values()) / sum(theirs.values()) / 1e6:6.2f} MB/s {sum(theirs.values()) / sum(times.values()):6.1f}x")
    print(f"median of the books {statistics.median(ratios):.1f}x, {statistics.median(theirs[b] / first[b] for b in books):.1f}x in the first call")


if __name__ == "__main__":
    main()
