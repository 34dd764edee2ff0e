#!/usr/bin/env python3
"""`hadal train`: what comes out depends on configuration and data alone, whatever happens to the process."""
import array, json, os, pathlib, random, re, resource, shutil, signal, struct, subprocess, sys, time, unittest

from harness import DATA, HADAL, MINI, ROOT, Case, main, run, safetensors

TEXT = "".join(f"Question {i}: what is {i % 13} times {i % 17}?\nAnswer {i}: {i % 13 * (i % 17)}.\n\n" for i in range(1500))


def small_config(folder):
    """A model of the family that a step of takes milliseconds."""
    config = json.loads((pathlib.Path(MINI) / "config.json").read_text())
    config.update(hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                  num_key_value_heads=2, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
                  n_routed_experts=8, num_experts_per_tok=2)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


class Training(Case):
    def setUp(self):
        super().setUp()
        (self.dir / "text.txt").write_text(TEXT)
        small_config(self.dir)
        self.config = self.dir / "train.toml"
        self.config.write_text(f"""
            run_dir = "{self.dir}/run"
            seed = 5
            [model]
            config = "{self.dir}/config.json"
            tokenizer = "{MINI}"
            init_std = 0.02
            [data]
            text = ["{self.dir}/text.txt"]
            documents = "blank-lines"
            [batch]
            sequences = [[0, 2], [512, 4]]
            sequence_length = [[0, 32], [1024, 64]]
            micro_batch = 2
            [length]
            steps = 14
            [learning_rate]
            peak = 3e-3
            warmup_steps = 4
            [ema]
            decay = 0.9
            [log]
            every = 1
            validation_every = 5
            validation_sequences = 4
            [checkpoint]
            every_steps = 2
            [export]
            dtype = "f32"
            """)

    def path(self, name):
        return self.dir / name

    def set(self, *settings):
        return [x for s in settings for x in ("--set", s)]

    def train(self, name="run", *settings):
        return self.ok("train", self.config, *self.set(f"run_dir={self.dir}/{name}", *settings))

    def start(self, name, *settings):
        return subprocess.Popen([HADAL, "train", str(self.config), *self.set(f"run_dir={self.dir}/{name}", *settings)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_for_step(self, name, step):
        for _ in range(3000):
            try:
                if len(self.steps(name)) >= step:
                    return
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            time.sleep(0.01)
        self.fail(f"step {step} never came")

    def log(self, name="run"):
        return [json.loads(line) for line in (self.path(name) / "log.jsonl").read_text().splitlines()]

    def steps(self, name="run"):
        """What of the steps' records is not about time."""
        keys = ("step", "tokens", "loss", "main", "mtp", "balance", "grad_norm", "learning_rate", "load", "skipped")
        return [{k: r[k] for k in keys if k in r} for r in self.log(name) if "grad_norm" in r]

    def validations(self, name):
        return [(r["step"], r["bits_per_byte"], r["load"]) for r in self.log(name) if "bits_per_byte" in r]

    def checkpoint(self, name, step):
        return self.path(name) / "checkpoints" / f"step-{step}"

    def checkpoints(self, name="run"):
        return sorted(p.name for p in (self.path(name) / "checkpoints").iterdir())

    def assert_same_run(self, a, b, step=14):
        self.assertEqual(self.steps(a), self.steps(b))
        self.assertEqual([s["step"] for s in self.steps(a)], list(range(1, step + 1)))
        self.assertEqual(self.validations(a), self.validations(b))
        for file in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
            self.assertEqual((self.checkpoint(a, step) / file).read_bytes(), (self.checkpoint(b, step) / file).read_bytes(), file)
        self.assertEqual(safetensors(self.path(a) / "final/model.safetensors"), safetensors(self.path(b) / "final/model.safetensors"))


class TestRun(Training):
    def test_loss_falls_and_the_final_model_chats(self):
        out = self.train("run", "length.steps=40", "export.dtype=bf16", "checkpoint.every_steps=0")
        self.assertEqual(out.decode().strip(), str(self.path("run") / "final"))
        steps = self.steps()
        self.assertLess(steps[-1]["main"], steps[0]["main"] - 0.5)
        self.assertTrue(all(len(s["mtp"]) == 1 for s in steps))
        self.ok("verify", self.path("run") / "final")
        self.assertTrue(self.ok("chat", self.path("run") / "final", "--max-tokens", "3", "--temperature", "0", stdin="Hello\n").strip())
        self.assertEqual(self.checkpoints(), ["step-40"])
        # A checkpoint is a model directory, too.
        self.ok("chat", self.checkpoint("run", 40), "--max-tokens", "3", stdin="Hello\n")

    def test_begins_with_the_weights_of_init(self):
        self.ok("init", self.dir / "config.json", self.dir / "init", "--dtype", "f32", "--std", "0.02", "--seed", "5")
        self.train("run", "length.steps=1", "learning_rate.peak=1e-300", "optimizer.weight_decay=0", "objective.gamma=0")
        self.assertEqual(safetensors(self.dir / "init/model.safetensors"), safetensors(self.path("run") / "final/model.safetensors"))

    def test_goes_on_from_a_model_of_any_stored_format(self):
        self.ok("init", self.dir / "config.json", self.dir / "fp8", "--dtype", "fp8")
        self.ok("convert", self.dir / "fp8", self.dir / "f32", "--to", "f32")
        self.train("run", "length.steps=1", "learning_rate.peak=1e-300", "optimizer.weight_decay=0", "objective.gamma=0",
                   "model.config=", f"model.init_from={self.dir}/fp8")
        before, after = (safetensors(d / "model.safetensors") for d in (self.dir / "f32", self.path("run") / "final"))
        self.assertEqual(before.keys(), after.keys())
        for name, (dtype, shape, data) in before.items():
            self.assertEqual((dtype, shape), after[name][:2])
            self.assertTrue(array.array("f", data) == array.array("f", after[name][2]), name)  # zeros may have changed their sign

    def test_exports_in_every_format(self):
        self.train("run")
        for dtype in ("bf16", "fp8"):
            shutil.rmtree(self.path("run") / "final")
            self.train("run", f"export.dtype={dtype}")
            self.ok("convert", self.checkpoint("run", 14), self.dir / dtype, "--to", dtype)
            ours, theirs = (safetensors(d / "model.safetensors") for d in (self.path("run") / "final", self.dir / dtype))
            self.assertEqual(ours, theirs)
            self.ok("verify", self.path("run") / "final")

    def test_same_bits_for_one_and_two_threads(self):
        self.train("a", "threads=1")
        self.train("b", "threads=2")
        self.assert_same_run("a", "b")

    def test_recomputation_changes_no_bit(self):
        self.train("a")
        self.train("b", "recompute=true")
        self.assert_same_run("a", "b")

    def test_ends_with_the_data_and_takes_every_token_once_an_epoch(self):
        options = ["length.steps=100000", "data.epochs=1", "batch.sequences=64", "batch.sequence_length=128", "batch.micro_batch=0"]
        p = run("train", self.config, *self.set(*options))
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        self.assertIn("the data has been gone through", p.stderr.decode())
        tokens = json.loads((self.path("run") / "data/dataset.json").read_text())["sources"][0]["train"]["tokens"]
        self.assertEqual(len(self.steps()), -(-tokens // (64 * 128)))
        records = len(self.log())
        again = run("train", self.config, *self.set(*options))
        self.assertIn("are done already", again.stderr.decode())
        self.assertEqual(len(self.steps()) + len(self.validations("run")), len([r for r in self.log()[:records] if "grad_norm" in r or "bits_per_byte" in r]))

    def test_bytes_of_validation_are_those_of_its_text(self):
        # Every sequence of the split: nats over all text bytes, as `perplexity` counts.
        self.train("run", "log.validation_sequences=100000", "log.validation_every=0")
        info = json.loads((self.path("run") / "data/dataset.json").read_text())
        self.assertGreater(info["sources"][0]["validation"]["text_bytes"], 0)
        self.assertGreater(self.validations("run")[0][1], 0.5)


    def test_validations_have_the_load_over_all_that_was_validated(self):
        length, sequences = 96, 3
        self.train("run", "length.steps=6", "checkpoint.every_steps=0", f"batch.sequence_length={length}", f"log.validation_sequences={sequences}")
        (record,) = [r for r in self.log() if r["kind"] == "validation" and r["step"] == 6]
        # The same counted from traces of the model that was saved there.
        self.ok("data", "export", self.path("run") / "data", self.dir / "validation", "--split", "validation")
        ids = array.array("H", (self.dir / "validation.bin").read_bytes())
        counts = {}
        for i in range(sequences):
            text = ",".join(map(str, ids[i * length:(i + 1) * length]))
            self.ok("logits", self.checkpoint("run", 6), "--ids", text, "--out", self.dir / "trace", "--trace")
            for name, (_, _, data) in safetensors(self.dir / "trace").items():
                if name.endswith(".topk_idx") and int(name[5:-9]) < 2:  # not those of MTP
                    of_layer = counts.setdefault(int(name[5:-9]), [0] * 8)
                    for expert in array.array("i", data):
                        of_layer[expert] += 1
        self.assertEqual({l["layer"]: l["counts"] for l in record["load"]}, counts)
        self.assertEqual(sorted(counts), [1])
        for l in record["load"]:
            self.assertEqual(sum(l["counts"]), 2 * length * sequences)
            self.assertAlmostEqual(l["max_vio"], max(l["counts"]) / (sum(l["counts"]) / 8) - 1, 12)
            self.assertEqual(l["dead"], l["counts"].count(0))
            self.assertLess(l["bias_low"], l["bias_high"])

    def test_a_run_that_is_done_gets_the_report_that_a_kill_took_from_it(self):
        self.train("run", "length.steps=2")
        (self.path("run") / "report.html").unlink()
        self.train("run", "length.steps=2")
        self.assertIn("<title>run: training report", (self.path("run") / "report.html").read_text())


class TestBalance(Training):
    def biases(self, directory):
        return {n: t[2] for n, t in safetensors(directory / "model.safetensors").items() if n.endswith("e_score_correction_bias")}

    def load_over(self, name, begin, end):
        """MaxVio of each MoE layer, the mean over steps."""
        steps = self.steps(name)[begin:end]
        return [sum(s["load"][layer]["max_vio"] for s in steps) / len(steps) for layer in range(len(steps[0]["load"]))]

    def test_max_vio_falls_below_a_bound_and_gamma_0_freezes_the_bias(self):
        config = json.loads((self.dir / "config.json").read_text()) | {"n_group": 1, "topk_group": 1}
        (self.dir / "config.json").write_text(json.dumps(config))
        options = ["length.steps=66", "batch.sequences=8", "batch.sequence_length=64", "batch.micro_batch=0", "learning_rate.peak=5e-4", "model.init_std=0.05",
                   "objective.alpha=0", "log.validation_every=0", "checkpoint.every_steps=6", "ema.decay=0"]
        self.train("free", "objective.gamma=0", *options)
        self.train("balanced", f"objective.gamma=[[0,0.005],[{60 * 8 * 64},0]]", *options)
        for free, balanced in zip(self.load_over("free", 50, 60), self.load_over("balanced", 50, 60)):
            self.assertGreater(free, 1)
            self.assertLess(balanced, 0.5)
        self.assertEqual(len(self.biases(self.checkpoint("free", 66))), 2)
        self.assertFalse(any(b"".join(self.biases(self.checkpoint("free", 66)).values())))
        frozen = self.biases(self.checkpoint("balanced", 60))
        self.assertTrue(all(any(b) for b in frozen.values()))
        self.assertEqual(frozen, self.biases(self.checkpoint("balanced", 66)))


class TestDocuments(Training):
    def test_packed_within_documents_have_the_losses_that_they_have_apart(self):
        # Documents of 31 letters and an end: one or two of them in a sequence, all in the first batch.
        tokenizer = DATA / "export/f32"
        config = json.loads((self.dir / "config.json").read_text()) | {"vocab_size": 264}
        (self.dir / "config.json").write_text(json.dumps(config))
        draw = random.Random(3)
        (self.dir / "text.txt").write_text("\n".join("".join(draw.choice("abcdefgh ") for _ in range(30)) + "." for _ in range(32)))
        options = [f"model.tokenizer={tokenizer}", "data.documents=lines", "data.validation=0", "data.fim_rate=0", "length.steps=1", "objective.alpha=0", "batch.micro_batch=0",
                   "model.init_std=0.3", "log.validation_every=0"]
        first = {}
        for name, within, sequences, length in (("apart", "true", 32, 32), ("packed", "true", 16, 64), ("across", "false", 16, 64)):
            self.train(name, f"data.within_documents={within}", f"batch.sequences={sequences}", f"batch.sequence_length={length}", *options)
            info = json.loads((self.path(name) / "data/dataset.json").read_text())
            self.assertEqual(info["sources"][0]["train"]["tokens"], 32 * 32)
            first[name] = self.steps(name)[0]
        for loss in (lambda s: s["main"], lambda s: s["mtp"][0]):
            self.assertAlmostEqual(loss(first["packed"]), loss(first["apart"]), delta=1e-5)
            self.assertGreater(abs(loss(first["across"]) - loss(first["apart"])), 1e-3)


class TestResume(Training):
    def test_what_a_kill_left_half_written_goes(self):
        self.train("run", "length.steps=2")
        run, left = self.path("run"), ["config.toml.tmp12345", "report.html.tmp7"]
        kept = ["config.toml.tmp", "config.toml.tmpx", "notes.toml.tmp12345"]
        for name in left + kept:
            (run / name).write_text("half")
        self.train("run", "length.steps=2")
        self.assertEqual([n for n in left + kept if (run / n).exists()], kept)
        self.assertIn("steps = 2", (run / "config.toml").read_text())

    def test_a_run_that_is_killed_anywhere_gives_the_bits_of_the_straight_one(self):
        start = time.time()
        self.train("straight")
        seconds = time.time() - start
        draw = random.Random(int(os.environ.get("HADAL_SEED", "1")))
        kills = int(os.environ.get("HADAL_KILLS", "5"))
        done, round_ = 0, 0
        while done < kills:
            # Runs follow one another until so many were killed; each goes on from what the last one left.
            p = self.start(f"killed{round_}")
            try:
                p.communicate(timeout=draw.uniform(0.02, seconds))
                self.assertEqual(p.returncode, 0)
                self.assert_same_run("straight", f"killed{round_}")
                round_ += 1
            except subprocess.TimeoutExpired:
                p.kill()
                p.communicate()
                done += 1
        self.train(f"killed{round_}")
        self.assert_same_run("straight", f"killed{round_}")

    def test_a_longer_run_goes_on_from_a_shorter_one(self):
        fixed = ["learning_rate.constant_until=100000", "learning_rate.cosine_until=200000", "learning_rate.low_until=300000",
                 "objective.lambda=0.3", "objective.gamma=0.001"]
        self.train("short", "length.steps=7", "checkpoint.every_steps=7", *fixed)
        self.train("short", *fixed)
        self.train("long", *fixed)
        self.assertEqual(self.steps("short"), self.steps("long"))
        self.assertEqual(safetensors(self.path("short") / "final/model.safetensors"), safetensors(self.path("long") / "final/model.safetensors"))

    def test_interrupted_saves_and_goes_on(self):
        self.train("straight")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            name = f"run{int(number)}"
            p = self.start(name, "checkpoint.every_steps=0")
            self.wait_for_step(name, 3)
            p.send_signal(number)
            _, err = p.communicate()
            if p.returncode == 0:
                self.skipTest("the run was over before the signal")
            self.assertEqual(p.returncode, 130, err.decode())
            self.assertIn("is saved", err.decode())
            last = self.steps(name)[-1]["step"]
            self.assertEqual(self.checkpoints(name), [f"step-{last}"])
            self.train(name)
            self.assert_same_run("straight", name)

    def test_damaged_checkpoints_are_named_and_skipped(self):
        self.train("run", "checkpoint.keep_last=3")
        straight = self.steps()
        self.assertEqual(self.checkpoints(), ["step-10", "step-12", "step-14"])
        model = self.checkpoint("run", 14) / "model.safetensors"
        damaged = bytearray(model.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        model.write_bytes(damaged)
        (self.checkpoint("run", 12) / "trainer.json").unlink()
        p = run("train", self.config, *self.set(f"run_dir={self.dir}/run"))
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        for fragment in ("step-14/model.safetensors does not have the bytes", "step-12/trainer.json is missing", "resumed from", "step-10"):
            self.assertIn(fragment, p.stderr.decode())
        self.assertEqual(self.steps(), straight)
        for name in self.checkpoints():
            (self.path("run") / "checkpoints" / name / "trainer.json").write_text("{}")
        log = (self.path("run") / "log.jsonl").read_bytes()
        again = ("train", self.config, *self.set(f"run_dir={self.dir}/run"))
        p = run(*again)
        self.assertEqual(p.returncode, 2)
        self.assertIn("none of its checkpoints can be used", p.stderr.decode())
        shutil.rmtree(self.path("run") / "checkpoints")
        self.refused("has a final model and no checkpoint", *again)
        self.assertEqual((self.path("run") / "log.jsonl").read_bytes(), log)

    def test_another_export_of_a_run_that_is_done_is_made(self):
        self.train("run", "length.steps=4")
        dtypes = lambda: {t[0] for name, t in safetensors(self.path("run") / "final/model.safetensors").items() if name.endswith("o_proj.weight")}
        self.assertEqual(dtypes(), {"F32"})
        self.train("run", "length.steps=4", "export.dtype=bf16")
        self.assertEqual(dtypes(), {"BF16"})

    def test_keeps_what_it_was_told(self):
        self.train("run", "checkpoint.every_steps=1", "checkpoint.keep_last=2", "checkpoint.keep_every=5")
        self.assertEqual(self.checkpoints(), ["step-10", "step-13", "step-14", "step-5"])

    def test_a_changed_configuration_is_accepted_or_refused_field_by_field(self):
        self.train("run", "length.steps=4")
        resume = lambda *s: ("train", self.config, *self.set(f"run_dir={self.dir}/run", "length.steps=6", *s))
        text = self.refused("batch.sequences: was", *resume("batch.sequences=8", "seed=6", "log.every=3"))
        self.assertIn("seed: was 5, is 6", text)
        self.assertNotIn("log.every", text)
        self.refused("the run began with it", *resume("model.init_std=0.5"))
        other = json.loads((self.dir / "config.json").read_text()) | {"hidden_size": 64}
        (self.dir / "other.json").write_text(json.dumps(other))
        self.refused("hidden_size is 64, the run was started with 32", *resume(f"model.config={self.dir}/other.json"))
        shutil.copytree(self.path("run") / "data", self.dir / "moved")
        p = run(*resume("threads=1", "log.every=2", "checkpoint.keep_last=7"))
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        for field in ("length.steps: was 4, is 6", "threads: was 0, is 1; it changes no bit", "log.every: was 1, is 2", "checkpoint.keep_last: was 2, is 7"):
            self.assertIn(field, p.stderr.decode())

    def test_never_resumes_when_told_so(self):
        self.train("run", "length.steps=2")
        self.refused("has a run already", "train", self.config, "--resume", "never")

    def test_two_processes_do_not_train_in_one_directory(self):
        p = self.start("run", "length.steps=100000")
        try:
            self.wait_for_step("run", 1)
            self.refused("another run is training in it", "train", self.config)
        finally:
            p.kill()
            p.communicate()


class TestFaults(Training):
    def test_a_full_disk_stops_it_with_the_previous_checkpoint_intact(self):
        self.train("straight")
        self.train("run", "length.steps=4", "learning_rate.constant_until=700", "learning_rate.cosine_until=2800", "learning_rate.low_until=2900")
        largest = max(f.stat().st_size for f in self.checkpoint("run", 4).iterdir())
        before = {f: f.read_bytes() for f in self.checkpoint("run", 4).iterdir()}
        p = subprocess.run([HADAL, "train", str(self.config), *self.set(f"run_dir={self.dir}/run", "checkpoint.keep_last=0")], capture_output=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1000, largest - 1000)))
        self.assertEqual(p.returncode, 2, p.stderr.decode())
        self.assertIn("cannot be written: File too large", p.stderr.decode())
        self.assertIn("the newest checkpoint is", p.stderr.decode())
        self.assertEqual({f: f.read_bytes() for f in self.checkpoint("run", 4).iterdir()}, before)
        self.assertFalse([n for n in self.checkpoints() if "partial" in n])
        self.train("run")
        self.assertEqual([s["step"] for s in self.steps()], list(range(1, 15)))

    def test_configurations_that_are_wrong(self):
        refuse = lambda fragment, *s: self.refused(fragment, "train", self.config, *self.set(*s))
        refuse("log.evry is not a field (did you mean log.every?)", "log.evry=3")
        refuse("learning_rate.peak: a number was expected, not \"fast\"", "learning_rate.peak=fast")
        refuse("one of length.tokens and length.steps must be set", "length.tokens=100")
        refuse("export.dtype: int9 is not known", "export.dtype=int9")
        refuse("is not key=value", "seed")
        refuse("max_position_embeddings", "batch.sequence_length=4096")
        refuse("batch: 1000000000 sequences of 64 tokens are more than the 1073741824 tokens that a step may have", "batch.sequences=1000000000")
        refuse("batch.sequence_length: 1 is too short for a model that predicts 2 tokens ahead", "batch.sequence_length=[[0,1],[64,8]]")
        refuse("of memory, ", "batch.sequences=4194304", "batch.micro_batch=0")
        self.config.write_text("run_dir = 3\n[modell]\nconfig = \"x\"\n")
        text = self.refused("line 1: run_dir: text was expected, not 3", "train", self.config)
        self.assertIn("line 3: modell.config is not a field (did you mean model.config?)", text)
        self.config.write_text("run_dir = \n")
        self.refused("not valid TOML", "train", self.config)
        self.refused("cannot be opened", "train", self.dir / "none.toml")
        self.refused("CONFIG is missing", "train")

    def test_data_that_is_missing_empty_binary_or_of_another_tokenizer(self):
        refuse = lambda fragment, *s: self.refused(fragment, "train", self.config, *self.set(*s))
        refuse("nothing.txt", f"data.text=[\"{self.dir}/nothing.txt\"]")
        (self.dir / "empty.txt").write_text("")
        refuse("", f"data.text=[\"{self.dir}/empty.txt\"]")
        (self.dir / "binary.txt").write_bytes(bytes(range(256)) * 40)
        refuse("binary.txt", f"data.text=[\"{self.dir}/binary.txt\"]")
        refuse("there is no", f"data.directory={self.dir}/none", "data.text=[]")
        other = self.dir / "tokenizer"
        shutil.copytree(MINI, other)
        changed = json.loads((other / "tokenizer.json").read_text())
        changed["added_tokens"][3]["content"] = "<other>"
        (other / "tokenizer.json").write_text(json.dumps(changed))
        self.ok("data", "build", self.dir / "set", "--tokenizer", other, self.dir / "text.txt", "--fim-rate", "0")
        refuse("tokenizer", f"data.directory={self.dir}/set", "data.text=[]")

    def test_values_that_are_not_finite(self):
        self.ok("init", self.dir / "config.json", self.dir / "init", "--dtype", "f32")
        path = self.dir / "init/model.safetensors"
        data = bytearray(path.read_bytes())
        n = int.from_bytes(data[:8], "little")
        at = json.loads(data[8:8 + n])["model.layers.1.self_attn.o_proj.weight"]["data_offsets"][0]
        data[8 + n + at:8 + n + at + 4] = b"\x00\x00\xc0\x7f"
        path.write_bytes(data)
        self.refused("model.layers.1.self_attn.o_proj.weight has 1 values that are NaN or infinite, the first at row 0, column 0",
                     "train", self.config, *self.set("model.config=", f"model.init_from={self.dir}/init"))

    def test_a_loss_that_is_not_finite_is_skipped_a_bounded_number_of_times(self):
        p = run("train", self.config, *self.set("model.init_std=1e18", "spikes.most=3", "length.steps=50"))
        self.assertEqual(p.returncode, 2, p.stderr.decode())
        self.assertIn("its batch is skipped (spike 1 of at most 3)", p.stderr.decode())
        self.assertIn("more than spikes.most", p.stderr.decode())
        self.assertEqual([s["skipped"] for s in self.steps()], [True] * 4)


    def test_two_spikes_in_a_row_go_back_to_the_last_checkpoint(self):
        # From step 9 on the rate is such that no weights survive it.
        schedule = ["batch.sequences=2", "batch.sequence_length=32", "learning_rate.constant_until=512", "learning_rate.cosine_until=512",
                    "learning_rate.low_until=100000", "spikes.window=6", "checkpoint.every_steps=4", "length.steps=20", "log.validation_every=0"]
        p = run("train", self.config, *self.set(*schedule, "learning_rate.low=1e30", "spikes.most=5"))
        text = p.stderr.decode()
        self.assertEqual(p.returncode, 2, text)
        self.assertIn("step 11: back to step 8, whose checkpoint is the last one", text)
        self.assertIn("more than spikes.most", text)
        steps = [s["step"] for s in self.steps()]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))
        self.train("run", *schedule, "learning_rate.low=1e-4")
        steps = self.steps()
        self.assertEqual([s["step"] for s in steps], list(range(1, 21)))
        self.assertFalse(any(s["skipped"] for s in steps))

    def test_muon_and_bf16_moments_resume_to_the_same_bits(self):
        options = ["optimizer.kind=muon", "optimizer.moments=bf16", "optimizer.qk_clip=0.5", "export.average=true"]
        self.train("straight", *options)
        self.train("stopped", *options)
        for step in (14, 12):
            shutil.rmtree(self.checkpoint("stopped", step))
        self.train("short", *options, "checkpoint.keep_last=0")
        for step in (14, 12, 10, 8, 6):
            shutil.rmtree(self.checkpoint("short", step))
        self.train("short", *options)
        self.assert_same_run("straight", "short")


class TestStderr(Training):
    def test_what_cannot_be_said_ends_no_run_and_changes_no_exit_code(self):
        for settings, code in ((self.set(f"run_dir={self.dir}/run"), 0), (["--set", "seed=x"], 2)):
            with open("/dev/full", "w") as full:
                p = subprocess.run([HADAL, "train", str(self.config), *settings], stdout=subprocess.DEVNULL, stderr=full)
            self.assertEqual(p.returncode, code)
        p = subprocess.Popen([HADAL, "train", str(self.config), *self.set(f"run_dir={self.dir}/piped")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        p.stderr.readline()
        p.stderr.close()
        self.assertEqual(p.wait(), 0)
        self.assertEqual(len(self.steps("piped")), 14)


class TestPrecision(Training):
    BF16 = ["precision=bf16", "export.dtype=bf16"]

    def test_bf16_products_learn_and_resume_to_the_same_bits(self):
        self.train("f32")
        self.train("straight", *self.BF16, "threads=1")
        losses, exact = [[s["loss"] for s in self.steps(name)] for name in ("straight", "f32")]
        self.assertNotEqual(losses[0], exact[0])
        self.assertAlmostEqual(losses[0], exact[0], delta=1e-2)
        self.assertLess(losses[-1], losses[0] - 1)
        self.train("stopped", *self.BF16, "checkpoint.keep_last=0")
        for step in (14, 12):
            shutil.rmtree(self.checkpoint("stopped", step))
        text = run("train", self.config, *self.set(f"run_dir={self.dir}/stopped", *self.BF16)).stderr.decode()
        self.assertIn("step 10 of 14", text)
        self.assert_same_run("straight", "stopped")
        self.refused("precision: was", "train", self.config, *self.set(f"run_dir={self.dir}/stopped", "length.steps=15"))

    def test_a_bf16_run_computes_with_the_weights_of_its_bf16_export(self):
        self.train("run", *self.BF16)
        ids = array.array("i", [(i * 31 + 7) % 200 for i in range(64)]).tobytes()
        header = json.dumps({name: {"dtype": "I32", "shape": [2, 32], "data_offsets": [i * 256, i * 256 + 256]} for i, name in enumerate(("ids", "targets"))}).encode()
        (self.dir / "batch.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + ids * 2)
        results = []
        for model in (self.checkpoint("run", 14), self.path("run") / "final"):
            self.ok("gradients", model, "--batch", self.dir / "batch.safetensors", "--precision", "bf16", "--out", self.dir / "g.safetensors")
            results.append(safetensors(self.dir / "g.safetensors"))
        self.assertEqual(*results)


class TestEstimate(Training):
    def measure(self, model, settings):
        """Estimate and peak of what is resident, in bytes, of two steps with a checkpoint and a validation behind each."""
        folder = self.dir / f"measured{len(list(self.dir.glob('measured*')))}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(json.loads((pathlib.Path(MINI) / "config.json").read_text()) | model))
        options = self.set(f"model.config={folder}/config.json", "batch.micro_batch=0", "length.steps=2", "checkpoint.every_steps=1",
                           "log.validation_every=1", f"run_dir={folder}/run", *settings)
        text = self.ok("train", self.config, "--dry-run", *options).decode()
        estimate = float(re.search(r"together, at the most +([0-9.]+) MiB", text)[1]) * 2**20
        p = subprocess.Popen([HADAL, "train", str(self.config), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(p.returncode, 0)
        return estimate, usage.ru_maxrss * 1024

    def test_peak_memory_is_within_10_percent_of_the_estimate(self):
        batch = ["batch.sequences=8", "batch.sequence_length=256"]
        experts = dict(n_routed_experts=128, moe_intermediate_size=32, num_experts_per_tok=8)
        for name, model, settings in (("plain", {}, batch), ("recompute", {}, [*batch, "recompute=true"]), ("no average", {}, [*batch, "ema.decay=0"]),
                                      ("micro-batches, BF16 moments", {}, [*batch, "batch.micro_batch=2", "optimizer.moments=bf16"]),
                                      ("Muon in BF16", dict(hidden_size=512), ["batch.sequences=1", "batch.sequence_length=64", "optimizer.kind=muon", "precision=bf16", "ema.decay=0"]),
                                      ("many experts", experts, ["batch.sequences=4", "batch.sequence_length=256"]),
                                      ("no q_lora, wider", dict(q_lora_rank=None, hidden_size=320), ["batch.sequences=4", "batch.sequence_length=256"]),
                                      ("long sequence", dict(max_position_embeddings=2048), ["batch.sequences=1", "batch.sequence_length=2048"])):
            with self.subTest(name):
                estimate, peak = self.measure(model, settings)
                print(f"{name}: estimate {estimate / 2**20:.1f} MiB, peak {peak / 2**20:.1f} MiB", file=sys.stderr)
                self.assertLess(abs(peak - estimate) / estimate, 0.10, f"estimate {estimate / 2**20:.1f} MiB, peak {peak / 2**20:.1f} MiB")

    def test_no_memory_grows_with_the_square_of_the_length_nor_with_length_times_vocabulary(self):
        small = json.loads((self.dir / "config.json").read_text()) | dict(max_position_embeddings=4096, vocab_size=16384)
        peak = lambda *settings: self.measure(small, ["ema.decay=0", *settings])[1]
        short, long = peak("batch.sequences=8", "batch.sequence_length=512"), peak("batch.sequences=1", "batch.sequence_length=4096")
        print(f"8 x 512: {short / 2**20:.1f} MiB, 1 x 4096: {long / 2**20:.1f} MiB", file=sys.stderr)
        self.assertLess(abs(long - short), 16 * 2**20)  # one matrix of scores is 64 MiB
        self.assertLess(long, 4096 * 16384 * 4 * 3 / 4)  # the logits of all positions are 256 MiB

    def test_counts_operations_as_the_formula_of_the_peers(self):
        # 6 layers of hidden 256, dense 768, MoE 128 x (4 + 1): 43 MFLOP a token at 256 (tools' baseline prints 43.0).
        c = json.loads((pathlib.Path(MINI) / "config.json").read_text())
        d, dense, layers, heads, ql, kl, nope, rope, vd, vocab, e, w, k, s = 256, 768, 6, 8, 128, 64, 32, 16, 32, 4096, 16, 128, 4, 256
        c.update(hidden_size=d, intermediate_size=dense, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
                 q_lora_rank=ql, kv_lora_rank=kl, qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=vd, moe_intermediate_size=w)
        (self.dir / "big.json").write_text(json.dumps(c))
        lin = lambda i, o: 2 * i * o
        att = lin(d, ql) + lin(ql, heads * (nope + rope)) + lin(d, kl + rope) + lin(kl, heads * (nope + vd)) + lin(heads * vd, d) + 2 * heads * (nope + rope + vd) * (s + 1) / 2
        moe = lin(d, e) + (k + 1) * 3 * lin(d, w)
        flops = 3 * ((layers + 1) * att + 3 * lin(d, dense) + layers * moe + lin(2 * d, d) + 2 * lin(d, vocab))
        text = self.ok("train", self.config, "--dry-run", *self.set(f"model.config={self.dir}/big.json", f"batch.sequence_length={s}")).decode()
        self.assertIn(f"{flops / 1e6:.2f}M floating-point operations a token", text)


class TestExample(Case):
    """examples/tiny.toml, not to its end: that takes minutes."""

    def test_loss_falls_and_the_result_chats(self):
        settings = [f"run_dir={self.dir}/run", "length.steps=40", "learning_rate.warmup_steps=10", "log.every=1", "log.validation_every=0"]
        p = run("train", "examples/tiny.toml", *[x for s in settings for x in ("--set", s)], cwd=ROOT)
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        records = [json.loads(line) for line in (self.dir / "run/log.jsonl").read_text().splitlines()]
        main = [r["main"] for r in records if r["kind"] == "step"]
        self.assertGreater(main[0], 7.5)
        self.assertLess(main[-1], 4)
        self.assertTrue(self.ok("chat", self.dir / "run/final", "--temperature", "0", stdin="What is 7 times 8?\n").strip())


class TestExplain(Training):
    def test_documents_every_field(self):
        text = self.ok("train", "--explain").decode()
        for word in ("[learning_rate]", "peak  (number; default 0.00022; report: 2.2e-4)", "keep_last", "Tokens of a sequence"):
            self.assertIn(word, text)
        self.assertIn("sequence_length = [[0,32],[1024,64]]", self.ok("train", "--explain", self.config).decode())

    def test_the_run_keeps_a_configuration_that_gives_the_same_one(self):
        self.train("run", "length.steps=2")
        first = self.ok("train", "--explain", self.config, *self.set(f"run_dir={self.dir}/run", "length.steps=2"))
        self.assertEqual(first, self.ok("train", "--explain", self.path("run") / "config.toml"))


if __name__ == "__main__":
    main()
