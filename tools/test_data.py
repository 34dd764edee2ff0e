#!/usr/bin/env python3
"""tests/data as the tests read it. Large files are kept compressed (NAME.xz), so that the repository stays small.
  test_data.py unpack DIR   makes DIR a copy of tests/data with those files unpacked; only what has changed is written
  test_data.py pack FILE... replaces files under tests/data by FILE.xz (for files above 200 kB; models and tensors shrink by a third, JSON by three quarters)"""
import lzma, pathlib, shutil, sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "tests/data"


def unpack(target):
    wanted = set()
    for path in SOURCE.rglob("*"):
        if path.is_dir():
            continue
        relative = path.relative_to(SOURCE)
        packed = path.suffix == ".xz"
        copy = target / (relative.with_suffix("") if packed else relative)
        wanted.add(copy)
        if copy.exists() and copy.stat().st_mtime_ns > path.stat().st_mtime_ns:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, even if this is killed half-way.
        partial = copy.with_name(copy.name + ".partial")
        with (lzma.open if packed else open)(path, "rb") as data, open(partial, "wb") as out:
            shutil.copyfileobj(data, out, 1 << 20)
        partial.replace(copy)
    for copy in list(target.rglob("*")):
        if copy.is_file() and copy not in wanted:
            copy.unlink()


def pack(path):
    # Tensors: values of two and four bytes stand at even places, which lp and pb tell the compressor.
    aligned = {"lp": 1, "pb": 1} if path.suffix == ".safetensors" else {}
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, **aligned}]
    path.with_name(path.name + ".xz").write_bytes(lzma.compress(path.read_bytes(), filters=filters))
    path.unlink()


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "unpack":
        unpack(pathlib.Path(sys.argv[2]).absolute())
    elif len(sys.argv) > 2 and sys.argv[1] == "pack":
        for name in sys.argv[2:]:
            pack(pathlib.Path(name))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
