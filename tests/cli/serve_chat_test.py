"""hadal serve: thoughts, tool calls, structured output, and every combination of what a chat may ask for."""
import concurrent.futures, itertools, json, os, pathlib, shutil, unittest
from harness import Case, DATA, MINI, main
from server import Server

# White space in JSON is bounded, not forbidden, and the small model likes line breaks: they would take hundreds of tokens.
NO_BREAKS = {}


def no_breaks(server):
    for text in ("\n", "\n\n", "\n\n\n", "\t", " ", "  ", "    ", "\r", "\r\n"):
        for token in server.ok("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]:
            NO_BREAKS[str(token)] = -100


HI = [{"role": "user", "content": "What is the weather in Oslo?"}]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 5}}, "required": ["city", "days"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}}]
CALL = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>%s<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
V3_CALL = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n%s\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>"


def merged(events):
    """The choices of a stream as messages, with what ended them, by index."""
    out = {}
    for e in events:
        for c in e["choices"]:
            m = out.setdefault(c["index"], {"content": None, "reasoning_content": None, "calls": {}, "end": None, "logprobs": []})
            d = c["delta"]
            for field in ("content", "reasoning_content"):
                if d.get(field):
                    m[field] = (m[field] or "") + d[field]
            for t in d.get("tool_calls", []):
                call = m["calls"].setdefault(t["index"], {"id": None, "name": "", "arguments": ""})
                call["id"] = t.get("id") or call["id"]
                call["name"] += t["function"].get("name", "")
                call["arguments"] += t["function"].get("arguments", "")
            m["end"] = c["finish_reason"] or m["end"]
            m["logprobs"] += (c.get("logprobs") or {}).get("content", [])
    return [out[i] for i in sorted(out)]


def whole(answer):
    """The same of an answer in one piece."""
    out = []
    for c in answer["choices"]:
        m = c["message"]
        calls = {i: {"id": t["id"], "name": t["function"]["name"], "arguments": t["function"]["arguments"]} for i, t in enumerate(m.get("tool_calls", []))}
        out.append({"content": m["content"] or None, "reasoning_content": m.get("reasoning_content"), "calls": calls, "end": c["finish_reason"], "logprobs": (c["logprobs"] or {}).get("content", [])})
    return out


def without_ids(choices):
    return [{**c, "calls": {i: {k: v for k, v in t.items() if k != "id"} for i, t in c["calls"].items()}} for c in choices]


