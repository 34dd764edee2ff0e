#!/usr/bin/env python3
"""What checkpoints, logs and validation take of a training run's time.

  python3 bench/training_overhead.py --pairs 2 --steps 50     # about four minutes on two cores

The same run with checkpoints every so many steps and with none, in turns, the same number of steps each. The clock is that of TensorBoard's
events, which are written behind each step: what lies between two of them is the step's own time (`seconds` of log.jsonl) and the time outside
of it - the log's line and events, a validation, the copy of the state that a checkpoint is written of. The writing itself is a thread's, beside
the steps: it is found in the difference between the runs, of seconds, which a machine that others use hides, and of processor time, which is what
the steps can lose at the most. A share is that of one checkpoint a minute.
"""
import argparse, json, os, pathlib, resource, statistics, struct, sys, tempfile

from training import ROOT, output_of, prepare


def event_times(run):
    """{step: seconds} of the events that steps leave (TFRecords; field 1 of an event is its time, field 2 its step)."""
    times = {}
    for path in sorted(run.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = data[at + 12:at + 12 + size]
            at += 16 + size
            if b"loss/main" in event and event[0] == 0x09 and event[9] == 0x10:
                step, shift = 0, 0
                for byte in event[10:]:
                    step |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                (times[step],) = struct.unpack_from("<d", event, 1)
    return times


class Run:
    def __init__(self, options, path, folder, name, every):
        settings = [f"run_dir={folder}/{name}", f"length.steps={options.steps}", f"checkpoint.every_steps={every}", "checkpoint.every_minutes=0",
                    f"log.validation_every={options.validation_every}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output_of([options.hadal, "train", path, *[x for s in settings for x in ("--set", s)]])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        records = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        seconds = {r["step"]: r["seconds"] for r in records if r["kind"] == "step"}
        times = event_times(folder / name)
        # The last step is left out: what comes at the end comes with or without checkpoints.
        last = options.steps - 1
        self.wall = times[last] - times[1]
        self.step = statistics.median(seconds.values())
        outside = {n: times[n + 1] - times[n] - seconds[n + 1] for n in range(1, last)}
        validated = {r["step"] for r in records if r["kind"] == "validation"}
        saved = {n for n in outside if every and n % every == 0}
        self.log = statistics.median(t for n, t in outside.items() if n not in validated | saved)
        self.validation = [t - self.log for n, t in outside.items() if n in validated - saved]
        self.copy = [t - self.log for n, t in outside.items() if n in saved - validated]
        self.checkpoints = len(saved)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hadal", default=os.environ.get("HADAL", str(ROOT / "build/hadal")))
    p.add_argument("--pairs", type=int, default=3, help="runs of either kind")
    p.add_argument("--steps", type=int, default=60, help="of each run")
    p.add_argument("--checkpoint-every", type=int, default=15, help="steps")
    p.add_argument("--validation-every", type=int, default=40, help="steps; 0: only at the end")
    options = p.parse_args()
    if options.pairs < 1 or not 0 < options.checkpoint_every < options.steps - 1:
        p.error("--pairs is at least 1, --checkpoint-every is below --steps - 1")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(options.hadal, folder, more="log.every = 1")
        path = folder / "train.toml"
        runs = {0: [], options.checkpoint_every: []}
        for i in range(options.pairs):
            for every in runs:
                run = Run(options, path, folder, f"{every}-{i}", every)
                runs[every].append(run)
                print(f"{'checkpoints' if every else 'none       '}  {run.wall:7.2f} s between steps 1 and {options.steps - 1}, a step {1e3 * run.step:.1f} ms,"
                      f" {run.processor:.1f} s of processors", file=sys.stderr)
        without, with_them = runs.values()
    median = lambda values: statistics.median(list(values) or [0.0])
    count = with_them[0].checkpoints
    lost = (median(r.wall for r in with_them) - median(r.wall for r in without)) / count
    processor = (median(r.processor for r in with_them) - median(r.processor for r in without)) / count
    every_run = without + with_them
    log, step = median(r.log for r in every_run), median(r.step for r in every_run)
    copy = median(t for r in with_them for t in r.copy)
    validation = median(t for r in every_run for t in r.validation)
    cores = len(os.sched_getaffinity(0))
    at_most = processor / cores / 60
    print(f"a step                        {1e3 * step:9.1f} ms\n"
          f"log.jsonl and TensorBoard     {1e3 * log:9.2f} ms a step        {100 * log / step:5.2f} %\n"
          f"a checkpoint, run against run {1e3 * lost:9.1f} ms               {100 * lost / 60:5.2f} % at one a minute\n"
          f"  the copy                    {1e3 * copy:9.1f} ms\n"
          f"  processor time              {1e3 * processor:9.1f} ms               {100 * at_most:5.2f} % of {cores} cores\n"
          f"together                                             {100 * (lost / 60 + log / step):5.2f} % by the clock, {100 * (at_most + log / step):.2f} % by processor time\n"
          f"a validation (64 sequences)   {1e3 * validation:9.1f} ms               {validation / step:5.1f} steps' time, as often as log.validation_every says")


if __name__ == "__main__":
    main()
