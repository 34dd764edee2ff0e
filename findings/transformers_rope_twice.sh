#!/usr/bin/env bash
# transformers 5.24.0, seen 2026-11-28: a config.json that has both rope_parameters and rope_scaling is read by the
# older one, and the base of the newer one is forgotten.
#
# Since version 5 everything about the rotary embedding is one object, rope_parameters, with the base in it as
# rope_theta. Before, it was rope_scaling beside a rope_theta of the config itself. A file meant for both generations of
# readers carries both. One would think that the newer object wins in the newer library, or that they are merged.
# Instead rope_scaling replaces rope_parameters as a whole; and since the base is then looked for beside it, where such
# a file need not have it, it falls to the library's default of 10000, without a word.
#
# Why an engine must know: another base gives other angles at every position, and nothing fails. An engine has to decide
# which object it believes and had better refuse two that differ.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet transformers==5.24.0
TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 "$work/env/bin/python" - "$work/model" <<'PY'
import json
import pathlib
import sys

import transformers

print("transformers", transformers.__version__)
directory = pathlib.Path(sys.argv[1])
directory.mkdir()
failures = 0


def expect(what, fields, stated):
    global failures
    (directory / "config.json").write_text(json.dumps({"model_type": "deepseek_v3", **fields}))
    read = transformers.AutoConfig.from_pretrained(directory).rope_parameters
    seen = {name: read.get(name) for name in ("rope_type", "factor", "rope_theta")}
    failures += seen != stated
    print(f"{what}: {seen}" + ("" if seen == stated else f"  BUT STATED: {stated}"))


yarn = {"original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
newer = {"rope_type": "yarn", "factor": 40.0, "rope_theta": 50000.0, **yarn}
older = {"type": "yarn", "factor": 8.0, **yarn}

expect("rope_parameters alone", {"rope_parameters": newer},
       {"rope_type": "yarn", "factor": 40.0, "rope_theta": 50000.0})
expect("rope_parameters and rope_theta beside it", {"rope_parameters": newer, "rope_theta": 20000.0},
       {"rope_type": "yarn", "factor": 40.0, "rope_theta": 50000.0})
expect("rope_parameters and rope_scaling", {"rope_parameters": newer, "rope_scaling": older},
       {"rope_type": "yarn", "factor": 8.0, "rope_theta": 10000.0})
expect("the same and rope_theta", {"rope_parameters": newer, "rope_scaling": older, "rope_theta": 20000.0},
       {"rope_type": "yarn", "factor": 8.0, "rope_theta": 20000.0})
sys.exit(failures != 0)
PY
