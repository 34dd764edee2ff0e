"""Help, versions, bad arguments, broken files, broken pipes: what a new user runs into."""
import json, os, pty, shutil, subprocess, unittest
from harness import Case, HADAL, MINI, main, run

COMMANDS = ["chat", "generate", "logits", "perplexity", "tokenizer", "tokenizer encode", "tokenizer decode", "tokenizer render", "convert", "init", "inspect", "verify", "bench",
            "bench machine", "bench decode", "bench prompt", "bench batch", "bench profile", "bench gemm", "bench tokenizer"]


class Program(Case):
    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            text = self.ok(*command.split(), "--help").decode()
            self.assertIn("Example", text, command)
        top = self.ok("--help").decode()
        for command in COMMANDS:
            self.assertIn(command.split()[0], top)
        self.assertRegex(self.ok("--version").decode(), r"^hadal \d")

    def test_bad_arguments_are_one_sentence(self):
        self.refused("frobnicate is not a command", "frobnicate")
        self.refused("generat is not a command (did you mean generate?)", "generat")
        self.refused("tokenizer encod is not a command (did you mean encode?)", "tokenizer", "encod")
        self.refused("--temprature is not expected here (did you mean --temperature?)", "chat", "--temprature", "1")
        self.refused("--nope", "chat", "--nope")
        self.refused("required", "inspect")
        self.refused("--threads", "chat", "--threads", "0")
        self.refused("--isa: mmx is not known", "chat", MINI, "--isa", "mmx")
        for command in (["chat"], ["generate", "--prompt", "x"], ["logits", "--ids", "1", "--out", self.dir / "o"]):
            self.refused("--activations: fp4 is not known; f32, bf16, int8 and fp8 are", command[0], MINI, *command[1:], "--activations", "fp4")
        self.refused("temperature is 1000", "generate", MINI, "--prompt", "x", "--temperature", "1000")
        self.refused("top_p is 0", "chat", MINI, "--top-p", "0")
        self.refused("give one of --prompt", "generate", MINI)
        self.refused("is not between 1 and", "chat", MINI, "--context", "99999")

    def test_alone_it_greets(self):
        p = run()
        self.assertEqual((p.returncode, p.stdout), (2, b""))
        self.assertIn(b"Talk to a model", p.stderr)
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(HADAL, [HADAL])
        seen = b""
        try:
            while more := os.read(fd, 65536):
                seen += more
        except OSError:
            pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        for command in (b"hadal chat", b"hadal inspect", b"hadal generate"):
            self.assertIn(command, seen)

    def test_verbose_says_how_it_computes(self):
        command = ["generate", MINI, "--prompt-ids", "0,1", "--max-tokens", "1", "--isa", "ref", "--threads", "1", "--activations", "int8"]
        self.assertEqual(run("--verbose", *command).stderr, b"info: ref, activations int8, 1 thread\n")
        self.assertEqual(run(*command).stderr, b"")

    def test_missing_and_foreign_directories(self):
        for command in (["chat"], ["inspect"], ["verify"], ["generate", "--prompt", "x"], ["logits", "--ids", "1", "--out", self.dir / "o"]):
            self.refused("there is no such", command[0], "/no/such/model", *command[1:])
            if command != ["verify"]:
                self.refused("has no config.json", command[0], self.dir, *command[1:])
        p = run("verify", self.dir)
        self.assertEqual((p.returncode, p.stderr), (1, b""))
        self.assertIn(b"has no config.json", p.stdout)
        self.refused("is not a directory", "verify", MINI + "/config.json")
        self.refused("there is no such directory", "tokenizer", "encode", "/no/such/model")
        self.refused("has no tokenizer", "tokenizer", "encode", self.dir)

    def broken(self, edit):
        shutil.copytree(MINI, self.dir / "m")
        edit(self.dir / "m")
        return str(self.dir / "m")

    def test_a_truncated_model(self):
        m = self.broken(lambda d: os.truncate(d / "model.safetensors", 5_000_000))
        self.assertIn("truncated", self.refused("model.safetensors", "generate", m, "--prompt-ids", "1,2"))
        p = run("verify", m)
        self.assertEqual((p.returncode, p.stderr), (1, b""))
        self.assertRegex(p.stdout.decode(), r"files +1 finding\ntensors +not checked")
        self.assertIn(b"truncated", p.stdout)

    def test_a_model_without_weights(self):
        m = self.broken(lambda d: os.remove(d / "model.safetensors"))
        self.refused("has neither", "generate", m, "--prompt-ids", "1,2")
        self.ok("inspect", m)
        self.assertEqual(json.loads(self.ok("tokenizer", "encode", m, stdin="a").decode()), json.loads(self.ok("tokenizer", "encode", MINI, stdin="a").decode()))

    def test_a_model_without_tokenizer_answers_ids(self):
        m = self.broken(lambda d: [os.remove(d / f) for f in ("tokenizer.json", "tokenizer_config.json")])
        out = json.loads(self.ok("generate", m, "--prompt-ids", "0,4084,579", "--max-tokens", "3", "--temperature", "0"))
        self.assertIsNone(out["text"])
        self.assertEqual(len(out["tokens"]), 3)
        self.refused("has no tokenizer.json", "generate", m, "--prompt", "hi")

    def test_deeply_nested_files(self):
        deep = "[" * 500_000 + "]" * 500_000
        for name, text in (("config.json", '{"model_type": "deepseek_v3", "hidden_size": %s}'), ("generation_config.json", '{"eos_token_id": %s}'),
                           ("tokenizer.json", "%s"), ("tokenizer_config.json", '{"chat_template": %s}'), ("model.safetensors.index.json", '{"weight_map": %s}')):
            with self.subTest(name):
                shutil.rmtree(self.dir / "m", ignore_errors=True)
                m = self.broken(lambda d: (d / name).write_text(text % deep))
                self.refused(name, "generate", m, "--prompt", "hi")
                self.assertEqual(run("verify", m).returncode, 1)
        f = self.dir / "f"
        f.write_text('{"prompt": %s}\n' % deep)
        self.refused("f, line 1 (id 1): lists and objects are nested", "generate", MINI, "--input", f, "--fail-fast")
        self.refused("f: lists and objects are nested", "tokenizer", "render", MINI, "--messages", f)
        self.refused("stdin: lists and objects are nested", "tokenizer", "decode", MINI, stdin=deep)

    def test_other_architectures_are_refused_by_name(self):
        def edit(d):
            c = json.loads((d / "config.json").read_text())
            c["quantization_config"] = {"quant_method": "gptq"}
            (d / "config.json").write_text(json.dumps(c))
        self.refused('quant_method "gptq"', "chat", self.broken(edit))

    def test_full_disks_and_closed_pipes(self):
        # A limit on file size stands for a full disk: it works without a device or a file system of its own.
        with open(self.dir / "out", "wb") as out:
            p = subprocess.run(["sh", "-c", f"ulimit -f 1; exec '{HADAL}' inspect '{MINI}' --tensors"], stdout=out, stderr=subprocess.PIPE)
        self.assertEqual((p.returncode, p.stderr), (2, b"hadal: stdout: cannot be written: File too large\n"))
        reader, writer = os.pipe()
        os.close(reader)
        for command in (["--help"], ["inspect", MINI], ["chat", MINI]):
            p = subprocess.run([HADAL, *command], input=b"Hello\n", stdout=writer, stderr=subprocess.PIPE)
            self.assertEqual((p.returncode, p.stderr), (2, b"hadal: stdout: cannot be written: Broken pipe\n"), command)
        os.close(writer)
        for command in (["init", MINI, "o"], ["convert", MINI, "o", "--to", "f32"], ["logits", MINI, "--ids", "1,2,3", "--out", "o"],
                        ["generate", MINI, "--prompt", "Hi", "--max-tokens", "400", "--temperature", "9", "--output", "o"]):
            p = subprocess.run(["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", HADAL, *command], cwd=self.dir, capture_output=True)
            self.assertEqual((p.returncode, p.stderr.count(b"\n")), (2, 1), p.stderr)
            self.assertIn(b"File too large", p.stderr)
            self.assertFalse((self.dir / "o").exists() and command[0] != "generate", command)
        self.refused("cannot be written", "logits", MINI, "--ids", "1", "--out", "/no/such/dir/o")

    @unittest.skipIf("SANITIZED" in os.environ, "sanitizers reserve terabytes of address space")
    def test_small_models_need_little_memory(self):
        p = subprocess.run(f"ulimit -v 8000000 && '{HADAL}' generate '{MINI}' --prompt-ids 0,4084 --max-tokens 2", shell=True, capture_output=True)
        self.assertEqual(p.returncode, 0, p.stderr)

    def test_inspect_and_verify(self):
        j = json.loads(self.ok("inspect", MINI, "--json", "--tensors"))
        self.assertEqual((j["model_type"], j["chat_template"], j["kv_values_per_token_and_layer"], j["tokenizer_vocabulary"]), ("deepseek_v3", "deepseek-v3", 80, 4096))
        self.assertEqual(sum(t["bytes"] for t in j["tensors"]), sum(j["bytes_by_dtype"].values()))
        self.assertTrue(json.loads(self.ok("verify", MINI, "--json"))["ok"])
        m = self.broken(lambda d: (d / "generation_config.json").write_text('{"eos_token_id": 9999}'))
        p = run("verify", m)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"eos_token_id 9999", p.stdout)

    def test_init_and_convert(self):
        self.ok("init", MINI, self.dir / "a", "--seed", 3, "--dtype", "fp8", "--shard-size", "3MB")
        self.ok("verify", self.dir / "a")
        self.refused("exists already", "init", MINI, self.dir / "a")
        self.ok("convert", self.dir / "a", self.dir / "b", "--to", "bf16")
        self.ok("verify", self.dir / "b")
        self.refused("--ue8m0 goes with --to fp8", "convert", self.dir / "a", self.dir / "c", "--to", "bf16", "--ue8m0")
        self.ok("convert", self.dir / "a", self.dir / "d", "--to", "int4", "--group", 64)
        self.ok("verify", self.dir / "d")
        self.assertIn(b"INT4 (pack-quantized, groups of 64), INT8 (channels)", self.ok("inspect", self.dir / "d"))
        self.refused("--group goes with", "convert", self.dir / "a", self.dir / "c", "--to", "int8", "--group", 64)
        self.refused("int4 in an int4 model", "convert", self.dir / "a", self.dir / "c", "--to", "int8", "--head", "int4")
        self.ok("convert", MINI, self.dir / "g", "--to", "int4", "--calibrate", "README.md")
        self.ok("verify", self.dir / "g")
        self.refused("--calibrate goes with", "convert", MINI, self.dir / "c", "--to", "int8", "--calibrate", "README.md")
        self.ok("init", MINI, self.dir / "e", "--dtype", "int8", "--head", "int8")
        self.ok("verify", self.dir / "e")
        self.refused("--to", "convert", self.dir / "a", self.dir / "c", "--to", "int3")


if __name__ == "__main__":
    main()
