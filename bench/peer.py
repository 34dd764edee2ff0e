#!/usr/bin/env python3
"""Rows of `hadal bench` and of ik_llama.cpp's programs that are the same work, in turns, as a Markdown table: medians, and the
median over the rounds of the ratio. bench/peer.md says what the rows are and what is not the same.

    python3 bench/peer.py MODEL --peer BIN_DIR --gguf FILE [--rounds 5] [--rows decode,prompt,depth,serving]

MODEL is made by `hadal init`, FILE by make_gguf.py of the same config; BIN_DIR has llama-bench and llama-server.
"""
import argparse, contextlib, json, os, pathlib, socket, statistics, subprocess, sys, tempfile, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
HADAL = os.environ.get("HADAL", str(HERE.parent / "build/hadal"))
STREAMS, STEPS, DEPTH, PROMPT = 8, 32, 4096, 512

# The rest of the command line behind `hadal bench` and behind llama-bench.
BENCHES = {
    "decode": (["decode", "--steps", STEPS], ["-p", 0, "-n", STEPS]),
    "prompt": (["prompt", "--lengths", PROMPT], ["-p", PROMPT, "-n", 0]),
    "depth": (["decode", "--depth", DEPTH, "--steps", STEPS], ["-p", 0, "-n", 0, "-gp", f"{DEPTH},{STEPS}"]),
}
NAMES = {
    "decode": "decode",
    "prompt": f"prompt of {PROMPT}",
    "depth": f"decode at depth {DEPTH}",
    "serving": f"{STREAMS} streams over HTTP, prompts of {PROMPT}, answers of 128, all tokens",
}


def output_of(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def hadal_bench(o, row):
    """By activations. The machine's own loops go to stderr: a round in which they differ from the others was not idle."""
    kind, *rest = BENCHES[row][0]
    out = output_of([HADAL, "bench", kind, o.model, *rest, "--activations", "f32,int8", "--kv-cache", "bf16", "--threads", o.threads,
                     "--runs", 1, "--json"])
    rows = json.loads(out)["rows"]
    print("   ", *(f"{loop} {rate:.1f}" for loop, rate in rows[0]["rates"].items()), file=sys.stderr)
    return {activations: r["median"] for activations, r in zip(("f32", "int8"), rows)}


def peer_options(o):
    return ["-m", o.gguf, "-t", o.threads, "-mla", 3, "-fa", 1]


def peer_bench(o, row):
    out = output_of([o.peer / "llama-bench", *peer_options(o), "-rtr", int(o.repack), *BENCHES[row][1], "-r", 1, "-o", "json"])
    return json.loads(out)[-1]["avg_ts"]


def free_port():
    """Another one for each server: the last one's may be refused for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@contextlib.contextmanager
def server(command, ready):
    """Yields its port."""
    port = free_port()
    command = [*command, "--port", port]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        try:
            while not answers(port, ready):
                if process.poll() is not None:
                    log.seek(0)
                    sys.exit(f"{command[0]} ended: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.5)
            yield port
        finally:
            process.terminate()
            process.wait()


def answers(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def ask(port, seed):
    out = output_of([sys.executable, HERE / "peer_serving.py", port, "--streams", STREAMS, "--prompt", PROMPT, "--seed", seed])
    print("   ", out.strip(), file=sys.stderr, flush=True)
    return json.loads(out)["tokens_per_second"]


def hadal_serving(o, seed):
    speeds = {}
    for activations in ("f32", "int8"):
        with server([HADAL, "serve", o.model, "--access-log", "off", "--batch", STREAMS, "--speculate", "off",
                     "--kv-cache", "bf16", "--activations", activations, "--threads", o.threads], "/ready") as port:
            speeds[activations] = ask(port, seed)
    return speeds


def peer_serving(o, seed):
    repack = ["-rtr"] if o.repack else []
    with server([o.peer / "llama-server", *peer_options(o), *repack, "--host", "127.0.0.1", "-np", STREAMS,
                 "-c", STREAMS * 1024, "--cache-ram", 0], "/health") as port:
        return ask(port, seed)


def measure(o, row, seed):
    if row == "serving":
        return {**hadal_serving(o, seed), "peer": peer_serving(o, seed)}
    return {**hadal_bench(o, row), "peer": peer_bench(o, row)}


def line(row, rounds):
    median = {what: statistics.median(r[what] for r in rounds) for what in rounds[0]}
    ratio = {what: statistics.median(r[what] / r["peer"] for r in rounds) for what in ("f32", "int8")}
    return (f"| {NAMES[row]} | {median['f32']:.2f} | {median['int8']:.2f} | {median['peer']:.2f} | {ratio['f32']:.2f}x | "
            f"{ratio['int8']:.2f}x |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--peer", type=pathlib.Path, required=True, help="directory of its programs")
    p.add_argument("--gguf", required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rows", default="decode,prompt,depth", help="of decode, prompt, depth, serving")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--no-repack", dest="repack", action="store_false", help="leave -rtr away: its weights as in the file, mapped")
    o = p.parse_args()
    rows = o.rows.split(",")
    if unknown := [row for row in rows if row not in NAMES]:
        sys.exit(f"--rows {unknown[0]}: there are {', '.join(NAMES)}")
    for program in {"llama-server" if row == "serving" else "llama-bench" for row in rows}:
        if not os.access(o.peer / program, os.X_OK):
            sys.exit(f"--peer {o.peer}: there is no program {program}")
    if not os.access(HADAL, os.X_OK):
        sys.exit(f"{HADAL}: no such program; build it with ./run, or name another one in HADAL")
    if not os.path.isfile(o.gguf):
        sys.exit(f"--gguf {o.gguf}: no such file; bench/make_gguf.py makes one")
    rounds = {row: [] for row in rows}
    for i in range(o.rounds):
        for row in rows:
            rounds[row].append(measure(o, row, i))
            print(f"{i + 1}/{o.rounds} {row}: {rounds[row][-1]}", file=sys.stderr, flush=True)
    print("| tok/s | Hadal, f32 | Hadal, --fast | ik_llama.cpp | f32 | --fast |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(line(row, rounds[row]))


if __name__ == "__main__":
    main()
