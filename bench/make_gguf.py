#!/usr/bin/env python3
"""A random Q8_0 model of a config, as GGUF, for programs that are measured beside Hadal (bench/peer.md).

    pip install gguf numpy
    python3 bench/make_gguf.py tests/data/shapes/moonlight-16e.json OUT.gguf

Matrices are Q8_0 (32 bytes and a scale of 16 bits), norms and the router float32; token i is spelled "ti". MTP layers and
rope scaling are left out. Prints what a decoding step reads, with as many different experts as a token chooses."""
import argparse, dataclasses, json, math, pathlib, sys

import gguf
import numpy as np

ARCH = gguf.MODEL_ARCH.DEEPSEEK2
T = gguf.MODEL_TENSOR
Q8_0, F32 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32
BLOCK, BLOCK_BYTES = gguf.GGML_QUANT_SIZES[Q8_0]
SLAB = 1 << 20  # blocks made at a time


@dataclasses.dataclass
class Tensor:
    name: str
    shape: tuple  # outputs, inputs; experts go first
    kind: str  # "matrix", "router", "ones" or "zeros"

    def values(self):
        return math.prod(self.shape)

    def bytes(self):
        return self.values() // BLOCK * BLOCK_BYTES if self.kind == "matrix" else 4 * self.values()


def name_of(tensor, layer=None, suffix=".weight"):
    return gguf.TENSOR_NAMES[tensor].format(bid=layer) + (".bias" if tensor == T.FFN_EXP_PROBS_B else suffix)


def attention(c, i):
    hidden, heads, latent = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    yield Tensor(name_of(T.ATTN_NORM, i), (hidden,), "ones")
    if rank := c.get("q_lora_rank"):
        yield Tensor(name_of(T.ATTN_Q_A, i), (rank, hidden), "matrix")
        yield Tensor(name_of(T.ATTN_Q_A_NORM, i), (rank,), "ones")
        yield Tensor(name_of(T.ATTN_Q_B, i), (heads * (nope + rope), rank), "matrix")
    else:
        yield Tensor(name_of(T.ATTN_Q, i), (heads * (nope + rope), hidden), "matrix")
    yield Tensor(name_of(T.ATTN_KV_A_MQA, i), (latent + rope, hidden), "matrix")
    yield Tensor(name_of(T.ATTN_KV_A_NORM, i), (latent,), "ones")
    yield Tensor(name_of(T.ATTN_KV_B, i), (heads * (nope + v), latent), "matrix")
    yield Tensor(name_of(T.ATTN_OUT, i), (hidden, heads * v), "matrix")


def swiglu(names, i, hidden, width, experts=()):
    gate, up, down = names
    yield Tensor(name_of(gate, i), (*experts, width, hidden), "matrix")
    yield Tensor(name_of(up, i), (*experts, width, hidden), "matrix")
    yield Tensor(name_of(down, i), (*experts, hidden, width), "matrix")


def feed_forward(c, i):
    hidden, experts, width = c["hidden_size"], c["n_routed_experts"], c["moe_intermediate_size"]
    yield Tensor(name_of(T.FFN_NORM, i), (hidden,), "ones")
    if i < c["first_k_dense_replace"]:
        yield from swiglu((T.FFN_GATE, T.FFN_UP, T.FFN_DOWN), i, hidden, c["intermediate_size"])
        return
    yield Tensor(name_of(T.FFN_GATE_INP, i), (experts, hidden), "router")
    if c.get("topk_method") == "noaux_tc":
        yield Tensor(name_of(T.FFN_EXP_PROBS_B, i), (experts,), "zeros")
    yield from swiglu((T.FFN_GATE_EXP, T.FFN_UP_EXP, T.FFN_DOWN_EXP), i, hidden, width, (experts,))
    yield from swiglu((T.FFN_GATE_SHEXP, T.FFN_UP_SHEXP, T.FFN_DOWN_SHEXP), i, hidden, width * c["n_shared_experts"])


def tensors(c):
    hidden, vocabulary = c["hidden_size"], c["vocab_size"]
    yield Tensor(name_of(T.TOKEN_EMBD), (vocabulary, hidden), "matrix")
    for i in range(c["num_hidden_layers"]):
        yield from attention(c, i)
        yield from feed_forward(c, i)
    yield Tensor(name_of(T.OUTPUT_NORM), (hidden,), "ones")
    yield Tensor(name_of(T.OUTPUT), (vocabulary, hidden), "matrix")


