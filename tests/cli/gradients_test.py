#!/usr/bin/env python3
"""`hadal gradients` from outside: what it writes, and what it says of batches that are none."""
import array, json, signal, struct, subprocess, time, unittest
from harness import Case, HADAL, MINI, main, run, safetensors

CODES = {"I8": "b", "I16": "h", "I32": "i", "I64": "q", "F32": "f"}


class TestGradients(Case):
    def batch(self, ids, targets, dtype="I32", shape=None, rename=None):
        header, data = {}, b""
        for name, rows in (("ids", ids), ("targets", targets)):
            raw = array.array(CODES[dtype], [x for row in rows for x in row]).tobytes()
            header[(rename or {}).get(name, name)] = {"dtype": dtype, "shape": shape or [len(rows), len(rows[0])], "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        path = self.dir / "batch.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path

    def gradients(self, batch, *options):
        out = self.dir / "out.safetensors"
        self.ok("gradients", MINI, "--batch", batch, "--out", out, *options)
        return safetensors(out)

    def test_integers_of_any_width_are_the_same_batch(self):
        ids, targets = [[1, 2, 3, 4], [5, 6, 7, 8]], [[2, 3, 4, -100], [6, 7, 8, 9]]
        results = [self.gradients(self.batch(ids, targets, dtype)) for dtype in ("I8", "I16", "I32", "I64")]
        self.assertIn("grad.lm_head.weight", results[0])
        for other in results[1:]:
            self.assertEqual(other, results[0])

    def test_micro_batches_add_up(self):
        batch = self.batch([[1, 2, 3, 4], [5, 6, 7, 8]], [[2, 3, 4, 5], [6, -100, 8, 9]])
        whole, parts = (struct.unpack("<d", self.gradients(batch, "--precision", "f64", *o)["loss.total"][2])[0] for o in ((), ("--micro-batch", 1)))
        self.assertAlmostEqual(whole, parts, delta=1e-12)

    def test_bad_batches_are_one_sentence(self):
        out = self.dir / "out.safetensors"
        good = [[1, 2, 3, 4]]
        for fragment, batch in (
            ("missing.safetensors", self.dir / "missing.safetensors"),
            ("targets is missing", lambda: self.batch(good, good, rename={"targets": "labels"})),
            ("holds 5000 at [0, 3]", lambda: self.batch([[1, 2, 3, 5000]], good)),
            ("holds -100 at [0, 0]", lambda: self.batch([[-100, 2, 3, 4]], good)),
            ("token ids are integers", lambda: self.batch(good, good, "F32")),
            ("not [B, S]", lambda: self.batch(good, good, shape=[4])),
            ("has no token to predict", lambda: self.batch(good, [[-100] * 4])),
        ):
            text = self.refused(fragment, "gradients", MINI, "--batch", batch() if callable(batch) else batch, "--out", out)
            self.assertEqual(len(text.splitlines()), 1, text)
            self.assertFalse(out.exists())
        self.refused("step1.ids is missing", "gradients", MINI, "--batch", self.batch(good, good), "--out", out, "--steps", 2)

    def test_ctrl_c_writes_nothing(self):
        rows = [[i % 4000 for i in range(512)]] * 8
        out = self.dir / "out.safetensors"
        p = subprocess.Popen([HADAL, "gradients", MINI, "--batch", str(self.batch(rows, rows)), "--precision", "f64", "--out", str(out)], stderr=subprocess.PIPE)
        time.sleep(2)
        self.assertIsNone(p.poll(), "was to run for long")
        p.send_signal(signal.SIGINT)
        said = p.communicate()[1].decode()
        self.assertEqual(p.returncode, 130, said)
        self.assertIn("nothing was written", said)
        self.assertFalse(out.exists())


if __name__ == "__main__":
    main()
