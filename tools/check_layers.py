#!/usr/bin/env python3
"""An include may only point where this table allows it. The table is that of ARCHITECTURE.md; CMakeLists.txt repeats it as the link graph."""
import pathlib, re, sys

MAY_INCLUDE = {
    "core": [],
    "io": ["core"],
    "kernels": ["core"],
    "ops": ["core", "kernels"],
    "tokenizer": ["core", "io"],
    "data": ["core", "io", "tokenizer"],
    "grammar": ["core", "io"],
    "chat": ["core", "io", "tokenizer", "grammar"],
    "config": ["core", "io"],
    "weights": ["core", "io", "ops", "config"],
    "model": ["core", "io", "ops", "config", "weights"],
    "stream": ["core", "io", "ops", "config", "weights", "model"],
    "checkpoint": ["core", "io", "ops", "config", "weights", "model", "stream"],
    "infer": ["core", "io", "ops", "grammar", "config", "model"],
    "train": ["core", "io", "ops", "config", "weights", "tokenizer", "data", "model", "stream", "checkpoint", "infer"],
    "eval": ["core", "io", "config", "tokenizer", "model", "stream", "infer"],
    "perf": ["core", "io", "kernels", "ops", "config", "weights", "tokenizer", "model", "stream", "infer"],
    "serve": ["core", "io", "tokenizer", "grammar", "chat", "config", "model", "stream", "infer"],
    "cli": ["core", "io", "ops", "config", "weights", "tokenizer", "grammar", "chat", "model", "stream", "checkpoint", "train", "infer", "eval", "perf", "serve", "data"],
}


def violations(root):
    for path in sorted((root / "hadal").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        library = path.relative_to(root / "hadal").parts[0]
        if library not in MAY_INCLUDE:
            yield f"{path.relative_to(root)}: library '{library}' is not in the table"
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not found:
                continue
            include = found.group(1)
            if path.name.endswith("_test.cpp") and include.startswith("tests/support/"):
                continue
            if not include.startswith("hadal/"):
                yield f"{path.relative_to(root)}:{number}: \"{include}\" does not start at hadal/"
                continue
            target = include.split("/")[1]
            if target != library and target not in MAY_INCLUDE[library]:
                yield f"{path.relative_to(root)}:{number}: {library} may not include {target}"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    found = list(violations(root))
    print("\n".join(found) if found else "layers hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
