"""hadal serve: turns of a conversation go on from what the server has of those before: the same bytes, less work."""
import json, shutil, time
from harness import Case, DATA, MINI, main
from server import Server

SYSTEM = {"role": "system", "content": "You are a helpful assistant and answer at length. " * 4}
QUESTIONS = ["Tell me a story about the sea.", "And what did they find?", "Who was it?"]


def with_template(folder, name):
    """The bundled model with another template."""
    shutil.copytree(MINI, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (DATA / "chat/templates" / name).read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


class Turns(Case):
    def wait(self, server, count):
        """Until so many answers have been computed ahead."""
        until = time.time() + 60
        while server.metric("hadal:idle_prefills_total") < count:
            self.assertLess(time.time(), until, "idle time was not used")
            time.sleep(0.02)

    def talk(self, server, idle, stream=False, **body):
        """Of each turn what was said, with log-probabilities, tokens from the cache, and how many of its prompt are the turns before."""
        messages, out = [SYSTEM], []
        for number, question in enumerate(QUESTIONS):
            before = server.ok("/tokenize", {"messages": messages, "add_generation_prompt": False})["count"] if number else 0
            messages.append({"role": "user", "content": question})
            asked = {"messages": messages, "temperature": 1, "seed": 3, "max_tokens": 50, "logprobs": True, **body}
            if stream:
                events = server.events("/v1/chat/completions", {**asked, "stream_options": {"include_usage": True}})
                said = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
                logprobs, usage = [l for e in events for c in e["choices"] for l in c["logprobs"]["content"]], events[-1]["usage"]
            else:
                answer = server.ok("/v1/chat/completions", asked)
                said, logprobs, usage = answer["choices"][0]["message"]["content"], answer["choices"][0]["logprobs"]["content"], answer["usage"]
            out.append({"said": said, "logprobs": logprobs, "cached": usage["prompt_cache_hit_tokens"], "before": before, "prompt": usage["prompt_tokens"]})
            messages.append({"role": "assistant", "content": said})
            if idle:
                self.wait(server, number + 1)
        return out

    def test_idle_time_makes_answers_part_of_the_next_prompt(self):
        thinking = {"thinking": {"type": "enabled"}, "thinking_budget": 12}
        for name, extra in ((None, {}), ("deepseek-v3.1.jinja", thinking), ("deepseek-r1.jinja", {"thinking_budget": 12})):
            model = with_template(self.dir / name, name) if name else MINI
            for flags in ([], ["--memory", "10MB"]):
                with Server(model, "--access-log", "off", "--no-idle-prefill", *flags) as s:
                    cold = self.talk(s, False, **extra)
                    self.assertEqual(s.metric("hadal:idle_prefills_total"), 0)
                for last, turn in zip(cold, cold[1:]):
                    self.assertLessEqual(turn["cached"], last["prompt"], "the answer is generated, and no prompt")
                self.assertGreater(sum(len(turn["said"]) for turn in cold[:2]), 100, name)
                for stream in (False, True):
                    with Server(model, "--access-log", "off", *flags) as s:
                        warm = self.talk(s, True, stream, **extra)
                        self.assertEqual(s.metric("vllm:num_requests_running"), 0)
                        self.assertEqual(s.metric("vllm:request_success_total"), len(QUESTIONS))
                    for turn, expected in zip(warm, cold):
                        self.assertEqual((turn["said"], turn["logprobs"]), (expected["said"], expected["logprobs"]))
                        # One less: what MTP has of a token belongs to the one behind it.
                        self.assertGreaterEqual(turn["cached"], turn["before"] - 1, (name, flags, stream))

    def test_answers_that_were_not_finished_or_are_several_are_not_computed(self):
        body = {"messages": [SYSTEM, {"role": "user", "content": QUESTIONS[0]}], "temperature": 0, "max_tokens": 600, "ignore_eos": True}
        with Server(MINI, "--access-log", "off") as s:
            c = s.connect()
            c.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}))
            r = c.getresponse()
            r.read(200)
            r.close()
            c.close()
            s.ok("/v1/chat/completions", {**body, "n": 2, "max_tokens": 5})
            s.ok("/v1/completions", {"prompt": "x", "max_tokens": 5})
            self.assertEqual(s.post("/v1/chat/completions", {**body, "top_p": 7})[0], 400)
            time.sleep(0.5)
            self.assertEqual(s.metric("hadal:idle_prefills_total"), 0)
            s.ok("/v1/chat/completions", {**body, "max_tokens": 5})
            self.wait(s, 1)
            self.assertEqual(s.stop()[0], 0)

    def test_salts_are_kept_apart(self):
        first = {"role": "user", "content": QUESTIONS[0]}
        with Server(MINI, "--access-log", "off") as s:
            ask = lambda messages, salt: s.ok("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 40, "cache_salt": salt})
            said = ask([SYSTEM, first], "a")["choices"][0]["message"]["content"]
            self.wait(s, 1)
            second = [SYSTEM, first, {"role": "assistant", "content": said}, {"role": "user", "content": QUESTIONS[1]}]
            self.assertEqual(ask(second, "b")["usage"]["prompt_cache_hit_tokens"], 0)
            self.assertGreater(ask(second, "a")["usage"]["prompt_cache_hit_tokens"], 80)

    def test_whoever_asks_goes_first(self):
        body = {"temperature": 0, "max_tokens": 8}
        with Server(MINI, "--access-log", "off") as s:
            expected = s.ok("/v1/completions", {**body, "prompt": "The sea is"})["choices"]
            for i in range(12):
                s.ok("/v1/chat/completions", {**body, "messages": [{"role": "user", "content": f"{i} " + "word " * 300}]})
                self.assertEqual(s.ok("/v1/completions", {**body, "prompt": "The sea is"})["choices"], expected)
            self.wait(s, 3)
            self.assertEqual(s.stop()[0], 0)

    def test_reuse_of_generated_tokens(self):
        with Server(MINI, "--access-log", "off", "--no-idle-prefill", "--reuse-generated") as s:
            for turn in self.talk(s, False, temperature=0)[1:]:
                self.assertGreaterEqual(turn["cached"], turn["before"] - 3)


main()