def step_bytes(c):
    """Of one token's step: everything but the embedding, and of a layer's experts those that a token chooses."""
    total = 0
    for t in tensors(c):
        if t.name == name_of(T.TOKEN_EMBD):
            continue
        routed = len(t.shape) == 3
        total += t.bytes() * (c["num_experts_per_tok"] / c["n_routed_experts"] if routed else 1)
    return total


def add_config(w, c):
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_attention_heads"])
    if rank := c.get("q_lora_rank"):
        w.add_q_lora_rank(rank)
    w.add_kv_lora_rank(c["kv_lora_rank"])
    w.add_key_length(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    w.add_value_length(c["v_head_dim"])
    w.add_rope_dimension_count(c["qk_rope_head_dim"])
    w.add_rope_freq_base(float(c["rope_theta"]))
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_weights_scale(float(c["routed_scaling_factor"]))
    w.add_expert_weights_norm(bool(c["norm_topk_prob"]))
    sigmoid = c.get("scoring_func") == "sigmoid"
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if sigmoid else gguf.ExpertGatingFuncType.SOFTMAX)
    if c.get("n_group", 1) > 1:
        w.add_expert_group_count(c["n_group"])
        w.add_expert_group_used_count(c["topk_group"])


def add_tokenizer(w, c):
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("deepseek-llm")
    w.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
    w.add_token_types([gguf.TokenType.NORMAL] * c["vocab_size"])
    w.add_token_merges(["t 1"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)


def random_blocks(random, count, std):
    """Uniform in each block, so that one scale serves all."""
    blocks = np.empty((count, BLOCK_BYTES), np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(std * math.sqrt(3) / 127).tobytes(), np.uint8)
    blocks[:, 2:].view(np.int8)[:] = random.integers(-127, 128, (count, BLOCK), np.int8)
    return blocks


def data_of(t, random, std):
    if t.kind == "router":
        return random.standard_normal(t.shape, np.float32) * np.float32(std)
    if t.kind != "matrix":
        return np.full(t.shape, t.kind == "ones", np.float32)
    count = t.values() // BLOCK
    slabs = [random_blocks(random, min(SLAB, count - i), std) for i in range(0, count, SLAB)]
    return np.concatenate(slabs).reshape(*t.shape[:-1], -1)


def write(c, path, seed):
    std, random = c.get("initializer_range", 0.02), np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[ARCH])
    add_config(w, c)
    add_tokenizer(w, c)
    for t in tensors(c):
        quantized = t.kind == "matrix"
        shape = (*t.shape[:-1], t.shape[-1] // BLOCK * BLOCK_BYTES) if quantized else t.shape
        w.add_tensor_info(t.name, shape, np.dtype(np.uint8 if quantized else np.float32), t.bytes(), Q8_0 if quantized else F32)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for t in tensors(c):
        w.write_tensor_data(data_of(t, random, std))
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("config", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--seed", type=int, default=0)
    o = p.parse_args()
    try:
        c = json.loads(o.config.read_text())
        size = step_bytes(c)
    except (OSError, ValueError) as error:
        sys.exit(f"{o.config}: {error}")
    except KeyError as error:
        sys.exit(f"{o.config}: no field {error}; this is not the config.json of a DeepSeek-V3-like model")
    if odd := next((t for t in tensors(c) if t.kind == "matrix" and t.shape[-1] % BLOCK), None):
        sys.exit(f"{o.config}: {odd.name} has {odd.shape[-1]} columns; blocks of Q8_0 have {BLOCK}")
    unfinished = o.out.with_name(o.out.name + ".part")
    try:
        write(c, unfinished, o.seed)
        unfinished.replace(o.out)
    except KeyError as error:
        sys.exit(f"{o.config}: no field {error}")
    except OSError as error:
        sys.exit(f"{o.out}: {error.strerror or error}")
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{o.out}: {o.out.stat().st_size / 1e9:.3f} GB, a decoding step reads {size / 1e9:.3f} GB")


if __name__ == "__main__":
    main()
