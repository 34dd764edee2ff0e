#!/usr/bin/env bash
# Prints a Markdown table of what rounding activations and the cache costs a model on a text: nats a token, and how far
# each run is from one with f32.
#   tools/activation_quality.sh MODEL [TEXT] [OPTIONS OF hadal perplexity...]
# HADAL names the program (default: the release build's).
set -euo pipefail
root=$(dirname "$0")/..
hadal=${HADAL:-$root/build/hadal}
[ $# -ge 1 ] || { echo "usage: tools/activation_quality.sh MODEL [TEXT] [OPTIONS...]" >&2; exit 2; }
model=$1
text=${2:-$root/tests/data/tokenizer/vectors/wikitext-8192.txt}

row() {  # ACTIVATIONS CACHE OPTIONS...
  "$hadal" perplexity "$model" "$text" --activations "$1" --kv-cache "$2" --against f32 --json "${@:3}" |
    python3 -c 'import json, sys
r = json.load(sys.stdin)
print("| {} | {} | {:.4f} | {:.2g} | {:.2f}% |".format(*sys.argv[1:], r["nats_per_token"], r["kl_divergence"], 100 * r["same_top_token"]))' "$1" "$2"
}

echo "| activations | cache | nats a token | KL divergence from f32 | same top token |"
echo "| --- | --- | --- | --- | --- |"
for activations in f32 bf16 int8 fp8; do row "$activations" f32 "${@:3}"; done
for cache in bf16 fp8; do row f32 "$cache" "${@:3}"; done
