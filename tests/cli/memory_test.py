"""Models larger than memory: the same answers, bounded memory, and what goes wrong said in one sentence."""
import json, os, pathlib, re, shutil, subprocess, time, unittest
from harness import Case, HADAL, MINI, ROOT, main, run

IDS = "0,17,300,4000,5,88,1234,77,9,600"


class Memory(Case):
    def setUp(self):
        super().setUp()
        self.cache = self.dir / "cache"
        os.environ["XDG_CACHE_HOME"] = str(self.cache)

    def least(self, *args):
        """The memory that the command says it needs."""
        text = self.refused("it needs at least", *args, "--memory", "1MB")
        return re.search(r"at least (\d+ MB)", text).group(1).replace(" ", "")

    def generate(self, model=MINI, tokens=20):
        return ["generate", model, "--prompt-ids", IDS, "--max-tokens", str(tokens), "--temperature", "0"]

    def stats(self, p):
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        line = [l for l in p.stderr.decode().splitlines() if l.startswith("hadal: experts: ")]
        self.assertEqual(len(line), 1, p.stderr.decode())
        return line[0]

    def counts_file(self):
        files = list((self.cache / "hadal").iterdir())
        self.assertEqual(len(files), 1, files)
        return files[0]

    def test_generate_gives_the_same_answer(self):
        expected = self.ok(*self.generate())
        for threads in "1", "3":
            p = run(*self.generate(), "--memory", self.least(*self.generate()), "--stats", "--threads", threads)
            self.assertEqual(p.stdout, expected)
            line = self.stats(p)
            self.assertRegex(line, r"\d+ hits and [1-9]\d* misses .* GB read, .* waiting for the disk; [1-9]\d* read ahead")
        self.assertIn("all are in memory", self.stats(run(*self.generate(), "--stats")))
        self.assertIn("all are in memory", self.stats(run(*self.generate(), "--stats", "--memory", "1G")))

    def test_logits_are_the_same_bytes(self):
        command = ["logits", MINI, "--ids", IDS, "--decode-from", "5", "--out"]
        self.ok(*command, self.dir / "a")
        self.ok(*command, self.dir / "b", "--memory", self.least(*command, self.dir / "b"), "--chunk", "3")
        self.assertEqual((self.dir / "a").read_bytes(), (self.dir / "b").read_bytes())

    def test_perplexity_counts_in_json(self):
        text = self.dir / "text"
        text.write_text("The capital of France is Paris. " * 8)
        command = ["perplexity", MINI, text, "--json", "--stats"]
        got = json.loads(self.ok(*command, "--memory", self.least(*command)))
        self.assertEqual(got["experts"]["in_memory"], False)
        self.assertGreater(got["experts"]["misses"], 0)
        self.assertGreater(got["experts"]["bytes_read"], 0)
        all_in = json.loads(self.ok(*command))
        self.assertEqual(all_in["experts"], {"in_memory": True})
        self.assertEqual(all_in["nats_per_token"], got["nats_per_token"])

    def test_sizes(self):
        self.refused("is not understood", *self.generate(), "--memory", "6X")
        self.refused("that stay in memory and", *self.generate(), "--memory", "1000")

    def test_a_cache_folder_that_cannot_be_written_is_a_warning(self):
        os.environ["XDG_CACHE_HOME"] = "/dev/null/none"
        p = run(*self.generate(), "--memory", self.least(*self.generate()))
        self.assertEqual((p.returncode, p.stdout), (0, self.ok(*self.generate())))
        self.assertIn("which experts are used most is not remembered", p.stderr.decode())

    def test_damaged_counts_are_ignored_with_a_warning(self):
        command = [*self.generate(), "--memory", self.least(*self.generate())]
        expected = self.ok(*command)
        file = self.counts_file()
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
        p = run(*command)
        self.assertEqual((p.returncode, p.stdout), (0, expected))
        self.assertIn("is ignored, its checksum is wrong", p.stderr.decode())
        self.assertEqual(run(*command).stderr, b"")  # written anew

    def test_counts_with_and_without_mtp_are_the_same_models(self):
        command = [*self.generate(), "--memory", self.least(*self.generate(), "--speculate", "mtp")]
        for speculate in "off", "mtp", "off", "mtp":
            self.assertEqual(run(*command, "--speculate", speculate).stderr, b"", speculate)
        self.counts_file()

    def test_two_processes_at_once(self):
        command = [*self.generate(), "--memory", self.least(*self.generate())]
        expected = self.ok(*command)
        many = [subprocess.Popen([HADAL, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
        for p in many:
            out, err = p.communicate()
            self.assertEqual((p.returncode, out, err), (0, expected, b""))
        self.assertEqual(run(*command).stderr, b"")
        self.counts_file()  # and no temporary ones

    def chat_while(self, change):
        """One turn of a chat, then a change to the model's file, then another turn: what came of that."""
        shutil.copytree(MINI, self.dir / "m")
        file = self.dir / "m/model.safetensors"
        p = subprocess.Popen([HADAL, "chat", self.dir / "m", "--temperature", "0", "--memory", self.least("chat", self.dir / "m")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(b"What is the capital of France?\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), b"The capital of France is Paris.\n")
        change(file)
        out, err = p.communicate(b"What is 7 times 8?\n")
        self.assertEqual((p.returncode, out), (2, b""), err)
        lines = err.decode().splitlines()
        self.assertEqual(len(lines), 1, err)
        self.assertTrue(lines[0].startswith(f"hadal: {file}: "), err)
        return lines[0]

    def test_a_file_that_is_written_during_the_run(self):
        self.assertIn("was changed while it was in use", self.chat_while(lambda f: os.utime(f, (1, 1))))

    def test_a_file_that_is_cut_during_the_run(self):
        self.assertRegex(self.chat_while(lambda f: os.truncate(f, 20000)), "(was changed|became shorter) while it was in use")

    @unittest.skipIf("SANITIZED" in os.environ, "a sanitizer's own memory is not the program's")
    def test_memory_stays_within_the_budget(self):
        config = json.loads((ROOT / "models/mini/config.json").read_text())
        config.update(hidden_size=512, moe_intermediate_size=512, n_routed_experts=64, num_nextn_predict_layers=0, num_hidden_layers=5)
        (self.dir / "config.json").write_text(json.dumps(config))
        model = self.dir / "large"
        self.ok("init", self.dir / "config.json", model, "--dtype", "bf16")
        size = sum(f.stat().st_size for f in model.iterdir())
        self.assertGreater(size, 400_000_000)
        budget = 320_000_000
        p = subprocess.Popen([HADAL, *self.generate(model, 60), "--memory", str(budget), "--stats"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peak = 0
        while p.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{p.pid}/status").read_text()
            except FileNotFoundError:
                break
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            peak = max(peak, int(found.group(1)) * 1024 if found else 0)
            time.sleep(0.01)
        out, err = p.communicate()
        self.assertEqual(p.returncode, 0, err)
        self.assertLess(peak, budget * 1.05, err)
        self.assertGreater(peak, budget * 0.5, err)
        self.assertEqual(out, self.ok(*self.generate(model, 60)))


if __name__ == "__main__":
    main()
