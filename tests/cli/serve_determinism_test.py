"""The same answer twice: requests with fixed seeds, alone, together in random order, from a cold and a warm cache, with
few pages, pages on disk, drafts of every kind, other threads and chunks: the same bytes. HADAL_REQUESTS=200 asks for more of them."""
import concurrent.futures, json, os, random
from harness import Case, MINI, main
from server import Server, join

COUNT = int(os.environ.get("HADAL_REQUESTS", "48"))
SYSTEM = {"role": "system", "content": "You answer in short sentences. " * 12}
QUESTIONS = ["What is 7 times 8?", "Tell me a story about the sea.", "Count from 1 to 20.", "Name three colours.",
             "Who was the first president?", "I have 12 apples and give away 5. How many are left?"]


def requests():
    """Paths and bodies: chats and completions, greedy and sampled in every way, stops, several choices, prompts that share
    a beginning or go on from each other."""
    draw = random.Random(5)
    out = []
    for i in range(COUNT):
        body = {"seed": i % 7, "max_tokens": draw.choice([6, 9, 40, 70]), "temperature": draw.choice([0, 0.5, 1, 1.5])}
        for name, value in (("top_p", 0.9), ("top_k", 30), ("min_p", 0.05), ("presence_penalty", 0.8), ("frequency_penalty", 0.5),
                            ("repetition_penalty", 1.2), ("stop", ["the", "\n"]), ("n", 2), ("min_tokens", 5), ("ignore_eos", True)):
            if draw.random() < 0.2:
                body[name] = value
        question = draw.choice(QUESTIONS)
        if i % 4 == 3:
            out.append(("/v1/completions", {**body, "prompt": question * draw.randint(1, 9), "logprobs": 2}))
            continue
        messages = [SYSTEM] if draw.random() < 0.7 else []
        for _ in range(draw.randint(0, 2)):
            messages += [{"role": "user", "content": draw.choice(QUESTIONS)}, {"role": "assistant", "content": draw.choice(["Yes.", "42", "No, not now."])}]
        out.append(("/v1/chat/completions", {**body, "messages": messages + [{"role": "user", "content": question}], "logprobs": True, "top_logprobs": 2}))
    return out


def said(answer):
    """Everything that is an answer, and nothing about how it came about."""
    return json.dumps(answer["choices"]) + str(answer["usage"]["completion_tokens"])


class Determinism(Case):
    def run_all(self, server, order, workers):
        asked = requests()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            answers = dict(zip(order, pool.map(lambda i: said(server.ok(*asked[i])), order)))
        return [answers[i] for i in range(len(asked))]

    def test_same_bytes_however_they_came_about(self):
        with Server(MINI, "--batch", 1, "--speculate", "off", "--threads", 1) as s:
            expected = self.run_all(s, range(COUNT), 1)
            self.assertEqual(s.stop()[0], 0)
        shuffled = list(range(COUNT))
        for flags in (["--batch", 8, "--speculate", "off"], ["--batch", 16, "--speculate", "auto", "--chunk", 32],
                      ["--batch", 5, "--speculate", "mtp", "--kv-disk", self.dir / "kv"],
                      ["--batch", 7, "--speculate", "mtp", "--kv-disk", self.dir / "kv"],
                      ["--batch", 3, "--speculate", "lookup", "--memory", "10MB", "--stats"]):
            with Server(MINI, "--access-log", "off", *flags) as s:
                for turn in range(2):  # cold, then warm
                    random.Random(turn).shuffle(shuffled)
                    got = self.run_all(s, shuffled, 16)
                    for i in range(COUNT):
                        self.assertEqual(got[i], expected[i], f"{requests()[i]} with {flags}, turn {turn}")
                    if turn == 0 and 7 in flags:
                        self.assertGreater(s.metric("hadal:disk_pages_loaded_total"), 0)
                code, said = s.stop()
                self.assertEqual(code, 0)
                if "--memory" in flags:
                    self.assertRegex(said, "[1-9][0-9]* misses")  # experts did come from disk

    def test_streams_say_the_same(self):
        with Server(MINI, "--access-log", "off") as s:
            for path, body in requests()[:8]:
                if "messages" not in body:
                    continue
                whole = s.ok(path, body)
                events = s.events(path, body)
                for c in whole["choices"]:
                    self.assertEqual(join(events, c["index"]), (c["message"]["content"], c["finish_reason"]))
            self.assertEqual(s.stop()[0], 0)


main()
