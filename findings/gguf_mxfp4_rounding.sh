#!/usr/bin/env bash
# gguf 0.19.0 and ml_dtypes 0.6.0, seen 2026-11-28: both write the 4-bit floats of MXFP4, and not the same ones.
#
# gguf takes, for each weight, the first of the sixteen values at the smallest distance. Of two equally near ones that
# is the smaller in magnitude; ml_dtypes takes the even one, as IEEE 754 rounds. So 0.75, 1.75 and 3.5 become 0.5, 1.5
# and 3 in one and 1, 2 and 4 in the other. And what rounds to zero from below has the code of +0 in one, of -0 in the
# other. Such ties are no rarity: BF16 has eight bits of mantissa, and of normally distributed BF16 weights one in two
# hundred became another value.
#
# Further, the exponent byte of gguf wraps around for very small blocks: the byte is floor(log2(max)) + 125 cut to eight
# bits, so blocks of 2^-126 get 255, which in the OCP Microscaling format (E8M0) is not a scale but NaN. gguf's own
# reader takes 255 for 2^128 and gives the zeros that are stored beside it; a reader that follows the format gives 32
# NaN.
#
# Why an engine must know: two correct converters do not give equal files, so bytes are no test of a converter; and a
# reader of these files has to survive the byte 255.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet gguf==0.19.0 ml_dtypes==0.6.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType, quants

for package in ("gguf", "ml_dtypes", "numpy"):
    print(package, importlib.metadata.version(package))
MXFP4 = GGMLQuantizationType.MXFP4
failures = 0


def expect(what, seen, stated):
    global failures
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


def by_gguf(blocks):
    return quants.dequantize(quants.quantize(blocks, MXFP4), MXFP4)


def by_ml_dtypes(values):
    return values.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)


ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
block = np.zeros((1, 32), np.float32)
block[0, :7] = ties
block[0, 31] = 6  # makes the scale of the block 1
print("values", ties.tolist())
expect("gguf", by_gguf(block)[0, :7].tolist(), [0, 0.5, 1, 1.5, 2, 3, 4])
expect("ml_dtypes", by_ml_dtypes(ties).tolist(), [0, 1, 1, 2, 2, 4, 4])
block[0, 0] = -0.1
expect("code of -0.1 by gguf", int(quants.quantize(block, MXFP4)[0, 1] & 15), 0)
expect("code of -0.1 by ml_dtypes", int(block[0, :1].astype(ml_dtypes.float4_e2m1fn).view(np.uint8)[0] & 15), 8)

weights = np.random.default_rng(0).normal(0, 0.02, (4096, 32)).astype(ml_dtypes.bfloat16).astype(np.float32)
scale = 2.0 ** (np.floor(np.log2(np.abs(weights).max(1, keepdims=True))) - 2)
differ = float(np.mean(by_gguf(weights) != by_ml_dtypes((weights / scale).astype(np.float32)) * scale))
print(f"BF16 weights that become other values: {differ:.2%}")
expect("that is between 0.3 and 0.7 %", 0.003 < differ < 0.007, True)

tiny = quants.quantize(np.full((1, 32), 2.0**-126, np.float32), MXFP4)
expect("exponent byte of blocks of 2^-126", int(tiny[0, 0]), 255)
expect("255 as E8M0 is NaN", bool(np.isnan(tiny[0, :1].view(ml_dtypes.float8_e8m0fnu).astype(np.float32)[0])), True)
expect("gguf reads such a block as zeros", bool((quants.dequantize(tiny, MXFP4) == 0).all()), True)
sys.exit(failures != 0)
PY
