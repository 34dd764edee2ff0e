#!/usr/bin/env bash
# tensorboard 2.21.0, seen 2026-11-28: three readers of one package show three different runs where a run was resumed.
#
# A run writes steps 1 to 6, is killed, and is resumed from step 3 into a second event file. Such a file may say so with
# a SessionLog.START event at step 4, on which readers drop what they have of step 4 and later. EventAccumulator does,
# but for text and other tensors, which it keeps. The page's server in Python (--load_fast=false) takes the first START
# that it meets for the beginning of the run and drops nothing: the usual case of one START in the resumed file, which is
# what purge_step of PyTorch's SummaryWriter writes, gives a curve that goes back. The page's fast server, the default,
# never looks at START: it drops later points of a tag when the tag is written again, and shows for ever those of a tag
# that is not, such as a validation under another interval.
#
# Why a trainer must know: every event file has to begin with a START, the first one too, and later events have to be
# cut out of the older files at a resume; then all three show the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet tensorboard==2.21.0
cd "$work"
"$work/env/bin/python" - 2>"$work/log" <<'PY' || { cat "$work/log"; exit 1; }
import json
import sys
import time
import urllib.parse
import urllib.request

import tensorboard
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.text.summary import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

print("tensorboard", tensorboard.__version__)
failures = 0


def write(folder, start, first, last, start_step):
    """A file with loss at each step; after the first steps also a validation and a text at steps 3 and 6."""
    writer = EventFileWriter(folder, filename_suffix="." + str(first))
    if start:
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        writer.add_event(event_pb2.Event(wall_time=1, step=start_step, session_log=session))
    for step in range(first, last + 1):
        values = [summary_pb2.Summary.Value(tag="loss", simple_value=step)]
        if first == 1 and step % 3 == 0:
            values += [summary_pb2.Summary.Value(tag="validation", simple_value=step)]
            values += text_pb("sample", str(step)).value
        summary = summary_pb2.Summary(value=values)
        writer.add_event(event_pb2.Event(wall_time=step, step=step, summary=summary))
    writer.close()


def accumulator(folder):
    seen = EventAccumulator(folder)
    seen.Reload()
    scalars = {tag: [e.step for e in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}
    return scalars | {tag: [e.step for e in seen.Tensors(tag)] for tag in seen.Tags()["tensors"]}


def page(folder, fast):
    board = program.TensorBoard()
    board.configure(argv=["tensorboard", "--logdir", folder, "--port", "0", "--load_fast", fast])
    url = board.launch()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(path, **query):
        with opener.open(f"{url}data/plugin/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.loads(answer.read())

    for _ in range(60):
        time.sleep(0.5)
        if get("scalars/tags").get("."):
            break
    time.sleep(2)
    out = {tag: [step for _, step, _ in get("scalars/scalars", run=".", tag=tag)] for tag in ("loss", "validation")}
    return out | {"sample": [e["step"] for e in get("text/text", run=".", tag="sample")]}


def expect(what, seen, loss, validation, sample):
    global failures
    stated = {"loss": loss, "validation": validation, "sample": sample}
    failures += seen != stated
    print(f"{what}: {json.dumps(seen)}" + ("" if seen == stated else f"  BUT STATED: {json.dumps(stated)}"))


right, back, both = [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 4, 5], [3, 6]
cases = {
    "no START": ((False, False), (back, both, both), (back, both, both), (right, both, both)),
    "START in the second file": ((False, True), (right, [3], both), (back, both, both), (right, both, both)),
    "START in both files": ((True, True), (right, [3], both), (right, [3], [3]), (right, both, both)),
}
for name, (starts, by_accumulator, slow, fast) in cases.items():
    folder = name.replace(" ", "-")
    write(folder, starts[0], 1, 6, 0)
    time.sleep(1.1)  # files are read in the order of their names, which begin with the second
    write(folder, starts[1], 4, 5, 4)
    expect(f"{name}, EventAccumulator", accumulator(folder), *by_accumulator)
    expect(f"{name}, page, Python server", page(folder, "false"), *slow)
    expect(f"{name}, page, fast server", page(folder, "true"), *fast)
sys.exit(failures != 0)
PY
