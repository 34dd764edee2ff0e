"""hadal serve: start, answers, streams, limits, signals."""
import http.client, json, os, signal, socket, subprocess, time
from harness import Case, HADAL, MINI, main, run
from server import Server, join

HI = [{"role": "user", "content": "What is 7 times 8?"}]
LONG = [{"role": "user", "content": "Tell me a long story about the sea."}]
# Answers that do not end by themselves.
ENDLESS = {"messages": LONG, "ignore_eos": True, "max_tokens": 900, "temperature": 0}


class Start(Case):
    def test_flags_that_cannot_be(self):
        self.refused("config.json", "serve", self.dir)
        self.refused("give out keys (hadal keys add NAME) or say --insecure", "serve", MINI, "--host", "0.0.0.0", "--port", 0)
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
