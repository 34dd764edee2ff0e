#!/usr/bin/env bash
# run_fuzzers.sh [SECONDS]: builds the fuzz preset (clang-19, libclang-rt-19-dev) and runs every target for a while, from seeds of the test data.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
cmake --preset fuzz >/dev/null
ninja -C build-fuzz
for source in tests/fuzz/*_fuzz.cpp; do
  name=$(basename "$source" .cpp)
  corpus=build-fuzz/corpus/$name
  mkdir -p "$corpus"
  case $name in
    config_fuzz) cp tests/data/shapes/*.json models/mini/*config.json "$corpus" ;;
    jinja_fuzz) cp tests/data/chat/templates/*.jinja "$corpus" ;;
    tokenizer_json_fuzz) python3 - "$corpus/seed" <<'P'
import json, sys
t = json.load(open("models/mini/tokenizer.json"))
t["model"]["vocab"] = {k: v for k, v in t["model"]["vocab"].items() if v < 300}
t["model"]["merges"] = t["model"]["merges"][:10]
json.dump(t, open(sys.argv[1], "w"))
P
      ;;
    tiktoken_fuzz) printf 'YQ== 0\nYg== 1\nYWI= 2\n' >"$corpus/seed" ;;
    safetensors_fuzz) head -c 4000 models/mini/model.safetensors >"$corpus/seed" ;;
  esac
  echo "== $name"
  "build-fuzz/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4000 -verbosity=0 -print_final_stats=0 "$corpus"
done
