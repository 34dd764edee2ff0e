#!/usr/bin/env bash
# openai (Python) 3.57.0, seen 2026-11-28: the helper that puts a stream together again concatenates every text and adds
# every number of the deltas, also those that say the same thing again.
#
# client.chat.completions.stream() of the package gives a finished message at the end. A server that repeats
# "role": "assistant" in each delta, as the published schema of a chunk allows, gives a message of the role
# "assistantassistant"; one that repeats the id and the name of a tool call beside each piece of its arguments, a call
# "c1c1" of the function "ff". A number in a delta that the package does not know is summed, and true and true are 2.
# Beside the delta it is the reverse: a field of a choice that the package does not know keeps the value of the first
# chunk whatever later ones say, and a null "usage" in a last chunk erases the usage that came before it.
# Read chunk by chunk, with stream=True of create(), nothing of this shows.
#
# Why an engine must know: a server must send role, id, type and name once, in the first delta that has them, keep
# counters and flags of its own out of deltas, put its own fields of a choice into every chunk or into none, and end
# with the chunk that has the usage.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet openai==3.57.0
NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$work/env/bin/python" - <<'PY'
import http.server
import json
import sys
import threading

import openai

print("openai", openai.__version__)
chunks = []
failures = 0


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for data in [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]:
            self.wfile.write(f"data: {data}\n\n".encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)
request = {
    "model": "m",
    "messages": [{"role": "user", "content": "?"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}


def chunk(delta, finish_reason=None, **of_choice):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **of_choice}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def assembled(*sent):
    chunks[:] = sent
    with client.chat.completions.stream(**request) as stream:
        return stream.get_final_completion()


def expect(what, seen, stated):
    global failures
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


def call(arguments, **more):
    function = {"arguments": arguments, **({"name": "f"} if more else {})}
    return {"tool_calls": [{"index": 0, "function": function, **more}]}


first = {"role": "assistant", "content": "a"}
once = [chunk(first), chunk({"content": "b"}), chunk({}, "stop")]
again = [chunk(first), chunk({"role": "assistant", "content": "b"}), chunk({}, "stop")]
expect("role sent once", assembled(*once).choices[0].message.role, "assistant")
expect("role sent twice", assembled(*again).choices[0].message.role, "assistantassistant")
chunks[:] = again
each = [one.choices[0].delta.role for one in client.chat.completions.create(**request, stream=True)]
expect("role sent twice, chunk by chunk", each, ["assistant", "assistant", None])

named = {"id": "c1", "type": "function"}
calls = (("once", call("}"), ("c1", "f", "{}")), ("twice", call("}", **named), ("c1c1", "ff", "{}")))
for what, second, stated in calls:
    sent = [{"role": "assistant"}, call("{", **named), second]
    message = assembled(*map(chunk, sent), chunk({}, "tool_calls")).choices[0].message
    tool = message.tool_calls[0]
    expect(f"call named {what}", (tool.id, tool.function.name, tool.function.arguments), stated)

counted = assembled(chunk({**first, "n": 1, "flag": True}), chunk({"content": "b", "n": 2, "flag": True}, "stop"))
expect("1 and 2, true and true in deltas", (counted.choices[0].message.n, counted.choices[0].message.flag), (3, 2))
reason = assembled(chunk(first, stop_reason=None), chunk({}, "stop", stop_reason="###"))
expect("own field of a choice, null then ###", reason.choices[0].stop_reason, None)
usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
bare = {**chunk({}), "choices": []}
with_usage = assembled(chunk(first, "stop"), {**bare, "usage": usage})
expect("usage last", with_usage.usage.total_tokens, 2)
erased = assembled(chunk(first, "stop"), {**bare, "usage": usage}, {**bare, "usage": None})
expect("usage, then null", erased.usage, None)
server.shutdown()
sys.exit(failures != 0)
PY
