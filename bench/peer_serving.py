#!/usr/bin/env python3
"""Tokens a second of any server with OpenAI's /v1/completions that takes token ids, over loopback: all streams ask at once,
each for another prompt. Answers are drawn at temperature 1, because greedy answers of random weights fall into loops, and
streams that say the same choose the same experts. Prints a line of JSON; bench/peer.md has the commands.

    python3 bench/peer_serving.py PORT [--streams 8] [--prompt 512] [--tokens 128] [--vocabulary 32768] [--seed 0]
"""
import argparse, asyncio, json, random, statistics, sys, time


def event_of(line):
    """What a line of server-sent events says, {} if nothing."""
    return json.loads(line[6:]) if line.startswith(b"data: {") else {}


async def ask(port, prompt, tokens, seed, pieces):
    """Appends (time, what a token is called) to `pieces` for every token that comes."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True, "return_token_ids": True,
                       "temperature": 1, "top_k": 40, "top_p": 1, "min_p": 0, "seed": seed}).encode()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    except OSError as error:
        sys.exit(f"port {port}: {error.strerror or error}")
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                 b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
    status = await reader.readline()
    if b" 200 " not in status:
        sys.exit(f"the server says {status.decode().strip()}: {(await reader.read()).decode()[-500:]}")
    while line := await reader.readline():
        event = event_of(line)
        if "error" in event:
            sys.exit(f"the server says {event['error']}")
        for choice in event.get("choices", []):
            ids = choice.get("token_ids")
            names = ids if ids is not None else [choice["text"]] if choice.get("text") else []
            pieces += [(time.monotonic(), name) for name in names]
    writer.close()


async def run(o):
    draw = random.Random(o.seed)
    prompts = [[draw.randrange(2, o.vocabulary) for _ in range(o.prompt)] for _ in range(o.streams)]
    await ask(o.port, [draw.randrange(2, o.vocabulary) for _ in range(8)], 4, 0, [])  # what is done once
    pieces = [[] for _ in prompts]
    begin = time.monotonic()
    await asyncio.gather(*(ask(o.port, p, o.tokens, o.seed * 1000 + i + 1, pieces[i]) for i, p in enumerate(prompts)))
    return begin, pieces


def report(o, begin, pieces):
    if any(len(p) != o.tokens for p in pieces):
        sys.exit(f"answers of {[len(p) for p in pieces]} tokens instead of {o.tokens}")
    times = [[at for at, _ in p] for p in pieces]
    seconds = max(t[-1] for t in times) - begin
    together, first_end = max(t[0] for t in times), min(t[-1] for t in times)
    while_all = sum(together < at <= first_end for t in times for at in t)
    return {"seconds": seconds,
            "tokens_per_second": o.streams * (o.prompt + o.tokens) / seconds,
            "answer_tokens_per_second": o.streams * o.tokens / seconds,
            "answer_tokens_per_second_while_all_answer": while_all / (first_end - together) if while_all else None,
            "first_token_seconds": statistics.median(t[0] - begin for t in times),
            "different_tokens": len({name for p in pieces for _, name in p}) / (o.streams * o.tokens)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("port", type=int)
    p.add_argument("--streams", type=int, default=8)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--vocabulary", type=int, default=32768)
    p.add_argument("--seed", type=int, default=0)
    o = p.parse_args()
    print(json.dumps(report(o, *asyncio.run(run(o)))))


main()
