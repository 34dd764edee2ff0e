"""The event files of a training run, read by TensorBoard's own package: its accumulator and both servers of its page."""
import json, os, pathlib, struct, subprocess, sys, tempfile, unittest

from installed import FOLDER, python_with, talk
from harness import main

HERE = pathlib.Path(__file__).resolve().parent
WRITER = FOLDER.parent / "train_tests"


def write(folder, part):
    """What hadal/train/readers_test.cpp writes under that name."""
    env = dict(os.environ, HADAL_RUN_FOLDER=str(folder))
    p = subprocess.run([WRITER, f"--gtest_filter=ForReaders.{part}"], env=env, capture_output=True)
    assert p.returncode == 0 and b"PASSED  ] 1 test." in p.stdout, p.stdout.decode()


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def scalars(record):
    """Tags of a line of log.jsonl, with null as None: any number that JSON has not."""
    if record["kind"] == "validation":
        out = {f"validation/{key}": record[key] for key in ("nats_per_token", "bits_per_byte")}
        for layer in record["load"]:
            out |= {f"validation/{key}/layer{layer['layer']}": layer[key] for key in ("max_vio", "dead")}
        return out | mean_max_vio("validation", record)
    out = {"loss/total": record["loss"], "loss/main": record["main"], "loss/balance": record["balance"]}
    out |= {f"loss/mtp{d}": value for d, value in enumerate(record["mtp"])}
    out |= {"grad_norm": record["grad_norm"], "lr": record["learning_rate"], "tokens": record["tokens"]}
    out |= {f"speed/{key}": record[key] for key in ("tokens_per_second", "fma_share", "seconds")}
    for layer in record["load"]:
        out |= {f"load/{key}/layer{layer['layer']}": layer[key] for key in ("max_vio", "dead", "bias_low", "bias_high")}
    return out | mean_max_vio("load", record)


def mean_max_vio(where, record):
    values = [layer["max_vio"] for layer in record["load"]]
    return {f"{where}/max_vio/mean": sum(values) / len(values)} if values else {}


def logged(folder):
    """{tag: [[step, value], ...]} of log.jsonl, values as float32, and the samples {tag: [[step, text], ...]}."""
    values, texts, count = {}, {}, {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        step = record["step"]
        if record["kind"] == "sample":
            tag = f"sample/{count.get(step, 0)}"
            count[step] = count.get(step, 0) + 1
            texts.setdefault(tag, []).append([step, record["prompt"] + record["text"]])
        else:
            for tag, value in scalars(record).items():
                values.setdefault(tag, []).append([step, None if value is None else as_float32(value)])
    return values, texts


class TensorBoard(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.python = python_with("tensorboard")
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def read(self, how, meanwhile=None):
        """What tensorboard_reader.py says after the last part is written; it has also looked before `meanwhile`."""
        if meanwhile is None:
            return json.loads(talk([self.python, HERE / "tensorboard_reader.py", how, self.folder]))
        command = [self.python, HERE / "tensorboard_reader.py", how, self.folder, "wait"]
        with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
            self.assertEqual(p.stdout.readline(), "read\n")
            write(self.folder, meanwhile)
            out, errors = p.communicate("go\n")
            self.assertEqual(p.returncode, 0, errors)
            return json.loads(out)

    def check(self, seen):
        self.check_scalars(seen)
        self.assertEqual(seen["texts"], logged(self.folder)[1])

    def check_scalars(self, seen):
        self.assertEqual(seen["scalars"], logged(self.folder)[0])

    def test_straight_run_gives_exactly_the_numbers_of_the_log(self):
        write(self.folder, "First")
        for how in ("accumulator", "fast", "slow"):
            with self.subTest(how):
                self.check(self.read(how))

    def test_resumed_run_has_no_step_twice_for_any_reader(self):
        write(self.folder, "First")
        write(self.folder, "Resumed")
        steps = [step for step, _ in logged(self.folder)[0]["loss/main"]]
        self.assertEqual(steps, list(range(1, 26)))
        for how in ("accumulator", "fast", "slow"):
            with self.subTest(how):
                self.check(self.read(how))

    def test_a_reader_that_has_seen_more_takes_it_back(self):
        write(self.folder, "First")
        # Of text this reader takes nothing back, whatever a file says (findings/tensorboard_restarts.sh).
        self.check_scalars(self.read("accumulator", meanwhile="Resumed"))

    def test_the_page_takes_back_what_it_has_seen(self):
        write(self.folder, "First")
        self.check(self.read("slow", meanwhile="Resumed"))


if __name__ == "__main__":
    main()
