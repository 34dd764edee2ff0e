#!/usr/bin/env python3
"""Objects compiled for one instruction set must not export shared inline functions: the linker could pick such a copy for everybody and
the program would die on an older CPU. Fails on any weak symbol in the objects under kernels/cpu/<isa>/."""
import pathlib, re, subprocess, sys


def weak_symbols(build):
    objects = sorted(p for p in pathlib.Path(build).rglob("*.o") if re.search(r"/kernels/cpu/[^/]+/", str(p)))
    if not objects:
        yield f"{build}: no objects of kernels/cpu/<isa>; build first"
    for path in objects:
        listing = subprocess.run(["nm", "--demangle", str(path)], capture_output=True, text=True, check=True).stdout
        for line in listing.splitlines():
            fields = line.split(maxsplit=2)
            if len(fields) == 3 and fields[1] in "WVu":
                yield f"{path.name}: exports {fields[2]}"


def main():
    found = list(weak_symbols(sys.argv[1] if len(sys.argv) > 1 else "build"))
    print("\n".join(found) if found else "no shared symbols in instruction-set objects")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
