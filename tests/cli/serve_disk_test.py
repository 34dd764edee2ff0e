"""hadal serve --kv-disk: prompts are found after a restart, however the server ended, and no bit of an answer tells.
HADAL_KILLS=100 kills it more often."""
import json, os, random, shutil, signal, stat, threading, time
from harness import Case, MINI, main
from server import Server

KILLS = int(os.environ.get("HADAL_KILLS", "6"))
SYSTEM = {"role": "system", "content": "You answer in short sentences, and you never say more than you know. " * 12}


def body(i):
    return {"messages": [SYSTEM, {"role": "user", "content": f"What is {i} times 8?"}], "max_tokens": 12, "temperature": i % 3 / 2, "seed": i,
            "logprobs": True, "top_logprobs": 1}


def records(directory):
    return [p for p in directory.rglob("*.record")]


class Disk(Case):
    def ask(self, server, i):
        """What it says, and how much of the prompt it had."""
        answer = server.ok("/v1/chat/completions", body(i))
        return json.dumps(answer["choices"]), answer["usage"]["prompt_cache_hit_tokens"]

    def expected(self, count):
        with Server(MINI, "--access-log", "off") as s:
            return [self.ask(s, i)[0] for i in range(count)]

    def test_found_after_a_restart(self):
        expected = self.expected(3)
        kv = self.dir / "kv"
        for turn, how in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            with Server(MINI, "--kv-disk", kv, "--kv-disk-size", "50MB") as s:
                said, cached = self.ask(s, turn)
                self.assertEqual(said, expected[turn])
                if turn == 0:
                    self.assertEqual(cached, 0)
                else:
                    self.assertGreaterEqual(cached, 127, turn)
                    self.assertGreater(s.metric("hadal:disk_pages_loaded_total"), 0)
                while s.metric("hadal:disk_pages") == 0:  # written beside the answer
                    time.sleep(0.05)
                s.stop(how)
        for path in records(kv):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(kv.stat().st_mode), 0o700)

    def test_another_model_or_form_finds_nothing(self):
        expected = self.expected(1)
        kv, copy = self.dir / "kv", self.dir / "copy"
        shutil.copytree(MINI, copy)
        weights = next(copy.glob("*.safetensors"))
        with Server(MINI, "--kv-disk", kv) as s:
            self.ask(s, 0)
            s.stop()
        before = len(records(kv))
        self.assertGreater(before, 0)
        weights.touch()
        for model, flags in ((MINI, ["--kv-cache", "bf16"]), (MINI, ["--speculate", "off"]), (MINI, ["--activations", "int8"]), (copy, [])):
            with Server(model, "--kv-disk", kv, *flags) as s:
                self.assertEqual(self.ask(s, 0)[1], 0, flags)
                s.stop()
        self.assertGreater(len(records(kv)), before)  # beside each other
        with Server(MINI, "--kv-disk", kv) as s:
            said, cached = self.ask(s, 0)
            self.assertEqual((said, cached > 0), (expected[0], True))
            s.stop()

    def test_killed_at_any_moment(self):
        count = 5
        expected = self.expected(count)
        kv = self.dir / "kv"
        draw = random.Random(4)
        found = 0
        for kill in range(KILLS):
            with Server(MINI, "--kv-disk", kv, "--kv-disk-size", "2MB", "--access-log", "off") as s:
                timer = threading.Timer(draw.random() * 0.4, s.process.kill)
                timer.start()
                try:
                    for i in range(10**6):
                        said, cached = self.ask(s, i % count)
                        self.assertEqual(said, expected[i % count])
                        found += i == 0 and cached > 0
                except (OSError, Exception) as e:
                    if isinstance(e, AssertionError):
                        raise
                timer.join()
                s.process.wait()
        for path in records(kv)[::2]:
            with open(path, "r+b") as f:
                f.seek(path.stat().st_size // 2)
                f.write(b"damaged")
        with Server(MINI, "--kv-disk", kv, "--access-log", "off") as s:
            for i in range(count):
                self.assertEqual(self.ask(s, i)[0], expected[i])
            self.assertEqual(list(kv.rglob("*.tmp")), [])
            code, said = s.stop()
            self.assertEqual(code, 0)
            self.assertIn("is removed: its checksum is wrong", said)
        self.assertGreater(found, 0)

    def test_generate_finds_it_too(self):
        kv = self.dir / "kv"
        tasks = self.dir / "t.jsonl"
        tasks.write_text(json.dumps({k: v for k, v in body(1).items() if "logprobs" not in k}))
        plain = json.loads(self.ok("generate", MINI, "--input", tasks))
        for turn in range(2):
            line = json.loads(self.ok("generate", MINI, "--input", tasks, "--kv-disk", kv))
            self.assertEqual(line["text"], plain["text"])
            used = max(p.stat().st_mtime_ns for p in records(kv))  # of a page that is read: now
            if turn == 1:
                self.assertGreater(used, before)
            before = used
            time.sleep(0.05)

    def test_bad_flags(self):
        kv = self.dir / "kv"
        with Server(MINI, "--kv-disk", kv) as s:
            self.refused("is used by another process; name another directory", "serve", MINI, "--port", 0, "--kv-disk", kv)
            s.stop()
        file = self.dir / "file"
        file.write_text("")
        self.refused("cannot be made", "serve", MINI, "--port", 0, "--kv-disk", file / "kv")
        self.refused("file", "serve", MINI, "--port", 0, "--kv-disk", file)
        self.refused("--kv-disk-size", "serve", MINI, "--port", 0, "--kv-disk", kv, "--kv-disk-size", "many")


main()
