"""hadal bench: rows, formats of output, comparison, faults. What is measured is not judged here."""
import json, pathlib, signal, subprocess, time
from harness import Case, DATA, HADAL, MINI, main, run

QUICK = ["--runs", "1", "--steps", "2", "--threads", "1"]


def catches_sigint(pid):
    with open(f"/proc/{pid}/status") as status:
        caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
    return caught >> (signal.SIGINT - 1) & 1


class Bench(Case):
    def report(self, *args):
        return json.loads(self.ok("bench", *args, "--json"))

    def check_row(self, row):
        self.assertLessEqual(row["lower_quartile"], row["median"])
        self.assertLessEqual(row["median"], row["upper_quartile"])
        self.assertGreater(row["median"], 0)

    def test_decode_counts_and_compares(self):
        report = self.report("decode", MINI, *QUICK, "--depth", "0,100", "--isa", "ref")
        self.assertEqual([r["name"] for r in report["rows"]],
                         [f"decode depth={d} batch=1 threads=1 isa=ref activations=f32 kv=f32" for d in (0, 100)])
        for row in report["rows"]:
            self.check_row(row)
            self.assertEqual(row["unit"], "tok/s")
            self.assertAlmostEqual(row["ratio"], row["median"] / row["limit"])
            self.assertIn("read-ref", row["rates"])
            self.assertIn(row["limited_by"], ("read-ref", "fma-ref"))
        config = json.loads((pathlib.Path(MINI) / "config.json").read_text())
        per_key = 2 * config["num_hidden_layers"] * config["num_attention_heads"] * (2 * config["kv_lora_rank"] + config["qk_rope_head_dim"])
        self.assertEqual(report["rows"][1]["attention_flops"], per_key * 101.5)  # steps at depths 100 and 101
        active = json.loads(self.ok("inspect", MINI, "--json"))["active_parameters"]
        self.assertAlmostEqual(report["rows"][0]["flops"] / (2 * active), 1, delta=0.01)

        def compare(factor, *more):
            changed = json.loads(json.dumps(report))
            for row in changed["rows"]:
                row["median"] *= factor
            (self.dir / "old.json").write_text(json.dumps(changed))
            return run("bench", "decode", MINI, *QUICK, "--isa", "ref", "--compare", self.dir / "old.json", *more)
        slower = compare(1000, "--json")
        self.assertEqual(slower.returncode, 1, slower.stderr)
        change = json.loads(slower.stdout)["compared"]
        self.assertEqual([c["slower"] for c in change], [True])
        faster = compare(0.001, "--markdown")
        self.assertEqual(faster.returncode, 0, faster.stderr)
        self.assertIn("| new / old |", faster.stdout.decode())

    def test_prompt_batch_and_profile(self):
        prompt = self.report("prompt", MINI, "--lengths", "20,40", "--chunk", "16", "--runs", "1")["rows"]
        self.assertEqual(len(prompt), 2)
        for row in prompt:
            self.check_row(row)
            self.assertEqual(row["unit"], "tok/s")
        batch = self.report("batch", MINI, *QUICK, "--batch", "1,3", "--kv-cache", "f32,bf16")["rows"]
        self.assertEqual(len(batch), 4)
        self.assertEqual(batch[1]["flops"], 3 * batch[0]["flops"])
        self.assertEqual(2 * batch[3]["cache_bytes"], batch[1]["cache_bytes"])
        profile = self.report("profile", MINI, *QUICK, "--lengths", "20")["rows"]
        for what in ("decode", "prompt"):
            rows = {r["name"].split()[0]: r for r in profile}
            parts = [r["median"] for n, r in rows.items() if n.startswith(what) and n != what + "/all"]
            self.assertAlmostEqual(sum(parts), rows[what + "/all"]["median"])
            for phase in ("embedding", "norms", "projections", "attention", "feed_forward", "experts", "head", "sampling"):
                self.assertIn(f"{what}/{phase}", rows)

    def test_parts(self):
        (self.dir / "shapes").write_text("# M N K\n1 64 256\n3 64 256 bf16\n")
        gemm = self.report("gemm", "--shapes", self.dir / "shapes", "--runs", "1", "--format", "fp8,f32")["rows"]
        self.assertEqual([(r["bytes"], r["flops"]) for r in gemm], [(64 * 256 + 8, 32768), (64 * 256 * 4, 32768), (64 * 256 * 2, 98304)])
        text = self.dir / "text"
        text.write_text("The quick brown fox. " * 500)
        rows = self.report("tokenizer", MINI, text, "--runs", "1")["rows"]
        self.assertEqual([r["name"] for r in rows], ["tokenizer first encode", "tokenizer encode", "tokenizer decode"])

    def test_machine(self):
        disk = self.dir / "disk"
        disk.write_bytes(bytes(9 << 20))
        p = run("bench", "machine", "--threads", "1", "--runs", "1", "--disk", disk, "--json")
        if p.returncode == 2 and b"O_DIRECT" in p.stderr:
            p = run("bench", "machine", "--threads", "1", "--runs", "1", "--no-disk", "--json")
        self.assertEqual(p.returncode, 0, p.stderr)
        names = [r["name"] for r in json.loads(p.stdout)["rows"]]
        for name in ("read-ref threads=1", "fma-ref threads=1"):
            self.assertIn(name, names)

    def test_faults_are_sentences(self):
        self.refused("there is no such", "bench", "decode", "/no/such/model")
        self.refused("depth: 5000 and 16 steps are more than the model's context", "bench", "decode", MINI, "--depth", "5000")
        self.refused("length: 5000 is more than the model's context", "bench", "prompt", MINI, "--lengths", "5000")
        self.refused("--isa: mmx is not known", "bench", "decode", MINI, "--isa", "mmx")
        self.refused("--activations: fp4 is not known", "bench", "prompt", MINI, "--activations", "fp4")
        self.refused("--runs", "bench", "decode", MINI, "--runs", "0")
        self.refused("A subcommand is required", "bench")
        self.refused("is empty", "bench", "tokenizer", MINI, "/dev/null")
        (self.dir / "bad").write_text("1 2\n")
        self.refused("bad, line 1: \"1 2\" is not M N K", "bench", "gemm", "--shapes", self.dir / "bad")
        (self.dir / "old").write_text("{}")
        self.refused('old: "schema" is missing', "bench", "decode", MINI, "--compare", self.dir / "old")
        (self.dir / "old").write_text('{"schema": 1, "benchmark": "prompt", "machine": {}, "rows": []}')
        self.refused("is of `hadal bench prompt`", "bench", "decode", MINI, "--compare", self.dir / "old")
        self.refused("none: cannot be opened", "bench", "decode", MINI, "--compare", self.dir / "none")
        self.refused("--disk: File does not exist", "bench", "machine", "--disk", self.dir / "none", "--runs", "1", "--threads", "1")

    def test_ctrl_c_ends_it(self):
        p = subprocess.Popen([HADAL, "bench", "decode", MINI, "--runs", "10000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not catches_sigint(p.pid):
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate()
        self.assertEqual((p.returncode, out, err), (130, b"", b"hadal: interrupted\n"))


if __name__ == "__main__":
    main()
