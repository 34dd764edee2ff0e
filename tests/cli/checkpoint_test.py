"""What convert, verify and inspect make of directories that are not as published: killed runs, changed configs, other folders, end tokens."""
import json, os, pathlib, shutil, signal, subprocess, time
from harness import Case, DATA, HADAL, MINI, main, run

MODELS = DATA / "golden/models"


class Directories(Case):
    def copy(self, source=MINI, name="m"):
        shutil.copytree(source, self.dir / name)
        for f in (self.dir / name).iterdir():
            f.chmod(0o644)
        return self.dir / name

    def edit(self, directory, file, change):
        path = directory / file
        j = json.loads(path.read_text())
        change(j)
        path.write_text(json.dumps(j, ensure_ascii=False))

    def test_folders_that_are_no_model_say_what_they_are(self):
        hub = self.dir / "models--a--b"
        shutil.copytree(MODELS / "moonlight-tiny", hub / "snapshots/abc")
        (hub / "refs").mkdir()
        (hub / "refs/main").write_text("abc")
        for command in (["generate", hub, "--prompt-ids", "1"], ["inspect", hub], ["logits", hub, "--ids", "1", "--out", self.dir / "o"], ["convert", hub, self.dir / "o", "--to", "f32"]):
            self.refused("name " + str(hub / "snapshots/abc"), *command)
        self.assertIn(b"snapshots/abc", run("verify", hub).stdout)
        adapter = self.dir / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "deepseek-ai/DeepSeek-V2-Lite"}')
        self.refused("it is an adapter of deepseek-ai/DeepSeek-V2-Lite", "generate", adapter, "--prompt-ids", "1")

    def test_shards_without_their_index(self):
        m = self.copy(MODELS / "v3-tiny")
        os.remove(m / "model.safetensors.index.json")
        command = ["--prompt-ids", "1,2,3", "--max-tokens", "2", "--temperature", "0"]
        self.assertEqual(self.ok("generate", m, *command), self.ok("generate", MODELS / "v3-tiny", *command))
        self.assertEqual(json.loads(self.ok("inspect", m, "--json"))["files"], 2)
        os.remove(next(m.glob("model-00002-*")))
        self.refused("the one with number 2 is missing", "generate", m, *command)

    def half_written(self, command, where):
        """Kills a conversion while a shard is being written; whether that came about."""
        p = subprocess.Popen([HADAL, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = False
        while p.poll() is None and not found:
            if any(".tmp" in f and "safetensors" in f for f in (os.listdir(where) if where.is_dir() else [])):
                p.send_signal(signal.SIGSTOP)
                found = where.is_dir() and any(".tmp" in f and "safetensors" in f for f in os.listdir(where))
                p.send_signal(signal.SIGCONT if not found else signal.SIGKILL)
        p.kill()
        p.wait()
        return found

    def killed(self, command):
        out, partial = self.dir / "out", self.dir / "out.partial"
        for _ in range(40):
            if self.half_written(command, partial):
                return partial
            for d in (out, partial):
                shutil.rmtree(d, ignore_errors=True)
        self.skipTest("the conversion is too fast to be stopped half-way")

    def test_a_killed_conversion_leaves_nothing_behind(self):
        command = ["convert", MODELS / "v3-tiny", self.dir / "out", "--to", "f32", "--shard-size", "4MB", "--threads", "1"]
        partial = self.killed(command)
        self.assertTrue(any(".tmp" in f for f in os.listdir(partial)))
        self.ok(*command)
        self.assertEqual([f for f in os.listdir(self.dir / "out") if ".tmp" in f or f.startswith(".")], [])
        self.assertFalse(partial.exists())
        self.ok("verify", self.dir / "out")

    def test_a_conversion_does_not_go_on_with_another_config(self):
        m = self.copy(MODELS / "v3-tiny")
        command = ["convert", m, self.dir / "out", "--to", "f32", "--shard-size", "4MB", "--threads", "1"]
        self.killed(command)
        self.edit(m, "config.json", lambda c: c.update(routed_scaling_factor=1.0))
        self.refused("was left by a run with another source or other options", *command)
        self.refused("was left by a run with another source or other options", *command[:-6], "--to", "bf16")

    def test_one_conversion_at_a_time(self):
        command = ["convert", MODELS / "v3-tiny", self.dir / "out", "--to", "f32", "--shard-size", "4MB", "--threads", "1"]
        p = subprocess.Popen([HADAL, *map(str, command)], stderr=subprocess.DEVNULL)
        while p.poll() is None and not (self.dir / "out.partial/.hadal-journal").exists():
            pass
        p.send_signal(signal.SIGSTOP)
        busy = (self.dir / "out.partial").is_dir()
        if busy:
            self.refused("another run is writing it", *command)
        p.send_signal(signal.SIGCONT)
        p.wait()
        self.assertTrue(busy or (self.dir / "out").is_dir())

    def test_a_refused_conversion_leaves_nothing_behind(self):
        m = self.copy(MODELS / "v3-tiny")
        self.edit(m, "config.json", lambda c: c.update(n_shared_experts=0))
        self.refused("the files hold shared experts", "convert", m, self.dir / "out", "--to", "f32")
        self.assertEqual(sorted(os.listdir(self.dir)), ["m"])

    def test_one_file_says_which_tokens_end_an_answer(self):
        def ends(directory):
            return json.loads(self.ok("inspect", directory, "--json"))["end_tokens"]
        self.assertEqual(ends(MINI), {"ids": [1], "from": "generation_config.json", "of_a_turn": 1})
        m = self.copy()
        self.edit(m, "config.json", lambda c: c.update(eos_token_id=7))
        self.assertEqual(ends(m)["ids"], [1])
        os.remove(m / "generation_config.json")
        self.assertEqual((ends(m)["ids"], ends(m)["from"]), ([7], "config.json"))
        self.edit(m, "config.json", lambda c: c.pop("eos_token_id"))
        self.assertEqual((ends(m)["ids"], ends(m)["from"]), ([1], "tokenizer_config.json"))
        self.assertEqual(ends(MODELS / "v3-tiny")["from"], "config.json")

    def test_a_turn_that_ends_with_no_end_token(self):
        m = self.copy()
        for file in ("config.json", "generation_config.json"):
            self.edit(m, file, lambda c: c.update(eos_token_id=2))
        p = run("verify", "--quick", m)
        self.assertEqual(p.returncode, 1)
        self.assertIn("ends the assistant's turn with <｜end▁of▁sentence｜> (1), but eos_token_id is 2 in generation_config.json", p.stdout.decode())
        answer = ["--prompt", "What is 7 times 8?", "--temperature", "0", "--max-tokens", "30"]
        tokens = json.loads(self.ok("generate", m, *answer))["tokens"]
        self.assertEqual(tokens, json.loads(self.ok("generate", MINI, *answer))["tokens"])

    def test_defaults_that_cannot_be_used(self):
        m = self.copy()
        self.edit(m, "generation_config.json", lambda c: c.update(temperature=1000, no_repeat_ngram_size=3, num_beams=1))
        p = run("verify", "--quick", m)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"generation_config.json: temperature is 1000", p.stdout)
        self.assertIn(b"note: generation_config.json: no_repeat_ngram_size has no effect", p.stdout)
        self.assertNotIn(b"num_beams", p.stdout)

    def test_fields_inside_objects_without_effect_are_notes(self):
        m = self.copy()
        self.edit(m, "config.json", lambda c: c.update(rope_scaling={"type": "yarn", "factor": 2, "original_max_position_embeddings": 512, "shape": "round"}))
        self.assertIn(b"note: config.json: field rope_scaling.shape is not known and has no effect", self.ok("verify", "--quick", m))


if __name__ == "__main__":
    main()