def thinking_model(folder):
    """The bundled model with V3.1's template, which knows `thinking`."""
    shutil.copytree(MINI, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (DATA / "chat/templates/deepseek-v3.1.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


STRUCTURED = os.environ.get("HADAL_STRUCTURED", "1") == "1"
needs_grammars = unittest.skipUnless(STRUCTURED, "this build has no structured output: there was no cargo or no crates.io")


class Chat(Case):
    def setUp(self):
        super().setUp()
        self.server = Server(thinking_model(self.dir / "m"), "--testing", "--access-log", "off", "--batch", 16)
        self.addCleanup(self.server.__exit__)
        no_breaks(self.server)

    def both(self, body):
        """The answer's choices, which are the same in one piece and as a stream."""
        body = {"messages": HI, "temperature": 0, "max_tokens": 120, "logit_bias": NO_BREAKS, **body}
        one, many = whole(self.server.ok("/v1/chat/completions", body)), merged(self.server.events("/v1/chat/completions", body))
        self.assertEqual(without_ids(one), without_ids(many))
        return one

    @needs_grammars
    def test_tool_calls(self):
        for arguments in ('{"city": "Oslo", "days": 2}', '{"city":"Rome","days":1}'):
            c, = self.both({"tools": TOOLS, "force_tokens": "Let me look. " + CALL % arguments})
            self.assertEqual((c["content"], c["end"], c["reasoning_content"]), ("Let me look. ", "tool_calls", None))
            self.assertEqual((c["calls"][0]["name"], json.loads(c["calls"][0]["arguments"])), ("weather", json.loads(arguments)))
            self.assertTrue(c["calls"][0]["id"])
        with Server(MINI, "--testing", "--access-log", "off") as v3:
            got, = whole(v3.ok("/v1/chat/completions", {"messages": HI, "tools": TOOLS, "force_tokens": V3_CALL % '{"city": "Oslo"}'}))
            self.assertEqual((got["calls"][0]["name"], got["calls"][0]["arguments"], got["end"]), ("weather", '{"city": "Oslo"}', "tool_calls"))
        ids = {t["id"] for _ in range(2) for c in self.both({"tools": TOOLS, "n": 2, "force_tokens": CALL % "{}"}) for t in c["calls"].values()}
        self.assertEqual(len(ids), 4)
        # Sent back, they become part of the prompt.
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        messages = HI + [{"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"}, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
        self.assertEqual(self.server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 5, "tools": TOOLS})[0], 200)

    @needs_grammars
    def test_calls_that_are_demanded_match_their_schema(self):
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            for seed in range(3):
                c, = self.both({"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1, "seed": seed})
                self.assertEqual((c["end"], c["content"]), ("tool_calls", None))
                arguments = json.loads(c["calls"][0]["arguments"])
                self.assertIn(arguments["city"], ("Oslo", "Rome"))
                self.assertIn(arguments["days"], range(1, 6))
        c, = self.both({"tools": TOOLS, "tool_choice": "none", "max_tokens": 50})
        self.assertEqual(c["calls"], {})

    def test_thoughts(self):
        said = "I wonder.</think>It rains.<｜end▁of▁sentence｜>"
        for on in ({"chat_template_kwargs": {"thinking": True}}, {"thinking": {"type": "enabled"}}, {"reasoning_effort": "high"}):
            c, = self.both({**on, "force_tokens": said})
            self.assertEqual((c["reasoning_content"], c["content"], c["end"]), ("I wonder.", "It rains.", "stop"))
        for off in ({}, {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}):
            c, = self.both({**off, "force_tokens": "It rains.<｜end▁of▁sentence｜>"})
            self.assertEqual((c["reasoning_content"], c["content"]), (None, "It rains."))
        got = self.server.ok("/v1/chat/completions", {"messages": HI, "thinking": {"type": "enabled"}, "force_tokens": said})
        ids = self.server.ok("/tokenize", {"prompt": "I wonder.", "add_special_tokens": False})["count"]
        self.assertIn(got["usage"]["completion_tokens_details"]["reasoning_tokens"], (ids, ids + 1))

    def test_a_thought_ends_at_its_budget(self):
        c, = self.both({"thinking": {"type": "enabled"}, "thinking_budget": 10, "max_tokens": 60, "temperature": 1, "seed": 5})
        self.assertTrue(c["content"])
        self.assertLessEqual(self.server.ok("/tokenize", {"prompt": c["reasoning_content"] or "", "add_special_tokens": False})["count"], 11)

    @needs_grammars
    def test_structured_output(self):
        wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}}
        for extra in ({}, {"thinking": {"type": "enabled"}, "thinking_budget": 8}):
            for seed in range(3):
                c, = self.both({"response_format": wanted, "temperature": 1, "seed": seed, **extra})
                self.assertIn(json.loads(c["content"])["city"], ("Oslo", "Rome"))
        c, = self.both({"guided_choice": ["yes", "no"]})
        self.assertIn(c["content"], ("yes", "no"))
        got = self.server.ok("/v1/completions", {"prompt": "Seven times eight is", "guided_regex": "[0-9]{2}", "temperature": 0})
        self.assertRegex(got["choices"][0]["text"], "^[0-9]{2}$")

    @needs_grammars
    def test_what_cannot_be_enforced_is_refused_by_name(self):
        for param, body in (("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "propertyNames": {"pattern": "^a"}, "unevaluatedProperties": False}}}}),
                            ("response_format", {"response_format": 5}), ("guided_regex", {"guided_regex": "["}), ("tool_choice", {"tool_choice": "required"}), ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}),
                            ("thinking", {"thinking": {"type": "maybe"}}), ("reasoning_effort", {"reasoning_effort": "huge"}), ("tools", {"tools": [1]})):
            status, answer = self.server.post("/v1/chat/completions", {"messages": HI, **body})
            self.assertEqual(status, 400, answer)
            self.assertTrue(answer["error"]["param"].startswith(param), answer)

    @unittest.skipIf(STRUCTURED, "this build has structured output")
    def test_without_structured_output_it_is_refused(self):
        status, answer = self.server.post("/v1/chat/completions", {"messages": HI, "response_format": {"type": "json_object"}})
        self.assertEqual(status, 400, answer)
        self.assertIn("cargo-web", answer["error"]["message"])

    def test_prefixes_are_gone_on_with(self):
        prefix = {"role": "assistant", "content": "The weather is", "prefix": True}
        c, = self.both({"messages": HI + [prefix]})
        self.assertTrue(c["content"])
        ids = self.server.ok("/tokenize", {"messages": HI + [prefix]})["tokens"]
        self.assertTrue(self.server.ok("/detokenize", {"tokens": ids})["prompt"].endswith("The weather is"))


@needs_grammars
class Matrix(Case):
    """{stream} x {tools} x {thinking} x {schema} x {logprobs} x {n} x {speculation}: the same answers, and what they promise."""

    def cells(self):
        for tools, thinking, schema, logprobs, n in itertools.product((None, "auto", "required"), (False, True), (False, True), (False, True), (1, 2)):
            body = {"messages": HI, "temperature": 0.8, "seed": 11, "max_tokens": 120, "logit_bias": NO_BREAKS, "n": n, "thinking": {"type": "enabled" if thinking else "disabled"}}
            if thinking:
                body["thinking_budget"] = 6
            if tools:
                body |= {"tools": TOOLS, "tool_choice": tools, "parallel_tool_calls": False}
            if schema:
                body["response_format"] = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}}
            if logprobs:
                body |= {"logprobs": True, "top_logprobs": 1}
            if not schema and tools != "required":
                body["max_tokens"] = 40
            yield body

    def check(self, body, choices):
        self.assertEqual(len(choices), body["n"])
        for c in choices:
            if body.get("tool_choice") == "required":
                self.assertEqual((c["end"], c["content"]), ("tool_calls", None), body)
                json.loads(c["calls"][0]["arguments"])
            elif "response_format" in body and not c["calls"]:
                self.assertIn(json.loads(c["content"])["city"], ("Oslo", "Rome"))
            if body["thinking"]["type"] == "disabled":
                self.assertIsNone(c["reasoning_content"], body)
            self.assertEqual(bool(c["logprobs"]), "logprobs" in body)

    def test_all(self):
        model = thinking_model(self.dir / "m")
        with Server(model, "--access-log", "off", "--speculate", "off") as plain, Server(model, "--access-log", "off", "--speculate", "auto") as drafting:
            no_breaks(plain)

            def cell(body):
                answers = [without_ids(whole(s.ok("/v1/chat/completions", body))) for s in (plain, drafting)]
                answers += [without_ids(merged(s.events("/v1/chat/completions", body))) for s in (plain, drafting)]
                return body, answers
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                for body, answers in pool.map(cell, self.cells()):
                    self.check(body, answers[0])
                    for other in answers[1:]:
                        self.assertEqual(other, answers[0], body)


if __name__ == "__main__":
    main()
