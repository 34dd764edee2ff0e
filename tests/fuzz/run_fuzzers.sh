#!/usr/bin/env bash
# [HADAL_FUZZ_SECONDS=20] run_fuzzers.sh [TARGET...]: runs the libFuzzer targets (all, or safetensors, index, config, tokenizer_json,
# tiktoken, jinja, jsonl, schema, answer, api, record, http, shard, megatron, dataset) from the committed corpus; what they find new stays in build-asan/corpus, a crashing input in
# build-asan. Build them first: cmake --preset asan && ninja -C build-asan fuzzers (clang-19, libclang-rt-19-dev).
# Exit code 77: not built.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${HADAL_FUZZ_SECONDS:-20}
[ $# -gt 0 ] || set -- answer safetensors index config tokenizer_json tiktoken jinja jsonl schema api record http shard megatron dataset
for target in "$@"; do
  program=build-asan/${target}_fuzz
  if [ ! -x "$program" ]; then
    echo "skipped: $program is not built (HADAL_SANITIZERS=1 ./test builds and runs the fuzzers)"
    exit 77
  fi
  echo "== $target"
  mkdir -p "build-asan/corpus/$target"
  "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4000 -max_len=8192 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="build-asan/$target-" "build-asan/corpus/$target" "tests/fuzz/corpus/$target"
done
