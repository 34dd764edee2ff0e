#!/usr/bin/env python3
"""What serving costs beside the bare engine: starts `hadal serve MODEL`, asks it with token ids over loopback, and prints
a Markdown table. The model's own speed is measured in turns, by `hadal bench batch`.

    python3 bench/serving.py MODEL [--streams 8] [--tokens 64] [--prompt 4000] [--rounds 3]
"""
import argparse, asyncio, json, os, pathlib, re, statistics, subprocess, sys, tempfile, time

HADAL = os.environ.get("HADAL", str(pathlib.Path(__file__).resolve().parent.parent / "build/hadal"))


class Server:
    def __init__(self, model, *flags):
        self.process = subprocess.Popen([HADAL, "serve", model, "--port", "0", "--access-log", "off", *map(str, flags)], stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if found := re.search(rb"listening on http://.*:(\d+)", line):
                self.port = int(found[1])
                return
        sys.exit("no server")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()


async def stream(port, prompt, tokens, times):
    """Arrival times of an answer's pieces go into `times`; returns when it began."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True, "return_token_ids": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    begun = time.monotonic()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
    status = await reader.readline()
    if b" 200 " not in status:
        sys.exit(f"the server says {status.decode().strip()}: {(await reader.read()).decode().splitlines()[-1]}")
    while piece := await reader.readline():
        if piece.startswith(b"data: {") and b'"error"' in piece:
            sys.exit(piece.decode())
        if piece.startswith(b"data: {"):
            times.append(time.monotonic())
        elif piece.startswith(b"data: [DONE]"):
            break
    writer.close()
    return begun


def ids(count, seed):
    """Of tokens that every model has."""
    return [3 + (i * 7919 + seed * 104729) % 3900 for i in range(count)]


def bench_batch(model, streams, tokens, flags):
    """At the depths that the streams have, too: attention is most of a small model's work."""
    out = subprocess.run([HADAL, "bench", "batch", model, "--batch", str(streams), "--steps", str(tokens), "--runs", "3", "--json", *flags], capture_output=True, check=True)
    row = json.loads(out.stdout)["rows"][0]
    return row["median"]


async def throughput(server, streams, tokens, seed):
    """Tokens a second while all streams run, and CPU seconds of the server for each of them."""
    times = [[] for _ in range(streams)]
    running = [asyncio.create_task(stream(server.port, ids(2, seed * 1000 + i), tokens, times[i])) for i in range(streams)]
    while not all(times):
        await asyncio.sleep(0.005)
    begin, cpu, done = time.monotonic(), server.cpu(), sum(map(len, times))
    while not any(t.done() for t in running):
        await asyncio.sleep(0.005)
    seconds, cpu, done = time.monotonic() - begin, server.cpu() - cpu, sum(map(len, times)) - done
    await asyncio.gather(*running)
    if done == 0:
        sys.exit("the streams ended before they all ran; ask for more --tokens")
    return done / seconds, cpu / done


async def first_token(server, prompt):
    times = []
    return -await stream(server.port, prompt, 1, times) + times[0]


async def intrusion(server, streams, tokens, prompt):
    """Gaps between tokens of running streams before a long prompt enters and while it is computed; its first token."""
    times = [[] for _ in range(streams)]
    running = [asyncio.create_task(stream(server.port, ids(2, 77 + i), tokens, times[i])) for i in range(streams)]
    while min(map(len, times)) < 12:
        await asyncio.sleep(0.01)
    entered, first = time.monotonic(), []
    begun = await stream(server.port, prompt, 1, first)
    for task in running:
        task.cancel()
    gaps = [(b, b - a) for t in times for a, b in zip(t, t[1:])]
    before = [g for at, g in gaps if at < entered]
    during = [g for at, g in gaps if entered <= at <= first[0]]
    return before, during, first[0] - begun


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def throughput_rows(o):
    rates, bare, cpus = [], [], []
    for r in range(o.rounds):
        bare.append(bench_batch(o.model, o.streams, o.tokens, o.flags))
        with Server(o.model, "--batch", o.streams, "--speculate", "off", *o.flags) as s:
            rate, cpu = asyncio.run(throughput(s, o.streams, o.tokens, r))
        rates.append(rate)
        cpus.append(cpu)
    share = statistics.median(a / b for a, b in zip(rates, bare))
    threads = len(os.sched_getaffinity(0))
    # All threads of the benchmark are busy all the time; where others are busy too, its best run is nearest to the truth.
    least, cpu = threads / max(bare), statistics.median(cpus)
    return [(f"{o.streams} streams over HTTP, tok/s", f"{statistics.median(rates):.1f}", f"{statistics.median(bare):.1f} (bench batch)", f"{100 * share:.1f} %"),
            ("CPU milliseconds a token", f"{1e3 * cpu:.3f}", f"{1e3 * least:.3f} (bench batch, {threads} threads)", f"{cpu / least:.2f}x")]


def prompt_rows(o):
    with Server(o.model, "--batch", o.streams + 1, "--speculate", "off", *o.flags) as s:
        cold = statistics.median(asyncio.run(first_token(s, ids(o.prompt, r))) for r in range(o.rounds))
        warm = statistics.median(asyncio.run(first_token(s, ids(o.prompt, r))) for r in range(o.rounds))
        before, during, first = asyncio.run(intrusion(s, o.streams, 4000, ids(o.prompt, 999)))
    p50, p99 = statistics.median(before), percentile(during, 0.99)
    return [(f"first token of {o.prompt}, cached prefix, s", f"{warm:.3f}", f"{cold:.3f} (cold)", f"{100 * warm / cold:.1f} %"),
            (f"p99 between tokens while a prompt of {o.prompt} enters, ms", f"{1e3 * p99:.0f}", f"{1e3 * p50:.0f} (p50 before)", f"{p99 / p50:.2f}x"),
            ("that prompt's first token, s", f"{first:.2f}", f"{cold:.2f} (idle)", f"{first / cold:.2f}x")]


def disk_rows(o):
    cold, warm = [], []
    for r in range(o.rounds):
        with tempfile.TemporaryDirectory() as kv:
            flags = ["--speculate", "off", "--kv-disk", kv, *o.flags]
            with Server(o.model, *flags) as s:
                cold.append(asyncio.run(first_token(s, ids(o.prompt, r))))
            with Server(o.model, *flags) as s:
                warm.append(asyncio.run(first_token(s, ids(o.prompt, r) + [5])))
    cold, warm = statistics.median(cold), statistics.median(warm)
    return [(f"first token of {o.prompt}, prefix on disk (--kv-disk), s", f"{warm:.3f}", f"{cold:.3f} (cold)", f"{100 * warm / cold:.1f} %")]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--streams", type=int, default=8)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--prompt", type=int, default=4000, help="tokens of the long prompt; 0: leave it out")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", choices=["throughput", "prompt", "disk"], help="one part of it")
    p.usage = "%(prog)s MODEL [options] [-- flags for the server and the benchmark]"
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    o = p.parse_args(sys.argv[1:end])
    o.flags = sys.argv[end + 1:]
    rows = []
    if o.only in (None, "throughput"):
        rows += throughput_rows(o)
    if o.prompt and o.only in (None, "prompt"):
        rows += prompt_rows(o)
    if o.prompt and o.only in (None, "disk"):
        rows += disk_rows(o)
    print("| what | serving | beside | |\n| --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


main()
