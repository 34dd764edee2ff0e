"""For the command-line tests beside this file: runs the built program ($HADAL) from the repository's root."""
import json, os, pathlib, struct, subprocess, sys, tempfile, unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HADAL = os.environ.get("HADAL", str(ROOT / "build/hadal"))
MINI = str(ROOT / "models/mini")
DATA = pathlib.Path(os.environ.get("HADAL_TEST_DATA", ROOT / "build/tests/data"))  # unpacked by the build


def run(*args, stdin=b"", **kwargs):
    """The finished process; stdin is bytes or text."""
    stdin = stdin.encode() if isinstance(stdin, str) else stdin
    return subprocess.run([HADAL, *map(str, args)], input=stdin, capture_output=True, **kwargs)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def ok(self, *args, stdin=b""):
        p = run(*args, stdin=stdin)
        self.assertEqual(p.returncode, 0, p.stderr.decode(errors="replace"))
        return p.stdout

    def refused(self, fragment, *args, stdin=b""):
        """Exit code 2, sentences on stderr that begin with the program's name, nothing on stdout."""
        p = run(*args, stdin=stdin)
        text = p.stderr.decode(errors="replace")
        self.assertEqual(p.returncode, 2, text)
        self.assertIn(fragment, text)
        self.assertTrue(all(line.startswith("hadal: ") for line in text.splitlines()), text)
        self.assertEqual(p.stdout, b"")
        return text


def safetensors(path):
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in header.items() if k != "__metadata__"}


def main():
    unittest.main(argv=[sys.argv[0]])
