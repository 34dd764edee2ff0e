#!/usr/bin/env bash
# gguf 0.19.0, seen 2026-11-28: the 8-bit format Q8_0 makes finite blocks wrong by half, zero or infinite.
#
# A Q8_0 block is 32 bytes and one scale. The package computes the bytes with the scale in 32 bits, max|x| / 127, and
# only then rounds the scale to the 16 bits that are stored; the bytes are not computed again from what was stored.
# Below |x| of about 0.008 the stored scale is a subnormal number of 16 bits, and its error goes into all 32 weights:
# 6e-8 is the smallest step there is, so a block of 5e-6 comes back as 7.6e-6 and one of 1e-6 as zeros, with bytes of
# 127 beside a scale of 0. At the other end 9e6 is stored with an infinite scale.
#
# Why an engine must know: "Q8_0 is good to half a percent" is true of blocks of ordinary size only. A reader must not
# take a scale of 0 as a sign that the bytes are 0, must widen subnormal scales correctly (a conversion that flushes
# them loses whole blocks), and a converter of its own does better by computing the bytes from the rounded scale.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet gguf==0.19.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import numpy as np
from gguf import GGMLQuantizationType, quants

print("gguf", importlib.metadata.version("gguf"), "numpy", np.__version__)
Q8_0 = GGMLQuantizationType.Q8_0
failures = 0


def expect(value, stated_scale, stated_byte, stated_back):
    global failures
    stored = quants.quantize(np.full((1, 32), value, np.float32), Q8_0)
    scale = float(stored[0, :2].view(np.float16)[0])
    byte = int(stored[0, 2:].view(np.int8)[0])
    back = float(quants.dequantize(stored, Q8_0)[0, 0])
    close = np.allclose([scale, back], [stated_scale, stated_back], rtol=1e-3, atol=0) and byte == stated_byte
    failures += not close
    print(f"32 x {value:g}: scale {scale:.4g}, bytes {byte}, read back {back:.4g}, "
          f"{abs(back / value - 1) if np.isfinite(back) else np.inf:.1%} off" + ("" if close else "  NOT AS STATED"))


expect(1.0, 0.007874, 127, 1.0)
expect(1e-4, 7.749e-7, 127, 9.841e-5)
expect(1e-5, 5.960e-8, 127, 7.570e-6)
expect(5e-6, 5.960e-8, 127, 7.570e-6)
expect(1e-6, 0.0, 127, 0.0)
expect(9e6, np.inf, 127, np.inf)
sys.exit(failures != 0)
PY
