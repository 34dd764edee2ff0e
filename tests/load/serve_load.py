#!/usr/bin/env python3
"""Load on `hadal serve`: many streams at a time in rounds, among them clients that leave, that read slowly, and that send too much or nonsense.

    python3 tests/load/serve_load.py MODEL [--streams 1000] [--rounds 3] [--seconds 20]

Not part of the tests (it takes minutes). Ends with an error if an answer is not that of its seed, a request that was accepted is neither answered nor
cancelled, the server dies, or its memory after the last round is more than 5 % above that after the one before."""
import argparse, asyncio, json, os, pathlib, random, re, signal, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HADAL = os.environ.get("HADAL", str(ROOT / "build/hadal"))
PROMPTS = ["The sea is", "I have a", "Once upon a time", "What is 7 times 8?", "A b c"]


class Failed(Exception):
    pass


def request_of(body, path="/v1/completions"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(data)) + data


def body_of(seed, tokens, stream=True):
    return {"prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, "temperature": 1, "max_tokens": tokens, "ignore_eos": True, "stream": stream}


async def exchange(port, data, pause=0.0, leave_after=None):
    """All that comes back; slowly with a pause between reads, or only so many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024 if pause else 65536)
    out = b""
    try:
        writer.write(data)
        await writer.drain()
        while piece := await reader.read(256 if pause else 65536):
            out += piece
            if leave_after is not None and len(out) > leave_after:
                writer.transport.abort()
                return None
            if pause:
                await asyncio.sleep(pause)
    except ConnectionError:
        return None
    finally:
        writer.close()
    return out


def text_of(answer):
    body = answer.split(b"\r\n\r\n", 1)[1]
    pieces = re.findall(rb"data: (\{.*\})\n", re.sub(rb"\r\n[0-9a-f]+\r\n", b"", b"\r\n" + body))
    return "".join(c["text"] for p in pieces for c in json.loads(p).get("choices", []))


class Load:
    def __init__(self, args, port):
        self.args, self.port = args, port
        self.expected = {}  # of seeds
        self.counts = {}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def good(self, r, pause=0.0):
        seed = r.randrange(40)
        answer = await exchange(self.port, request_of(body_of(seed, self.args.tokens)), pause)
        if answer is None or not answer.startswith(b"HTTP/1.1 200"):
            if answer and answer.startswith(b"HTTP/1.1 503"):
                return self.count("overloaded")
            if pause:
                return self.count("slow reader dropped")
            raise Failed(f"no answer: {answer and answer[:300]!r}")
        if not answer.rstrip(b"0\r\n").endswith(b"data: [DONE]"):
            raise Failed(f"a stream without its end: {answer[-300:]!r}")
        if self.expected.setdefault(seed, text_of(answer)) != text_of(answer):
            raise Failed(f"seed {seed} has two answers: {self.expected[seed]!r} and {text_of(answer)!r}")
        self.count("slow reader answered" if pause else "answered")

    async def one(self, r):
        kind = r.random()
        if kind < 0.7:
            await self.good(r)
        elif kind < 0.8:
            await exchange(self.port, request_of(body_of(r.randrange(40), self.args.tokens)), leave_after=r.randrange(400, 3000))
            self.count("left")
        elif kind < 0.85:
            await self.good(r, pause=0.02)
        elif kind < 0.9:
            answer = await exchange(self.port, request_of(b'{"prompt": "' + b"x" * (2 << 20) + b'"}'))
            if answer is not None and not answer.startswith(b"HTTP/1.1 413"):
                raise Failed(f"too much was taken: {answer[:200]!r}")
            self.count("oversize")
        else:
            data = json.dumps(body_of(1, 4)).encode()
            at = r.randrange(len(data))
            broken = data[:at] + bytes([r.randrange(256)]) + data[at + 1:]
            answer = await exchange(self.port, r.choice([request_of(broken), os.urandom(200) + b"\r\n\r\n", request_of(data)[:r.randrange(20, 90)] + b"\r\n\r\n"]))
            if answer is not None and answer.startswith(b"HTTP/1.1 5"):
                raise Failed(f"nonsense is the server's fault: {answer[:300]!r}")
            self.count("malformed")

    async def client(self, number, until):
        r = random.Random(self.args.seed * 100003 + number)
        while time.monotonic() < until:
            await self.one(r)

    async def round(self, number):
        until = time.monotonic() + self.args.seconds
        await asyncio.gather(*(self.client(number * self.args.streams + i, until) for i in range(self.args.streams)))


def memory(process):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1])


async def metric(port, name):
    text = (await exchange(port, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).decode()
    return sum(float(l.rsplit(" ", 1)[1]) for l in text.splitlines() if re.match(re.escape(name) + r"[{ ]", l))


async def run(args, process, port):
    load, after = Load(args, port), []
    for number in range(args.rounds):
        await load.round(number)
        for _ in range(200):
            if await metric(port, "vllm:num_requests_running") == 0:
                break
            await asyncio.sleep(0.1)
        else:
            raise Failed("requests run on although nobody waits for them")
        await asyncio.sleep(1)
        after.append(memory(process))
        print(f"round {number + 1}: {after[-1] / 1024:.0f} MiB, {load.counts}", flush=True)
    if len(after) > 1 and after[-1] > after[-2] * 1.05:
        raise Failed(f"memory grows: {after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    process = subprocess.Popen([HADAL, "serve", args.model, "--port", "0", "--batch", str(args.batch), "--max-body", "1MB", "--write-seconds", "5", "--header-seconds", "3", "--body-seconds", "3", "--access-log", "off"], stderr=subprocess.PIPE)
    line = process.stderr.readline().decode()
    if not (found := re.search(r"listening on http://[^:]*:(\d+)", line)):
        sys.exit(line)
    try:
        asyncio.run(run(args, process, int(found[1])))
    except Failed as e:
        sys.exit(f"failed: {e}")
    finally:
        alive = process.poll() is None
        process.send_signal(signal.SIGTERM) if alive else None
        code = process.wait(90)
    if not alive or code != 0:
        sys.exit(f"the server ended with {code}: {process.stderr.read().decode(errors='replace')[-2000:]}")
    print("ok")


if __name__ == "__main__":
    main()
