#!/usr/bin/env bash
# gguf 0.19.0, seen 2026-11-28: one NaN among the weights makes 31 good ones zero in MXFP4, and nothing shows it.
#
# An MXFP4 block is 32 weights of 4 bits and one exponent byte, from the block's largest magnitude. If one weight is NaN
# so is the maximum; the package asks whether it is greater than zero, gets no, and takes the exponent of an empty
# block, 2^-127. Beside that every other weight is out of range, and all distances round to the same number, of which the
# first one, zero, is taken. The file has 32 zeros and no trace of a NaN, although the format has a byte for it (255). An
# infinity does not come back either. The package's other formats keep such a block visible: with Q4_0 and Q8_0 all 32
# come back as NaN, with BF16 the one.
#
# Why an engine must know: a checkpoint with a broken weight converts without a word into a model that answers, a
# little worse. Looking for NaN in the converted file finds nothing; it has to be looked for before the conversion.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet gguf==0.19.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

print("gguf", importlib.metadata.version("gguf"), "numpy", np.__version__)
failures = 0


def expect(what, seen, stated):
    global failures
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


def through(value, format):
    weights = np.linspace(-1, 1, 32, dtype=np.float32)[None]
    weights[0, 5] = value
    return quants.dequantize(quants.quantize(weights, format), format)[0]


expect("MXFP4, weights that are not 0 of 32 good ones", int(np.count_nonzero(through(-0.7, Type.MXFP4))), 30)
expect("MXFP4, weights that are not 0 beside a NaN", int(np.count_nonzero(through(np.nan, Type.MXFP4))), 0)
expect("MXFP4, all finite beside an infinity", bool(np.isfinite(through(np.inf, Type.MXFP4)).all()), True)
for format, stated in ((Type.Q4_0, 32), (Type.Q8_0, 32), (Type.BF16, 1)):
    expect(f"{format.name}, NaN that come back", int(np.isnan(through(np.nan, format)).sum()), stated)
sys.exit(failures != 0)
PY
