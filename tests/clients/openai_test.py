"""The openai packages of PyPI and npm, and curl, against the bundled model."""
import pathlib, shutil, subprocess, unittest

from installed import node_with, python_with, talk
from harness import MINI, main
from server import Server

HERE = pathlib.Path(__file__).resolve().parent


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(MINI, "--access-log", "off", "--testing")
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        code, said = cls.server.stop()
        assert code == 0, said

    def test_python(self):
        self.assertEqual(talk([python_with("openai"), HERE / "openai_python.py", self.url]), "ok\n")

    def test_node(self):
        folder = node_with("openai")
        shutil.copy(HERE / "openai_node.mjs", folder / "test.mjs")
        self.assertEqual(talk(["node", "test.mjs", self.url], cwd=folder), "ok\n")

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("there is no curl here")
        body = '{"prompt": "The sea", "max_tokens": 5, "temperature": 0, "stream": true}'
        out = talk(["curl", "-sSN", "--fail", self.url + "/v1/completions", "-d", body])
        self.assertTrue(out.startswith("data: {") and out.endswith("data: [DONE]\n\n"), out)
        # A body so long that curl asks before it sends it.
        p = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", self.url + "/tokenize", "-d", "@-"], input=b'{"prompt": "' + b"word " * 400000 + b'"}', capture_output=True)
        self.assertEqual(p.stdout, b"200", p.stderr)


if __name__ == "__main__":
    main()
