#!/usr/bin/env python3
"""What transformers (PyPI) makes of model directories that `hadal train` exports: tests/data/export.
  make_export_vectors.py            makes build/export-vectors/venv with the packages below, and runs itself in it
  make_export_vectors.py --venv DIR the same with another place for the packages

Trains a small model of the family (MLA, mixture of experts, one MTP layer) for a few steps with build/hadal (or $HADAL), exports it as F32 and
as BF16, and has transformers load both directories: every parameter must be there, and no tensor may be left over but those of the MTP layer, which
transformers loads apart (MtpModel, what generate(use_mtp=True) drafts with). Computes in float32: BF16 weights are read as they are and
widened, as hadal does (left to itself transformers would compute in BF16, as torch_dtype says). Ids, logits and MTP logits go to transformers.safetensors."""
import json, os, pathlib, re, shutil, subprocess, sys, venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build/export-vectors"
OUT = ROOT / "tests/data/export"
HADAL = os.environ.get("HADAL", str(ROOT / "build/hadal"))
PACKAGES = ["transformers==5.24.0", "torch==2.15.0", "safetensors==0.8.0", "tokenizers==0.23.3"]
STEPS = 80

CONFIG = dict(
    architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=264, hidden_size=48, intermediate_size=64,
    moe_intermediate_size=16, num_hidden_layers=3, first_k_dense_replace=1, moe_layer_freq=1, num_attention_heads=3, num_key_value_heads=3,
    q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=8, n_shared_experts=1,
    num_experts_per_tok=2, n_group=4, topk_group=2, topk_method="noaux_tc", scoring_func="sigmoid", norm_topk_prob=True,
    routed_scaling_factor=2.5, rms_norm_eps=1e-6, rope_theta=10000.0, rope_scaling=None, max_position_embeddings=128,
    num_nextn_predict_layers=1, hidden_act="silu", attention_bias=False, attention_dropout=0.0, tie_word_embeddings=False,
    initializer_range=0.02, bos_token_id=0, eos_token_id=1, torch_dtype="float32")


def byte_tokenizer(directory):
    """That of models/mini without its merges: a token for each byte."""
    tokenizer = json.loads((ROOT / "models/mini/tokenizer.json").read_text())
    special = [t for t in tokenizer["added_tokens"] if t["id"] < 3]
    vocab = {s: i for s, i in tokenizer["model"]["vocab"].items() if len(s) == 1 or i < 3}
    assert sorted(vocab.values()) == list(range(259))
    tokenizer["added_tokens"] = special
    tokenizer["model"].update(vocab=vocab, merges=[])
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1, ensure_ascii=False) + "\n")
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0]["content"], "eos_token": special[1]["content"],
        "pad_token": special[2]["content"], "model_max_length": 128}, indent=1, ensure_ascii=False) + "\n")


def train(dtype):
    """The exported directory. Both of them are of the same run: the second time hadal train finds it done."""
    (WORK / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    byte_tokenizer(WORK)
    (WORK / "text.txt").write_text("\n\n".join((ROOT / "examples/tiny/questions.txt").read_text().split("\n\n")[:600]))
    (WORK / "train.toml").write_text(f"""
run_dir = "{WORK}/run"
seed = 7
model = {{ config = "{WORK}/config.json", init_std = 0.1 }}
data = {{ text = ["{WORK}/text.txt"], documents = "blank-lines", fim_rate = 0 }}
batch = {{ sequences = 8, sequence_length = 64 }}
length = {{ steps = {STEPS} }}
learning_rate = {{ peak = 5e-3, warmup_steps = 10 }}
objective = {{ gamma = 0.01 }}
""")
    subprocess.run([HADAL, "train", WORK / "train.toml", "--set", f"export.dtype={dtype}"], check=True)
    target = OUT / dtype
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(WORK / "run/final", target)
    shutil.rmtree(WORK / "run/final")
    return target


def hidden_and_logits(directory, ids):
    """Of the whole model and of its MTP layer, by transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_layers import MtpModel
    from transformers.cache_utils import MtpCache
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert type(model).__name__ == "DeepseekV3ForCausalLM", type(model)
    mtp = f"model.layers.{CONFIG['num_hidden_layers']}."
    left_over = [k for k in info["unexpected_keys"] if not k.startswith(mtp)]
    assert not left_over and not info["missing_keys"] and not info["mismatched_keys"], info
    stored = AutoModelForCausalLM.from_pretrained(directory)
    print(directory.name, "left to itself transformers would compute in", {str(p.dtype) for p in stored.parameters()}, file=sys.stderr)
    # transformers knows the number of the MTP layer of the 61-layer model only.
    model._keys_to_ignore_on_load_unexpected = [re.escape(mtp) + ".*"]
    draft = MtpModel.from_pretrained(model)
    with torch.no_grad():
        out = model.model(ids, use_cache=False)
        logits = model.lm_head(out.last_hidden_state)
        positions = torch.arange(ids.shape[1] - 1)[None]
        cache = MtpCache(config=model.config.get_mtp_config())
        deeper = draft.forward_layer(0, out.last_hidden_state[:, :-1], positions, cache, input_ids=ids[:, 1:])
        drafted = draft._project_to_logits(deeper)
    return logits[0], drafted[0]


def main():
    import torch, transformers
    from safetensors.torch import save_file
    WORK.mkdir(parents=True, exist_ok=True)
    text = "Q: What is the capital of France?\nA: The capital of France is Paris. Ça fait 1234 €."
    result = {}
    for dtype in "f32", "bf16":
        directory = train(dtype)
        ids = transformers.AutoTokenizer.from_pretrained(directory)(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        logits, drafted = hidden_and_logits(directory, ids)
        result.update({"ids": ids[0].to(torch.int32), "text": torch.tensor(list(text.encode()), dtype=torch.uint8),
                       f"{dtype}.logits": logits.contiguous(), f"{dtype}.mtp0.logits": drafted.contiguous()})
    save_file(result, OUT / "transformers.safetensors", {"transformers": transformers.__version__, "torch": torch.__version__})
    large = [f for f in OUT.rglob("*.safetensors") if f.stat().st_size > 200_000]
    subprocess.run([sys.executable, ROOT / "tools/test_data.py", "pack", *large], check=True)


if __name__ == "__main__":
    if os.environ.get("HADAL_IN_VENV"):
        main()
    elif len(sys.argv) in (1, 3) and sys.argv[1:2] in ([], ["--venv"]):
        place = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else WORK / "venv"
        if not (place / "bin/python").exists():
            venv.create(place, with_pip=True)
        subprocess.run([place / "bin/pip", "install", "--quiet", *PACKAGES], check=True)
        os.environ["HADAL_IN_VENV"] = "1"
        os.execv(place / "bin/python", [str(place / "bin/python"), __file__])
    elif sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
    else:
        raise SystemExit(__doc__)
