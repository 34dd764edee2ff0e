#!/usr/bin/env python3
"""Steps of torch.optim.AdamW and torch.optim.Muon (torch from PyPI; 2.15 was used): tests/data/train/optimizer.json.
  make_optimizer_vectors.py OUT

Values and gradients are draws that tests make again (hadal/train/optimizer_test.cpp); the file has what came of them, as
hexadecimal doubles. torch's Muon rounds what it makes orthogonal to BF16, so "muon-f64" and "muon-f32" are made with that
rounding switched off, "muon-bf16" as it is. Shapes are those of the test's model."""
import json, sys, types
import torch
import torch.optim._muon

MASK = (1 << 64) - 1
MATRICES = {
    "model.embed_tokens.weight": (11, 12), "lm_head.weight": (11, 12),
    "model.layers.0.self_attn.q_a_proj.weight": (6, 12), "model.layers.0.self_attn.q_b_proj.weight": (10, 6),
    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": (7, 12), "model.layers.0.self_attn.kv_b_proj.weight": (14, 5),
    "model.layers.0.self_attn.o_proj.weight": (12, 8), "model.layers.1.mlp.gate.weight": (4, 12),
    "model.layers.1.mlp.experts.2.down_proj.weight": (12, 5), "model.layers.2.eh_proj.weight": (12, 24),
}
GAINS = {"model.norm.weight": (12,), "model.layers.0.self_attn.q_a_layernorm.weight": (6,)}


def seed(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    return h


def draw(s, i):
    x = ((s * 0x9E3779B97F4A7C15 + i + 1) & MASK) * 0xBF58476D1CE4E5B9 & MASK
    return (((x ^ x >> 29) * 0x94D049BB133111EB & MASK) >> 11) * 2.0**-53 * 2 - 1


def tensor(name, shape, dtype, size):
    n = torch.Size(shape).numel()
    return (torch.tensor([draw(seed(name), i) for i in range(n)], dtype=torch.float64) * size).to(dtype).reshape(shape)


def rate(step):
    return 0.01 * (1 + step % 3)


def run(shapes, dtype, steps, make):
    parameters = {name: torch.nn.Parameter(tensor(name, shape, dtype, 0.5)) for name, shape in shapes.items()}
    optimizers = make(parameters)
    for step in range(steps):
        for name, p in parameters.items():
            p.grad = tensor(f"{name}@{step}", p.shape, dtype, 0.1)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.step()
    return {name: [x.hex() for x in p.detach().double().flatten().tolist()] for name, p in parameters.items()}


def adamw(parameters):
    groups = [{"params": [p for n, p in parameters.items() if n in MATRICES], "weight_decay": 0.1},
              {"params": [p for n, p in parameters.items() if n in GAINS], "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)]


def muon(parameters):
    return [torch.optim.Muon(list(parameters.values()), weight_decay=0.1, momentum=0.95, nesterov=True, ns_steps=5,
                             adjust_lr_fn="match_rms_adamw")]


def main():
    inner = {n: s for n, s in MATRICES.items() if ".layers." in n}
    result = {"source": f"torch {torch.__version__}, tools/make_optimizer_vectors.py",
              "adamw-f64": run({**MATRICES, **GAINS}, torch.float64, 10, adamw),
              "adamw-f32": run({**MATRICES, **GAINS}, torch.float32, 10, adamw),
              "muon-bf16": run(inner, torch.float32, 5, muon)}
    for dtype, name in (torch.float64, "muon-f64"), (torch.float32, "muon-f32"):
        torch.optim._muon.torch = types.SimpleNamespace(**{**vars(torch), "bfloat16": dtype})
        result[name] = run(inner, dtype, 5, muon)
    with open(sys.argv[1], "w") as out:
        json.dump(result, out, indent=0)
        out.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main()
