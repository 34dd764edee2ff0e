"""lm-eval (PyPI) as it is against the bundled model, on tasks of a few lines: local-completions measures likelihoods, local-chat-completions generates.

With the remote tokenizer local-completions sends token ids and asks for `echo` with `logprobs` and one token more. It puts a prefix token before a context that is empty, and
takes an id of 0, which V3's BOS is, for none (then the end token's); so no context is empty here, and what is measured is P(choice | context) without BOS, as the ids come."""
import json, os, pathlib, tempfile, unittest

from installed import python_with, talk
from harness import MINI, main
from server import Server

ROWS = [{"question": "What is 7 times 8?", "choices": [" 56", " 12 dogs"], "answer": 0},
        {"question": "The sea is", "choices": [" blue.", " xq zzk."], "answer": 0},
        {"question": "I have a", "choices": [" )))", " dog."], "answer": 1}]
COMMON = """
task: %s
dataset_path: json
dataset_kwargs:
  data_files:
    test: %s
test_split: test
doc_to_text: "{{question}}"
metadata: {version: 1}
"""
LIKELIHOOD = COMMON + """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
GENERATIVE = COMMON + """
output_type: generate_until
doc_to_target: "{{target}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24, do_sample: false, temperature: 0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


class LmEval(unittest.TestCase):
    def setUp(self):
        if not os.environ.get("HADAL_LM_EVAL"):
            self.skipTest("HADAL_LM_EVAL=1 installs lm-eval (some 400 MB from PyPI) and runs it")
        self.python = python_with("lm-eval[api]")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.dir = pathlib.Path(self.folder.name)
        self.server = Server(MINI, "--access-log", "off", "--served-model-name", "mini")
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.addCleanup(self.server.__exit__)

    def evaluate(self, task, text, rows, model, args, *flags):
        data = self.dir / "rows.jsonl"
        data.write_text("".join(json.dumps(r) + "\n" for r in rows))
        (self.dir / f"{task}.yaml").write_text(text % (task, data))
        talk([self.python, "-m", "lm_eval", "run", "--model", model, "--model_args", args, "--tasks", task, "--include_path", self.dir, "--output_path", self.dir / "out", "--log_samples", *flags], env=self.environment())
        samples = [json.loads(l) for p in sorted((self.dir / "out").rglob("samples_*.jsonl")) for l in p.read_text().splitlines()]
        results = json.loads(next((self.dir / "out").rglob("results_*.json")).read_text())
        return results["results"][task], sorted(samples, key=lambda s: s["doc_id"])

    def environment(self):
        return {**os.environ, "HF_HOME": str(self.dir / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none", "TOKENIZERS_PARALLELISM": "false"}

    def likelihood(self, context, choice):
        """As the API gives it for the ids of both."""
        ids = lambda text: self.server.ok("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
        whole, start = ids(context + choice), len(ids(context))
        got = self.server.ok("/v1/completions", {"prompt": whole, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0})
        return sum(got["choices"][0]["logprobs"]["token_logprobs"][start:-1])

    def test_likelihoods(self):
        args = f"model=mini,base_url={self.url}/v1/completions,tokenizer_backend=remote,num_concurrent=2,max_retries=1"
        results, samples = self.evaluate("hadal_choice", LIKELIHOOD, ROWS, "local-completions", args, "--batch_size", "2")
        right = 0
        for row, sample in zip(ROWS, samples):
            expected = [self.likelihood(row["question"], c) for c in row["choices"]]
            for got, want in zip(sample["filtered_resps"], expected):
                self.assertAlmostEqual(float(got[0]), want, places=6)
            right += expected.index(max(expected)) == row["answer"]
        self.assertEqual(results["acc,none"], right / len(ROWS))

    def test_generated_answers(self):
        question = ROWS[0]["question"]
        own = self.server.ok("/v1/chat/completions", {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24, "stop": ["\n\n"]})
        target = own["choices"][0]["message"]["content"]
        rows = [{"question": question, "target": target}, {"question": question, "target": target + " but not this"}]
        args = f"model=mini,base_url={self.url}/v1/chat/completions,num_concurrent=2,max_retries=1"
        results, _ = self.evaluate("hadal_chat", GENERATIVE, rows, "local-chat-completions", args, "--apply_chat_template")
        self.assertEqual(results["exact_match,none"], 0.5)


if __name__ == "__main__":
    main()
