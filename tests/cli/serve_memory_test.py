"""hadal serve --memory: experts from disk for many users, the same bytes as in memory, and never too little of it."""
import concurrent.futures, json
from harness import Case, MINI, ROOT, main
from server import Server

REQUESTS = [{"prompt": [0] + [(i * 37 + j * j * 11 + j) % 4000 + 5 for j in range(500 + 9 * i)], "max_tokens": 30, "temperature": 1, "seed": i, "ignore_eos": True, "return_token_ids": True, "logprobs": 1} for i in range(24)]


class Memory(Case):
    def answers(self, *flags):
        """All at once; the server's stderr behind them."""
        with Server(MINI, "--access-log", "off", "--batch", 64, *flags, env={"XDG_CACHE_HOME": str(self.dir / "cache")}) as s:
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                got = list(pool.map(lambda body: s.post("/v1/completions", body), REQUESTS))
            pages = s.metric("hadal:cache_pages")
            code, said = s.stop()
        self.assertEqual(code, 0, said)
        self.assertEqual({status for status, _ in got}, {200}, [a for status, a in got if status != 200][:1])
        return [json.dumps(a["choices"]) for _, a in got], pages, said

    def test_many_long_prompts_at_once(self):
        expected, all_pages, _ = self.answers("--speculate", "off")
        for flags in (["--memory", "9MB", "--speculate", "off"], ["--memory", "10MB", "--speculate", "mtp"], ["--memory", "10MB", "--kv-cache", "f32", "--chunk", "4096"]):
            got, pages, said = self.answers(*flags, "--stats")
            self.assertEqual(got, expected, flags)
            self.assertLess(pages, all_pages / 2, "memory for caches is bounded")
            self.assertRegex(said, "[1-9][0-9]* misses")
            self.assertNotIn("warning", said)  # nor is what was learnt without MTP's layers of no use with them

    def test_a_context_that_does_not_fit_is_shortened(self):
        config = json.loads((ROOT / "models/mini/config.json").read_text())
        config.update(kv_lora_rank=512, qk_rope_head_dim=64, max_position_embeddings=16384, num_nextn_predict_layers=0)
        (self.dir / "config.json").write_text(json.dumps(config))
        self.ok("init", self.dir / "config.json", self.dir / "m", "--dtype", "bf16")
        with Server(self.dir / "m", "--access-log", "off", "--memory", "11MB", env={"XDG_CACHE_HOME": str(self.dir / "cache")}) as s:
            most = s.get("/v1/models/m")[1]["max_model_len"]
            self.assertLess(most, 4096)
            status, answer = s.post("/v1/completions", {"prompt": [0] + [5] * most, "max_tokens": 1})
            self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"))
            long = lambda first: s.ok("/v1/completions", {"prompt": [first] + [7] * (most - 20), "max_tokens": 10, "ignore_eos": True})["usage"]["completion_tokens"]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                self.assertEqual(list(pool.map(long, range(4))), [10] * 4)
            said = s.stop()[1]
        self.assertIn(f"memory: it is enough for a context of {most} tokens, not of 16384", said)


main()
