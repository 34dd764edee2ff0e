"""For the tests of `hadal serve`: a server of their own, and requests to it."""
import http.client, json, os, re, signal, socket, subprocess, threading

from harness import HADAL, MINI


class Server:
    """A running `hadal serve` on a free port of loopback; stderr's lines but the first are kept."""

    def __init__(self, model, *flags, env=None):
        self.process = subprocess.Popen([HADAL, "serve", str(model), "--port", "0", *map(str, flags)], stderr=subprocess.PIPE, env={**os.environ, "XDG_DATA_HOME": "/nonexistent", **(env or {})})
        self.said = b""
        while not (found := re.search(rb"listening on (https?)://([^\n]*):(\d+)\n", self.said)):
            line = self.process.stderr.readline()
            if not line:
                raise AssertionError(f"no server: {self.said.decode(errors='replace')}")
            self.said += line
        self.reader = threading.Thread(target=self.read_on, daemon=True)  # a full pipe would hold the server up
        self.reader.start()
        self.scheme, self.host, self.port = found[1].decode(), found[2].decode().strip("[]"), int(found[3])

    def read_on(self):
        for line in self.process.stderr:
            self.said += line

    def connect(self, timeout=120):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(self, method, path, body=None, headers={}):
        """Status, headers in lower case, bytes."""
        c = self.connect()
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        c.request(method, path, data, {"content-type": "application/json", **headers} if data else headers)
        r = c.getresponse()
        out = r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        c.close()
        return out

    def post(self, path, body, headers={}):
        status, _, data = self.request("POST", path, body, headers)
        return status, json.loads(data)

    def get(self, path, headers={}):
        status, _, data = self.request("GET", path, None, headers)
        return status, json.loads(data)

    def ok(self, path, body):
        status, json_ = self.post(path, body)
        assert status == 200, json_
        return json_

    def events(self, path, body):
        """The data of a stream's events, without [DONE], which must be the last."""
        status, headers, data = self.request("POST", path, {**body, "stream": True})
        assert status == 200, data
        assert headers["content-type"].startswith("text/event-stream"), headers
        found = [e[6:] for e in data.decode().split("\n\n") if e.startswith("data: ")]
        assert found[-1] == "[DONE]", data
        return [json.loads(e) for e in found[:-1]]

    def raw(self, data, timeout=30):
        """What comes back for these bytes until the server closes."""
        s = socket.create_connection((self.host, self.port), timeout=timeout)
        s.sendall(data)
        out = b""
        while piece := s.recv(65536):
            out += piece
        s.close()
        return out

    def metric(self, name):
        _, _, text = self.request("GET", "/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.decode().splitlines() if re.match(re.escape(name) + r"[{ ]", line))

    def stop(self, how=signal.SIGTERM):
        """Exit code and the rest of stderr."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(120)
        self.reader.join(10)
        return self.process.returncode, self.said.decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process.stderr.close()


def join(events, index=0):
    """Text of a chat stream's choice and what ended it."""
    text, end = "", None
    for e in events:
        for c in e["choices"]:
            if c["index"] == index:
                text += c["delta"].get("content") or ""
                end = c["finish_reason"] or end
    return text, end
