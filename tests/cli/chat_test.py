"""chat in a pipe and on a terminal."""
import json, os, pty, select, signal
from harness import Case, DATA, HADAL, MINI, main, run


class Pipe(Case):
    def test_each_line_is_a_turn(self):
        out = self.ok("chat", MINI, "--temperature", "0", stdin="What is the capital of France?\nHello, my name is Anna.\n").decode()
        self.assertEqual(out, "The capital of France is Paris.\nHello Anna! How can I help you today?\n")

    def test_fresh_conversations_give_the_expected_answers(self):
        rows = [json.loads(l) for l in (DATA / "golden/mini/greedy.jsonl").read_text().splitlines()]
        rows = [r for r in rows if "messages" in r and len(r["messages"]) == 1 and r["finish_reason"] == "stop"]
        out = self.ok("chat", "--temperature", "0", "--fresh", stdin="".join(r["messages"][0]["content"] + "\n" for r in rows)).decode()
        self.assertEqual(out.splitlines(), [r["text"] for r in rows])
        self.assertGreater(len(rows), 3)

    def test_a_message_that_does_not_fit_names_both_numbers(self):
        self.refused("more than the context of 16", "chat", MINI, "--context", "16", stdin="word " * 40 + "\n")

    def test_lines_as_windows_writes_them(self):
        out = self.ok("chat", MINI, "--temperature", "0", stdin="What is the capital of France?\r\n".encode("utf-8-sig")).decode()
        self.assertEqual(out, "The capital of France is Paris.\n")

    def test_no_input_no_output(self):
        self.assertEqual(self.ok("chat", MINI), b"")


class Terminal(Case):
    def open(self, *args):
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=str(self.dir))
            os.execv(HADAL, [HADAL, "chat", MINI, *(args or ("--temperature", "0"))])
        self.addCleanup(self.close, pid, fd)
        self.pid, self.fd, self.seen = pid, fd, b""
        self.wait_for(b"> ")

    def close(self, pid, fd):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(fd)

    def send(self, data):
        self.seen = b""
        os.write(self.fd, data)

    def wait_for_more(self):
        # Silence of this length is a hang, not slowness.
        ready, _, _ = select.select([self.fd], [], [], 120)
        self.assertTrue(ready, f"nothing more came after {self.seen[-300:]}")
        try:
            self.seen += os.read(self.fd, 65536)
        except OSError:
            self.fail(f"ended after {self.seen[-300:]}")

    def wait_for(self, text):
        while text not in self.seen:
            self.wait_for_more()

    def ends(self):
        while True:
            ready, _, _ = select.select([self.fd], [], [], 120)
            self.assertTrue(ready, f"does not end after {self.seen[-300:]}")
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def test_commands(self):
        self.open()
        self.send(b"What is 7 times 8?\r")
        self.wait_for(b"7 x 8 = 56")
        self.send(b"/stats\r")
        self.wait_for(b"tok/s")
        self.send(b"/help\r")
        self.wait_for(b"/system")
        self.send(b"/think on\r")
        self.wait_for(b"no switch for thinking")
        self.send(b"/frob\r")
        self.wait_for(b"/frob is not a command")
        saved = self.dir / "chat.json"
        self.send(f"/save {saved}\r".encode())
        self.wait_for(b"Saved 2 messages")
        self.assertEqual([m["role"] for m in json.loads(saved.read_text())], ["user", "assistant"])
        self.send(b"/clear\r")
        self.wait_for(b"> ")
        self.send(b"/exit\r")
        self.assertEqual(self.ends(), 0)
        self.assertTrue((self.dir / "hadal/history").exists())

    def test_ctrl_d_leaves(self):
        self.open()
        self.send(b"\x04")
        self.assertEqual(self.ends(), 0)

    def test_ctrl_c_at_the_prompt_clears_the_line(self):
        self.open()
        self.send(b"half a mess")
        self.wait_for(b"half a mess")
        self.send(b"\x03What is the capital of France?\r")
        self.wait_for(b"The capital of France is Paris.")

    def test_ctrl_c_stops_an_answer_and_keeps_the_chat(self):
        # At this temperature words are drawn almost evenly, so that an end token is rare and the answer long.
        self.open("--temperature", "50", "--seed", "5", "--isa", "ref", "--threads", "1")  # slow on purpose
        self.send(b"Tell me a story.\r")
        self.wait_for(b"Tell me a story.\r\n")
        while len(self.seen) < 100:
            self.wait_for_more()
        os.write(self.fd, b"\x03")
        self.wait_for(b"[stopped]")
        self.wait_for(b"> ")
        self.send(b"/stats\r")
        self.wait_for(b"tok/s")
        self.wait_for(b"> ")
        self.send(b"\x04")
        self.assertEqual(self.ends(), 0)


if __name__ == "__main__":
    main()
