#!/usr/bin/env bash
# run_sanitized.sh asan|tsan PROGRAM: runs a test program of that build. Exit code 77: not built.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=build-$1/tests/$2
if [ ! -x "$program" ]; then
  echo "skipped: $program is not built (HADAL_SANITIZERS=1 ./test builds and runs it)"
  exit 77
fi
# Tests ask for more memory than there is.
export ASAN_OPTIONS=allocator_may_return_null=1 TSAN_OPTIONS=allocator_may_return_null=1
exec "$program" --gtest_brief=1
