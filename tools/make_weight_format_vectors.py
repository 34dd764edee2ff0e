#!/usr/bin/env python3
"""Writes tests/data/formats/integers.safetensors: small matrices in the INT8 and INT4 layouts of published checkpoints, what they stand for, and
products with them. Standard library only; written from the layouts' descriptions, not from Hadal's code:

  int8 blocks    DeepSeek-R1-Block-INT8: I8 [N, K], weight_scale_inv F32 per 128x128 block (amax / 127)
  int8 channels  DeepSeek-R1-Channel-INT8, compressed-tensors int-quantized: I8 [N, K], weight_scale F32 [N, 1]
  int4           vllm-project/compressed-tensors pack_to_int32 (Kimi-K2-Thinking): code + 8, eight a word, first in the low bits, rows padded
                 with zeros; weight_scale BF16 [N, ceil(K / group)] = amax / 7.5
  awq            casper-hansen/AutoAWQ WQLinear_GEMM: qweight [K, N / 8], nibble i of a word is column order[i] with order 0 2 4 6 1 3 5 7;
                 qzeros likewise [K / group, N / 8]; scales F16 [K / group, N]; value = (code - zero) * scale
"""
import json, pathlib, random, struct

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/formats/integers.safetensors"
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
random.seed(20)
tensors = {}


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def f16(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))[0]


def put(name, dtype, shape, values):
    codes = {"F32": "f", "F64": "d", "I8": "b", "U8": "B", "I32": "i", "I64": "q", "F16": "e"}
    if dtype == "BF16":
        data = b"".join(struct.pack("<f", v)[2:] for v in values)
    else:
        data = struct.pack(f"<{len(values)}{codes[dtype]}", *values)
    tensors[name] = (dtype, shape, data)


def matrix(n, k, spread=1.0):
    """Rows of differing size, a row and a corner of zeros, one outlier."""
    w = [[f32(random.gauss(0, spread) * (1 + r % 5)) for _ in range(k)] for r in range(n)]
    w[n // 2] = [0.0] * k
    w[1][k - 1] = f32(17 * spread)
    return w


def flat(rows):
    return [v for row in rows for v in row]


def product(name, x, w):
    """y = x w^T, sums in float64 of exact products."""
    put(name + ".x", "F32", [len(x), len(x[0])], flat(x))
    put(name + ".y", "F64", [len(x), len(w)], [sum(a * b for a, b in zip(row, col)) for row in x for col in w])


def inputs(k):
    return [[f32(random.gauss(0, 1)) for _ in range(k)] for _ in range(3)]


def nearest(value, low, high):
    return max(low, min(high, round(value)))  # round() is to nearest, ties to even


def int8(name, n, k, rows, columns):
    w = matrix(n, k)
    grid = [[0.0] * -(-k // columns) for _ in range(-(-n // rows))]
    for r in range(n):
        for c in range(k):
            grid[r // rows][c // columns] = max(grid[r // rows][c // columns], abs(w[r][c]))
    grid = [[f32(a / 127) or 1.0 for a in row] for row in grid]
    codes = [[nearest(f32(w[r][c] / grid[r // rows][c // columns]), -127, 127) for c in range(k)] for r in range(n)]
    values = [[f32(codes[r][c] * grid[r // rows][c // columns]) for c in range(k)] for r in range(n)]
    put(name + ".in", "F32", [n, k], flat(w))
    put(name + ".weight", "I8", [n, k], flat(codes))
    put(name + ".scale", "F32", [len(grid), len(grid[0])], flat(grid))
    put(name + ".values", "F32", [n, k], flat(values))
    product(name, inputs(k), [[codes[r][c] * grid[r // rows][c // columns] for c in range(k)] for r in range(n)])


def signed(word):
    return word - (1 << 32) if word >> 31 else word


def pack_row(codes):
    codes = codes + [0] * (-len(codes) % 8)
    return [signed(sum(codes[i + j] << 4 * j for j in range(8))) for i in range(0, len(codes), 8)]


def int4(name, n, k, group):
    w = matrix(n, k)
    groups = -(-k // group)
    scale = [[bf16(f32(max(abs(v) for v in row[g * group:(g + 1) * group]) / 7.5)) or 1.0 for g in range(groups)] for row in w]
    codes = [[nearest(f32(w[r][c] / scale[r][c // group]), -8, 7) for c in range(k)] for r in range(n)]
    values = [[codes[r][c] * scale[r][c // group] for c in range(k)] for r in range(n)]  # exact
    put(name + ".in", "F32", [n, k], flat(w))
    put(name + ".packed", "I32", [n, -(-k // 8)], flat([pack_row([q + 8 for q in row]) for row in codes]))
    put(name + ".scale", "BF16", [n, groups], flat(scale))
    put(name + ".shape", "I64", [2], [n, k])
    put(name + ".values", "F32", [n, k], flat(values))
    product(name, inputs(k), values)


def awq(name, n, k, group):
    codes = [[random.randrange(16) for _ in range(n)] for _ in range(k)]  # by inputs, as stored
    groups = k // group
    zeros = [[random.randrange(16) for _ in range(n)] for _ in range(groups)]
    scales = [[f16(random.uniform(0.001, 0.1)) for _ in range(n)] for _ in range(groups)]

    def words(row):
        return [signed(sum(row[i + AWQ_ORDER[j]] << 4 * j for j in range(8))) for i in range(0, n, 8)]

    values = [[(codes[c][r] - zeros[c // group][r]) * scales[c // group][r] for c in range(k)] for r in range(n)]  # exact
    put(name + ".qweight", "I32", [k, n // 8], flat([words(row) for row in codes]))
    put(name + ".qzeros", "I32", [groups, n // 8], flat([words(row) for row in zeros]))
    put(name + ".scales", "F16", [groups, n], flat(scales))
    put(name + ".values", "F32", [n, k], flat(values))
    product(name, inputs(k), values)


int8("blocks", 140, 200, 128, 128)
int8("channels", 20, 150, 1, 150)
int4("int4_32", 12, 100, 32)
int4("int4_128", 9, 256, 128)
awq("awq_64", 24, 128, 64)
awq("awq_128", 144, 128, 128)

header, at = {}, 0
for name, (dtype, shape, data) in tensors.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
    at += len(data)
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-(8 + len(text)) % 64)
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))
print(OUT.name, OUT.stat().st_size, "bytes")
