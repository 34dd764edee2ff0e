#!/usr/bin/env python3
"""How fast `hadal train` is, beside other programs that train the same shape, in turns: medians over rounds.

  python3 bench/training.py --rounds 3
  python3 bench/training.py --experts 256 --peer "gmm=python peer.py --impl gmm" --peer "eager=python peer.py"

The model has 14.3M parameters (43 MFLOP a token; 42.5M and 39 with 256 experts), an MTP layer, F32; a step is 8 sequences of 256 tokens. Hadal's
rate is that of the median step of a run (log.jsonl), without the first two. A peer is NAME=COMMAND; of the last line of what it prints, a JSON
object, "tok_s" is taken.
"""
import argparse, json, os, pathlib, shlex, statistics, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = dict(hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=8, q_lora_rank=128, kv_lora_rank=64,
             qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32)
EXPERTS = {16: dict(n_routed_experts=16, moe_intermediate_size=128, num_experts_per_tok=4),
           256: dict(n_routed_experts=256, moe_intermediate_size=32, num_experts_per_tok=8)}
SEQUENCES, LENGTH = 8, 256


def output_of(command):
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    except OSError as e:
        sys.exit(f"{command[0]}: {e.strerror}")
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def prepare(hadal, folder, experts=16, more=""):
    """A configuration, folder/train.toml, and the data set that it names."""
    model = json.loads((ROOT / "models/mini/config.json").read_text()) | SHAPE | EXPERTS[experts]
    (folder / "config.json").write_text(json.dumps(model))
    (folder / "train.toml").write_text(f"""
        {more}
        [model]
        config = "{folder}/config.json"
        tokenizer = "{ROOT}/models/mini"
        init_std = 0.02
        [data]
        directory = "{folder}/data"
        [batch]
        sequences = {SEQUENCES}
        sequence_length = {LENGTH}
        [checkpoint]
        every_minutes = 0
        """)
    output_of([hadal, "data", "build", folder / "data", "--tokenizer", ROOT / "models/mini", "--documents", "blank-lines", "--keep-duplicates",
               "--validation", "0.02", ROOT / "examples/tiny/questions.txt"])


def train(options, folder, name):
    """Tokens a second, and the share of the machine's multiply-adds."""
    output_of([options.hadal, "train", folder / "train.toml", "--set", f"run_dir={folder}/{name}", "--set", f"length.steps={options.steps}"])
    log = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    steps = [r for r in log if r["kind"] == "step" and r["step"] > 2]
    median = lambda field: statistics.median(r[field] for r in steps)
    return SEQUENCES * LENGTH / median("seconds"), median("fma_share")


def peer(command):
    lines = [line for line in output_of(shlex.split(command)).splitlines() if line.startswith("{")]
    if not lines or "tok_s" not in json.loads(lines[-1]):
        sys.exit(f"{command}: prints no JSON object with tok_s")
    return json.loads(lines[-1])["tok_s"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hadal", default=os.environ.get("HADAL", str(ROOT / "build/hadal")), help="the program (default: build/hadal)")
    p.add_argument("--rounds", type=int, default=3, help="runs of every program (default 3)")
    p.add_argument("--steps", type=int, default=16, help="of a run of hadal, more than 2 (default 16)")
    p.add_argument("--experts", type=int, choices=sorted(EXPERTS), default=16, help="routed experts of a layer (default 16)")
    p.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of hadal (default f32)")
    p.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="a program to be measured in turns with hadal; may be given again")
    options = p.parse_args()
    if options.rounds < 1 or options.steps < 3:
        p.error("--rounds is at least 1, --steps at least 3")
    for item in options.peer:
        if not all(part.strip() for part in item.partition("=")):
            p.error(f"--peer {item}: NAME=COMMAND was expected")
    peers = dict(item.split("=", 1) for item in options.peer)
    rates, shares = {name: [] for name in ("hadal", *peers)}, []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(options.hadal, folder, options.experts, f'precision = "{options.precision}"')
        for i in range(options.rounds):
            rate, share = train(options, folder, f"run{i}")
            rates["hadal"].append(rate)
            shares.append(share)
            for name, command in peers.items():
                rates[name].append(peer(command))
            print(", ".join(f"{name} {values[-1]:.0f}" for name, values in rates.items()) + f" tok/s, hadal at {100 * share:.0f} % of the multiply-adds", file=sys.stderr)
    print(f"hadal  {statistics.median(rates['hadal']):7.0f} tok/s, {100 * statistics.median(shares):.0f} % of the machine's multiply-adds")
    for name in peers:
        ratios = [a / b for a, b in zip(rates["hadal"], rates[name])]
        print(f"{name:6} {statistics.median(rates[name]):7.0f} tok/s, hadal does {statistics.median(ratios):.2f} times that ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
