#!/usr/bin/env python3
"""Model directories that `hadal train` exports: transformers computes from them what hadal does, and what is exported is what is read again."""
import array, json, pathlib, unittest

from harness import Case, DATA, MINI, main, safetensors

EXPORT = DATA / "export"  # tools/make_export_vectors.py
UNCHANGED = ["length.steps=1", "learning_rate.peak=1e-300", "optimizer.weight_decay=0", "objective.gamma=0"]
TEXT = "".join(f"Question {i}: what is {i % 13} times {i % 17}?\nAnswer {i}: {i % 13 * (i % 17)}.\n\n" for i in range(300))


def e4m3(code):
    sign, exponent, mantissa = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    if code & 127 == 127:
        return float("nan")
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


def decoded(directory):
    """Every parameter as float32, by this file's own reading of the formats."""
    stored, values = safetensors(directory / "model.safetensors"), {}
    table = [e4m3(code) for code in range(256)]
    for name, (dtype, shape, data) in stored.items():
        if name.endswith("_scale_inv"):
            continue
        if dtype == "F32":
            values[name] = array.array("f", data)
        elif dtype == "BF16":
            values[name] = array.array("f", array.array("I", (x << 16 for x in array.array("H", data))).tobytes())
        else:
            (rows, columns), (_, (_, blocks), scales) = shape, stored[name + "_scale_inv"]
            scales = array.array("f", scales)
            values[name] = array.array("f", (table[data[r * columns + c]] * scales[r // 128 * blocks + c // 128] for r in range(rows) for c in range(columns)))
    return values


class Export(Case):
    def train(self, name, source, dtype, *settings):
        """The exported directory."""
        (self.dir / "text.txt").write_text(TEXT)
        config = self.dir / "train.toml"
        config.write_text(f"""
            seed = 5
            data = {{ text = ["{self.dir}/text.txt"], documents = "blank-lines", fim_rate = 0 }}
            batch = {{ sequences = 2, sequence_length = 32 }}
            """)
        settings = [f"run_dir={self.dir}/{name}", f"export.dtype={dtype}", source, *settings]
        self.ok("train", config, *(x for s in settings for x in ("--set", s)))
        return self.dir / name / "final"


class TestTransformers(Export):
    def computed(self, dtype):
        out = self.dir / "logits.safetensors"
        ids = array.array("i", safetensors(EXPORT / "transformers.safetensors")["ids"][2])
        self.ok("logits", EXPORT / dtype, "--ids", ",".join(map(str, ids)), "--out", out)
        return safetensors(out)

    def difference(self, theirs, ours):
        self.assertEqual(theirs[:2], ours[:2])
        return max(abs(a - b) for a, b in zip(array.array("f", theirs[2]), array.array("f", ours[2])))

    def test_gives_the_same_logits_for_exported_f32_and_bf16(self):
        vectors = safetensors(EXPORT / "transformers.safetensors")
        for dtype, other in (("f32", "bf16"), ("bf16", "f32")):
            ours = self.computed(dtype)
            for name in ("logits", "mtp0.logits"):
                self.assertLess(self.difference(vectors[f"{dtype}.{name}"], ours[name]), 1e-4, f"{dtype} {name}")
                self.assertGreater(self.difference(vectors[f"{other}.{name}"], ours[name]), 0.1)  # the vectors tell them apart

    def test_reads_the_exported_tokenizer_to_the_same_ids(self):
        vectors = safetensors(EXPORT / "transformers.safetensors")
        for dtype in ("f32", "bf16"):
            ids = json.loads(self.ok("tokenizer", "encode", EXPORT / dtype, stdin=vectors["text"][2]))
            self.assertEqual(ids, list(array.array("i", vectors["ids"][2])))

    def test_was_given_what_is_exported_today(self):
        # The F32 directory is where training begins, so that every file of either must come out with the same bytes.
        for dtype in ("f32", "bf16"):
            made = self.train(dtype, f"model.init_from={EXPORT}/f32", dtype, *UNCHANGED)
            self.assertEqual(sorted(p.name for p in made.iterdir()), sorted(p.name for p in (EXPORT / dtype).iterdir()))
            ours, theirs = (safetensors(d / "model.safetensors") for d in (made, EXPORT / dtype))
            self.assertEqual({n: t[:2] for n, t in ours.items()}, {n: t[:2] for n, t in theirs.items()})
            for file in sorted(p.name for p in made.iterdir()):
                self.assertTrue((made / file).read_bytes() == (EXPORT / dtype / file).read_bytes(), f"{dtype}/{file} has other bytes: tools/make_export_vectors.py makes it anew")


class TestImport(Export):
    def test_what_is_exported_is_read_again_exactly(self):
        # Sizes that are no multiples of FP8's blocks, and matrices of several of them.
        config = json.loads((pathlib.Path(MINI) / "config.json").read_text())
        config.update(hidden_size=160, intermediate_size=288, moe_intermediate_size=136, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
                      q_lora_rank=40, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4, num_experts_per_tok=2)
        (self.dir / "config.json").write_text(json.dumps(config))
        trained = [f"model.config={self.dir}/config.json", f"model.tokenizer={MINI}", "model.init_std=0.05", "length.steps=3", "learning_rate.peak=1e-3"]
        for dtype, stored in (("f32", {"F32"}), ("bf16", {"BF16", "F32"}), ("fp8", {"F8_E4M3", "BF16", "F32"})):
            exported = self.train(f"{dtype}-made", trained[0], dtype, *trained[1:])
            self.assertEqual({t[0] for t in safetensors(exported / "model.safetensors").values()}, stored)
            expected = decoded(exported)
            self.assertIn("model.layers.2.eh_proj.weight", expected)  # the MTP layer
            for to in ("f32", dtype):  # FP8 scales and codes of FP8 values are those values' again
                read = decoded(self.train(f"{dtype}-{to}", f"model.init_from={exported}", to, *UNCHANGED))
                self.assertEqual(read.keys(), expected.keys())
                for name, values in expected.items():
                    self.assertTrue(read[name] == values, f"{dtype} read and written as {to}: {name}")


if __name__ == "__main__":
    main()
