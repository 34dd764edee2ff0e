"""hadal serve: start, answers, streams, limits, signals."""
import base64, http.client, json, os, signal, socket, ssl, struct, subprocess, time
from harness import Case, HADAL, MINI, main, run
from server import Server, join

HI = [{"role": "user", "content": "What is 7 times 8?"}]
LONG = [{"role": "user", "content": "Tell me a long story about the sea."}]
# Answers that do not end by themselves.
ENDLESS = {"messages": LONG, "ignore_eos": True, "max_tokens": 900, "temperature": 0}


class Start(Case):
    def test_flags_that_cannot_be(self):
        self.refused("config.json", "serve", self.dir)
        self.refused("make a key (hadal keys add NAME), or say --insecure", "serve", MINI, "--host", "0.0.0.0", "--port", 0)
        self.refused("is not an address of this machine", "serve", MINI, "--host", "nowhere.invalid", "--insecure")
        self.refused("give both", "serve", MINI, "--port", 0, "--tls-cert", "x.pem")
        with socket.create_server(("127.0.0.1", 0)) as busy:
            self.refused("choose another --port", "serve", MINI, "--port", busy.getsockname()[1])

    def test_idle_server_ends_at_a_signal(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            with Server(MINI) as s:
                self.assertEqual(s.get("/health"), (200, {"status": "ok"}))
                self.assertEqual(s.stop(how)[0], 0)


class Serving(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(MINI, "--testing", "--batch", 4)

    @classmethod
    def tearDownClass(cls):
        code, said = cls.server.stop()
        assert code == 0, said

    def test_models(self):
        status, models = self.server.get("/v1/models")
        self.assertEqual((status, models["object"], [m["id"] for m in models["data"]]), (200, "list", ["mini"]))
        self.assertEqual(self.server.get("/v1/models/mini")[1]["max_model_len"], 1024)
        self.assertEqual(self.server.get("/v1/models/other")[0], 404)

    def test_answer_is_that_of_generate(self):
        body = {"messages": HI, "temperature": 0, "max_tokens": 40}
        answer = self.server.ok("/v1/chat/completions", body)
        tasks = self.dir / "t.jsonl"
        tasks.write_text(json.dumps(body))
        expected = json.loads(self.ok("generate", MINI, "--input", tasks))
        choice = answer["choices"][0]
        self.assertEqual((choice["message"], choice["finish_reason"]), ({"role": "assistant", "content": expected["text"]}, expected["finish_reason"]))
        for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.assertEqual(answer["usage"][field], expected["usage"][field])
        self.assertEqual((answer["object"], answer["model"], answer["id"][:9]), ("chat.completion", "mini", "chatcmpl-"))

    def test_seeded_answers_of_every_form_agree(self):
        body = {"messages": LONG, "temperature": 1, "seed": 7, "max_tokens": 60, "n": 3}
        whole = self.server.ok("/v1/chat/completions", body)
        texts = [c["message"]["content"] for c in whole["choices"]]
        self.assertEqual(len(set(texts)), 3)
        events = self.server.events("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
        self.assertEqual([join(events, i) for i in range(3)], [(c["message"]["content"], c["finish_reason"]) for c in whole["choices"]])
        self.assertEqual((events[-1]["choices"], events[-1]["usage"]["completion_tokens"]), ([], whole["usage"]["completion_tokens"]))
        self.assertEqual({e["usage"] is None for e in events[:-1]}, {True})
        self.assertEqual({e["id"] for e in events}, {events[0]["id"]})
        self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
        tasks = self.dir / "t.jsonl"
        tasks.write_text(json.dumps(body))
        self.assertEqual([json.loads(l)["text"] for l in self.ok("generate", MINI, "--input", tasks).splitlines()], texts)

    def test_stop_strings_never_leak(self):
        body = {"messages": LONG, "temperature": 0, "max_tokens": 80}
        text = self.server.ok("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        stop = text[20:33]
        cut = text[:text.index(stop)]
        for extra in ({}, {"logprobs": True}):
            got = self.server.ok("/v1/chat/completions", {**body, "stop": [stop, "never said"], **extra})["choices"][0]
            self.assertEqual((got["message"]["content"], got["finish_reason"], got["stop_reason"]), (cut, "stop", stop))
            self.assertEqual(join(self.server.events("/v1/chat/completions", {**body, "stop": stop, **extra})), (cut, "stop"))
        kept = self.server.ok("/v1/chat/completions", {**body, "stop": stop, "include_stop_str_in_output": True})
        self.assertEqual(kept["choices"][0]["message"]["content"], cut + stop)

    def test_stop_strings_wait_for_min_tokens(self):
        body = {"messages": LONG, "temperature": 0, "max_tokens": 60, "ignore_eos": True}
        text = self.server.ok("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        words = text.split(" ")
        stop = next((w for w in words[:8] if len(w) > 1 and text.count(w) > 1), "e")
        first = self.server.ok("/v1/chat/completions", {**body, "stop": stop})
        self.assertLess(first["usage"]["completion_tokens"], 20)
        for extra in ({}, {"skip_special_tokens": False}):
            late = self.server.ok("/v1/chat/completions", {**body, "stop": stop, "min_tokens": 20, **extra})
            self.assertGreater(late["usage"]["completion_tokens"], 20)
            said = late["choices"][0]["message"]["content"]
            self.assertTrue(text.startswith(said) and len(said) > len(first["choices"][0]["message"]["content"]), said)
            self.assertEqual(join(self.server.events("/v1/chat/completions", {**body, "stop": stop, "min_tokens": 20, **extra})), (said, late["choices"][0]["finish_reason"]))
        tasks = self.dir / "t.jsonl"
        tasks.write_text(json.dumps({**body, "stop": stop, "min_tokens": 20}))
        self.assertEqual(json.loads(self.ok("generate", MINI, "--input", tasks))["text"], said)
        self.assertEqual(self.server.ok("/v1/chat/completions", {**body, "stop": stop, "min_tokens": 60})["choices"][0]["message"]["content"], text)

    def test_echo_with_logprobs_streams_the_same(self):
        body = {"prompt": ["The sea is", "A b c"], "temperature": 0, "max_tokens": 6, "echo": True, "logprobs": 2, "n": 2}
        for most in (6, 0):
            whole = self.server.ok("/v1/completions", {**body, "max_tokens": most, "n": 2 if most else 1})
            events = self.server.events("/v1/completions", {**body, "max_tokens": most, "n": 2 if most else 1, "stream_options": {"include_usage": True}})
            self.assertEqual(sorted((c for e in events for c in e["choices"]), key=lambda c: c["index"]), whole["choices"])
            self.assertEqual(events[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])
            self.assertIsNone(whole["choices"][0]["logprobs"]["token_logprobs"][0])

    def test_completions_of_texts_and_ids(self):
        body = {"prompt": "The sea is", "temperature": 0, "max_tokens": 12, "return_token_ids": True}
        one = self.server.ok("/v1/completions", body)
        ids = one["choices"][0]["prompt_token_ids"]
        self.assertEqual(one["object"], "text_completion")
        many = self.server.ok("/v1/completions", {**body, "prompt": ["The sea is", "I have a", "The sea is"]})
        self.assertEqual([c["index"] for c in many["choices"]], [0, 1, 2])
        self.assertEqual(many["choices"][2]["text"], one["choices"][0]["text"])
        as_ids = self.server.ok("/v1/completions", {**body, "prompt": [ids, ids[:2]]})
        self.assertEqual(as_ids["choices"][0]["text"], one["choices"][0]["text"])
        streamed = self.server.events("/v1/completions", {**body, "prompt": ids, "echo": True})
        self.assertEqual("".join(e["choices"][0]["text"] for e in streamed), "<｜begin▁of▁sentence｜>The sea is" + one["choices"][0]["text"])
        self.assertEqual(self.server.ok("/v1/completions", {**body, "echo": True})["choices"][0]["text"], "The sea is" + one["choices"][0]["text"])

    def test_client_that_leaves_is_noticed(self):
        for stream in (True, False):
            before = self.server.metric("vllm:request_success_total")
            c = self.server.connect()
            c.request("POST", "/v1/chat/completions", json.dumps({**ENDLESS, "stream": stream, "n": 4}))
            if stream:
                r = c.getresponse()
                r.read(40)
            else:
                time.sleep(0.2)
            r.close() if stream else None
            c.close()
            until = time.time() + 20
            while self.server.metric("vllm:request_success_total") < before + 4 and time.time() < until:
                time.sleep(0.05)
            text = self.server.request("GET", "/metrics")[2].decode()
            self.assertIn('finished_reason="cancelled"', text)
            self.assertEqual(self.server.metric("vllm:num_requests_running"), 0)

    def test_keep_alive_and_pipelining(self):
        c = self.server.connect()
        for _ in range(3):
            c.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 2}))
            self.assertEqual(json.loads(c.getresponse().read())["usage"]["completion_tokens"], 2)
        c.close()
        get = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
        out = self.server.raw(get + b"\r\n" + get + b"connection: close\r\n\r\n")
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 2)


    def test_forced_tokens(self):
        got = self.server.ok("/v1/chat/completions", {"messages": HI, "force_tokens": "Blue whales sing.", "max_tokens": 30, "temperature": 0})
        self.assertTrue(got["choices"][0]["message"]["content"].startswith("Blue whales sing."))

    def test_echo_gives_log_probabilities_of_the_prompt_and_exactly_max_tokens_more(self):
        ids = self.server.ok("/tokenize", {"prompt": "The sea is blue and deep."})["tokens"]
        body = {"temperature": 0, "logprobs": 1, "echo": True, "max_tokens": 1, "seed": 1234, "prompt": [ids, ids[:4]]}
        got = self.server.ok("/v1/completions", body)
        for choice, prompt in zip(got["choices"], body["prompt"]):
            l = choice["logprobs"]
            self.assertEqual({len(l[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}, {len(prompt) + 1})
            self.assertEqual((l["token_logprobs"][0], l["top_logprobs"][0]), (None, None))
            for own, top in zip(l["token_logprobs"][1:], l["top_logprobs"][1:]):
                self.assertLessEqual(own, max(top.values()))
                self.assertIn(own, top.values())
            self.assertEqual(l["token_logprobs"][-1], max(l["top_logprobs"][-1].values()))  # greedy
        # The same numbers as `hadal logits` would give: what the next token's probability is does not depend on who asks.
        more = self.server.ok("/v1/completions", {**body, "prompt": ids[:4], "echo": False, "logprobs": 3})["choices"][0]["logprobs"]
        self.assertEqual(more["token_logprobs"][0], got["choices"][1]["logprobs"]["token_logprobs"][-1])
        only = self.server.ok("/v1/completions", {**body, "prompt": ids, "max_tokens": 0})["choices"][0]
        self.assertEqual(only["logprobs"]["token_logprobs"], got["choices"][0]["logprobs"]["token_logprobs"][:-1])
        streamed = self.server.events("/v1/completions", {**body, "prompt": ids})
        self.assertEqual(streamed[0]["choices"][0]["logprobs"], got["choices"][0]["logprobs"])

    def test_logprobs_of_chats(self):
        body = {"messages": HI, "temperature": 0, "max_tokens": 8, "logprobs": True, "top_logprobs": 2}
        choice = self.server.ok("/v1/chat/completions", body)["choices"][0]
        content = choice["logprobs"]["content"]
        self.assertEqual([len(t["top_logprobs"]) for t in content], [2] * len(content))
        self.assertTrue(all(t["logprob"] == t["top_logprobs"][0]["logprob"] for t in content))
        said = b"".join(bytes(t["bytes"]) for t in content)
        self.assertTrue(said.decode().startswith(choice["message"]["content"]))
        events = self.server.events("/v1/chat/completions", body)
        self.assertEqual([t for e in events for t in e["choices"][0]["logprobs"]["content"]], content)

    def test_tokens_and_templates(self):
        t = self.server.ok("/tokenize", {"prompt": "Hi <｜User｜>", "return_token_strs": True})
        self.assertEqual((t["count"], t["token_strs"][0], t["max_model_len"]), (len(t["tokens"]), "<｜begin▁of▁sentence｜>", 1024))
        self.assertEqual(self.server.ok("/detokenize", {"tokens": t["tokens"][1:]})["prompt"], "Hi <｜User｜>")
        meant = self.server.ok("/tokenize", {"prompt": "<｜begin▁of▁sentence｜>Hi<｜User｜>", "parse_special": True})["tokens"]
        self.assertEqual(len(meant), 3)
        prompt = self.server.ok("/apply-template", {"messages": HI})["prompt"]
        chat = self.server.ok("/tokenize", {"messages": HI})["tokens"]
        self.assertEqual(self.server.ok("/detokenize", {"tokens": chat})["prompt"], prompt)
        info = self.server.get("/tokenizer_info")[1]
        self.assertEqual((info["bos_token"], info["eos_token"]), ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"))
        self.assertIn("add_generation_prompt", info["chat_template"])

    def test_a_hole_to_be_filled(self):
        got = self.server.ok("/v1/completions", {"prompt": "The sea", "suffix": "deep.", "max_tokens": 3, "return_token_ids": True})
        text = self.server.ok("/detokenize", {"tokens": got["choices"][0]["prompt_token_ids"]})["prompt"]
        self.assertEqual(text, "<｜begin▁of▁sentence｜><｜fim▁begin｜>The sea<｜fim▁hole｜>deep.<｜fim▁end｜>")

    def test_embeddings(self):
        body = {"input": ["The sea is blue.", "I have a dog."]}
        got = self.server.ok("/v1/embeddings", body)
        vectors = [d["embedding"] for d in got["data"]]
        self.assertEqual([len(v) for v in vectors], [192, 192])
        self.assertTrue(all(abs(sum(x * x for x in v) - 1) < 1e-5 for v in vectors))
        self.assertNotEqual(*vectors)
        packed = self.server.ok("/v1/embeddings", {**body, "encoding_format": "base64"})
        for d, v in zip(packed["data"], vectors):
            self.assertEqual(list(struct.unpack("<192f", base64.b64decode(d["embedding"]))), [struct.unpack("<f", struct.pack("<f", x))[0] for x in v])
        self.assertNotEqual(self.server.ok("/v1/embeddings", {**body, "pooling": "mean"})["data"][0]["embedding"], vectors[0])

    def test_what_is_there(self):
        api = self.server.get("/openapi.json")[1]
        self.assertEqual(api["openapi"], "3.1.0")
        for path, operations in api["paths"].items():
            for method in operations:
                self.assertNotIn(self.server.request(method.upper(), path)[0], (404, 405), path)
        text = self.server.request("GET", "/metrics")[2].decode()
        for name in ("vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_count", "vllm:num_requests_waiting", "vllm:generation_tokens_total"):
            self.assertIn(name, text)


class Refused(Case):
    """What cannot be answered is an error in OpenAI's form that names the field."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(MINI, "--max-body", "100KB", "--access-log", "off")

    @classmethod
    def tearDownClass(cls):
        code, said = cls.server.stop()
        assert code == 0, said

    def error(self, status, path, body, headers={}):
        got, _, data = self.server.request("POST", path, body, headers)
        self.assertEqual(got, status, data)
        error = json.loads(data)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        return error

    def test_fields(self):
        chat = {"messages": HI}
        for param, body in (("temperature", {"temperature": "hot"}), ("temperature", {"temperature": -1}), ("top_p", {"top_p": 2}), ("n", {"n": 0}), ("n", {"n": 129}),
                            ("max_tokens", {"max_tokens": 0}), ("stop", {"stop": [1]}), ("stop", {"stop": ""}), ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
                            ("logit_bias", {"logit_bias": {"x": 1}}), ("stream_options", {"stream_options": 1}), ("seed", {"seed": 1.5}), ("messages", {"messages": []}),
                            ("messages", {"messages": "Hi"}), ("messages[0].role", {"messages": [{}]}), ("stream", {"stream": "yes"}), ("chat_template_kwargs", {"chat_template_kwargs": []}),
                            ("messages", {"messages": [{"role": "user", "content": "word " * 2000}]})):
            self.assertEqual(self.error(400, "/v1/chat/completions", {**chat, **body})["param"], param, body)
        parts = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
        error = self.error(400, "/v1/chat/completions", {"messages": parts})
        self.assertEqual(error["param"], "messages")
        self.assertIn("image_url", error["message"])
        self.assertEqual(self.error(400, "/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 2000}]})["code"], "context_length_exceeded")
        self.assertEqual(self.error(400, "/v1/embeddings", {"input": [[1], "a"]})["param"], "input")
        for param, body in (("prompt", {}), ("prompt", {"prompt": []}), ("prompt", {"prompt": [[1], "a"]}), ("prompt", {"prompt": [[]]}), ("prompt", {"prompt": [99999]}),
                            ("best_of", {"prompt": "a", "best_of": 3}), ("suffix", {"prompt": [5], "suffix": "b"}), ("max_tokens", {"prompt": "a", "max_tokens": 0})):
            self.assertEqual(self.error(400, "/v1/completions", body)["param"], param, body)

    def test_bodies(self):
        for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"messages": ' + b"[" * 600, b'{"prompt": "\xff"}', b"null"):
            self.error(400, "/v1/chat/completions", body)
        self.error(413, "/v1/chat/completions", json.dumps({"messages": [{"role": "user", "content": "x" * 200000}]}))
        self.assertEqual(self.error(404, "/v1/chat", {})["code"], "not_found")
        self.assertEqual(self.server.request("GET", "/v1/chat/completions")[0], 405)

    def test_unknown_fields_are_ignored(self):
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "no_such_field": 1})[0], 200)

    def test_bytes_that_are_no_request(self):
        for data, status in ((b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400), (b"GET / HTTP/9.9\r\n\r\n", 400), (b"G\x00T / HTTP/1.1\r\n\r\n", 400), (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n", 431),
                             (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40000 + b"\r\n\r\n", 431), (b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n", 400),
                             (b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400)):
            self.assertIn(f"HTTP/1.1 {status} ".encode(), self.server.raw(data), data[:60])
        self.assertEqual(self.server.get("/health")[0], 200)

    def test_pages_of_others_cannot_ask(self):
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example:80", "origin": "http://evil.example:80"}):
            self.assertEqual(self.error(403, "/v1/completions", {"prompt": "a"}, headers)["type"], "permission_error")
        for host in ("localhost", f"127.0.0.1:{self.server.port}", "[::1]:80"):
            self.assertEqual(self.server.request("GET", "/health", None, {"host": host})[0], 200)
        with Server(MINI, "--cors-origin", "https://chat.example", "--allow-host", "hadal.lan") as s:
            status, headers, _ = s.request("OPTIONS", "/v1/completions", None, {"origin": "https://chat.example", "host": "hadal.lan:80"})
            self.assertEqual((status, headers["access-control-allow-origin"]), (204, "https://chat.example"))
            self.assertEqual(s.request("GET", "/health", None, {"origin": "https://other.example"})[0], 403)

    def test_slow_writers_are_not_waited_for(self):
        with Server(MINI, "--header-seconds", 1, "--body-seconds", 1) as s:
            self.assertIn(b"HTTP/1.1 408 ", s.raw(b"GET /health HT"))
            self.assertIn(b"HTTP/1.1 408 ", s.raw(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"))

    def test_connections_are_limited(self):
        with Server(MINI, "--max-connections", 2) as s:
            held = [socket.create_connection((s.host, s.port)) for _ in range(2)]
            time.sleep(0.3)
            self.assertIn(b"HTTP/1.1 503 ", s.raw(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            for c in held:
                c.close()
            until = time.time() + 10
            while s.raw(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").startswith(b"HTTP/1.1 503") and time.time() < until:
                time.sleep(0.05)
            self.assertEqual(s.get("/health")[0], 200)


class Keys(Case):
    def setUp(self):
        super().setUp()
        self.file = self.dir / "keys.db"

    def add(self, name, *flags):
        return self.ok("keys", "add", name, "--keys", self.file, *flags).decode().strip()

    def test_keys_are_made_listed_and_revoked(self):
        key = self.add("alice", "--requests-per-minute", 5)
        self.assertRegex(key, r"^hd-[\w-]{43}$")
        self.assertNotIn(key.encode(), self.file.read_bytes())
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.refused("there is a key alice already", "keys", "add", "alice", "--keys", self.file)
        listed = json.loads(self.ok("keys", "list", "--json", "--keys", self.file))
        self.assertEqual([(k["name"], k["state"], k["requests_per_minute"]) for k in listed], [("alice", "live", 5)])
        self.ok("keys", "revoke", "alice", "--keys", self.file)
        self.refused("there is no key alice", "keys", "revoke", "alice", "--keys", self.file)
        self.assertIn(b"revoked", self.ok("keys", "list", "--keys", self.file))
        self.refused("has no key", "serve", MINI, "--port", 0, "--keys", self.file)
        self.assertNotEqual(self.add("alice"), key)

    def test_a_server_asks_for_them(self):
        alice, bob = self.add("alice", "--requests-per-minute", 3), self.add("bob", "--tokens-per-minute", 10)
        with Server(MINI, "--host", "0.0.0.0", "--keys", self.file, "--access-log", self.dir / "log") as s:
            s.host = "127.0.0.1"
            body = {"prompt": "The sea", "max_tokens": 9, "ignore_eos": True}
            status, headers, data = s.request("POST", "/v1/completions", body)
            self.assertEqual((status, headers["www-authenticate"], json.loads(data)["error"]["code"]), (401, "Bearer", "invalid_api_key"))
            self.assertEqual(s.post("/v1/completions", body, {"authorization": "Bearer " + alice[:-1] + "x"})[0], 401)
            self.assertEqual(s.get("/health")[0], 200)
            for _ in range(3):
                self.assertEqual(s.post("/v1/completions", body, {"authorization": "Bearer " + alice})[0], 200)
            status, headers, data = s.request("POST", "/v1/completions", body, {"authorization": "Bearer " + alice})
            self.assertEqual((status, json.loads(data)["error"]["type"]), (429, "rate_limit_error"))
            self.assertTrue(1 <= int(headers["retry-after"]) <= 61)
            self.assertEqual([s.post("/v1/completions", body, {"authorization": "bearer " + bob})[0] for _ in range(2)], [200, 429])
            text = s.request("GET", "/metrics", None, {"authorization": "Bearer " + alice})[2].decode()
            self.assertIn('hadal:key_tokens_total{key="alice",kind="completion"} 27', text)
            self.ok("keys", "revoke", "alice", "--keys", self.file)
            self.assertEqual(s.get("/v1/models", {"authorization": "Bearer " + alice})[0], 401)
            self.assertEqual(s.stop()[0], 0)
        lines = [json.loads(l) for l in (self.dir / "log").read_text().splitlines()]
        self.assertEqual([l["key"] for l in lines if l["status"] == 200 and "key" in l], ["alice"] * 3 + ["bob"])
        self.assertNotIn("The sea", (self.dir / "log").read_text())

    def test_kills_at_any_time_lose_no_key(self):
        self.add("first")
        for i in range(20):
            p = subprocess.Popen([HADAL, "keys", "add", f"k{i}", "--keys", self.file], stdout=subprocess.PIPE)
            time.sleep(i * 0.001)
            p.kill()
            said = p.communicate()[0].decode().strip()
            names = [k["name"] for k in json.loads(self.ok("keys", "list", "--json", "--keys", self.file))]
            self.assertEqual((names[0], len(names), f"k{i}" in names or not said), ("first", len(set(names)), True))
        self.add("last")

    def test_a_file_that_is_no_database(self):
        self.file.write_text("no database at all, but long enough to be looked at" * 100)
        self.refused("keys.db: file is not a database", "keys", "list", "--keys", self.file)


class Configured(Case):
    def test_options_from_a_file(self):
        c = self.dir / "c.toml"
        c.write_text('served-model-name = ["deep", "sea"]\nbatch = 2\ntesting = true\ncontext = 500\n')
        with Server(MINI, "--config", c, "--context", 300) as s:
            models = s.get("/v1/models")[1]["data"]
            self.assertEqual([(m["id"], m["max_model_len"]) for m in models], [("deep", 300), ("sea", 300)])
            got = s.ok("/v1/completions", {"prompt": "a", "model": "whatever", "force_tokens": "Yes!"})
            self.assertEqual((got["model"], got["choices"][0]["text"][:4]), ("deep", "Yes!"))
        for text, fragment in (("batch = 'many'", "line 1: batch: "), ("\nno-such = 1", "line 2: no-such is not an option"), ("batch =", "not valid TOML"), ("batch = {a = 1}", "was expected")):
            c.write_text(text)
            self.refused(fragment, "serve", MINI, "--config", c)

    def test_tls(self):
        cert, key = self.dir / "c.pem", self.dir / "k.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
        with Server(MINI, "--tls-cert", cert, "--tls-key", key) as s:
            self.assertEqual(s.scheme, "https")
            context = ssl.create_default_context(cafile=cert)
            c = http.client.HTTPSConnection("127.0.0.1", s.port, context=context, timeout=60)
            for stream in (False, True, False):
                c.request("POST", "/v1/completions", json.dumps({"prompt": "The sea", "max_tokens": 30, "stream": stream}))
                self.assertIn(b'"text":', c.getresponse().read())
            plain = s.raw(b"GET / HTTP/1.1\r\n\r\n")
            self.assertNotIn(b"200", plain)
            c.close()
            self.assertEqual(s.stop()[0], 0)
        self.refused("k.pem: is no certificate", "serve", MINI, "--port", 0, "--tls-cert", key, "--tls-key", key)


class Signals(Case):
    def stream(self, server):
        c = server.connect()
        c.request("POST", "/v1/chat/completions", json.dumps({**ENDLESS, "stream": True}))
        r = c.getresponse()
        self.assertEqual(r.status, 200)
        return c, r

    def test_running_answers_are_finished(self):
        with Server(MINI) as s:
            idle = s.connect()
            idle.request("GET", "/ready")
            idle.getresponse().read()
            c, r = self.stream(s)
            r.read(100)
            s.process.send_signal(signal.SIGTERM)
            rest = r.read().decode()
            self.assertTrue(rest.endswith("data: [DONE]\n\n"))
            self.assertIn('"finish_reason":"length"', rest)
            self.assertEqual(idle.sock.recv(10), b"")
            idle.close()
            self.assertEqual(s.process.wait(60), 0)

    def test_second_signal_stops_at_once(self):
        with Server(MINI, "--isa", "ref") as s:
            c, r = self.stream(s)
            r.read(60)
            begin = time.time()
            s.process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            code, _ = s.stop(signal.SIGINT)
            self.assertEqual(code, 130)
            self.assertLess(time.time() - begin, 20)


if __name__ == "__main__":
    main()
