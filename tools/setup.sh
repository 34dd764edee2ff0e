# Sourced by ./run and ./test: installs what is missing (Debian packages) and configures the release build. Everything it
# says goes to stderr, so that the program's output can be piped.

# What the build and its tests need. bench/*_bench.cpp want libbenchmark-dev too, but no part of this builds them.
# zlib1g-dev, libzstd-dev: training texts as they are published, packed by gzip and zstd (`hadal data build`).
# liburing-dev: several reads in flight past the page cache, for models larger than memory.
# libboost1.81-dev, libssl-dev, libsqlite3-dev, libtomlplusplus-dev: HTTP, TLS, API keys and the configuration of `hadal serve`.
HADAL_PACKAGES=(g++ cmake ninja-build ccache pkg-config python3
  libfmt-dev libspdlog-dev nlohmann-json3-dev libsimdjson-dev libcli11-dev libpcre2-dev libedit-dev liburing-dev zlib1g-dev libzstd-dev
  libboost1.81-dev libssl-dev libsqlite3-dev libtomlplusplus-dev
  libgtest-dev libgmock-dev)
# For structured output (hadal/grammar/llguidance). Without them, or without crates.io, all else is built.
# ca-certificates: cargo asks crates.io, and a container has none of them.
HADAL_RUST_PACKAGES=(cargo-web rustc-web ca-certificates)

say() { printf '%s\n' "$*" >&2; }

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_missing [PACKAGES...]: those of HADAL_PACKAGES and those given; before the first build, Rust too if it can be had.
install_missing() {
  local wanted=("${HADAL_PACKAGES[@]}" "$@")
  if ! command -v apt-get >/dev/null 2>&1; then
    command -v cmake >/dev/null 2>&1 && command -v ninja >/dev/null 2>&1 && command -v g++ >/dev/null 2>&1 && return 0
    say "hadal: this machine has no apt-get; install what Debian calls ${wanted[*]}, then run: cmake --preset release && ninja -C build"
    return 2
  fi
  local packages
  read -r -a packages <<<"$(missing_packages "${wanted[@]}")"
  if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
      say "hadal: packages are missing and there is neither root nor sudo here; as root run: apt-get update && apt-get install ${packages[*]}"
      return 2
    fi
    if ! apt_install "${packages[@]}"; then
      say "hadal: apt-get could not install the packages above; see its message"
      return 2
    fi
  fi
  install_rust
}

install_rust() {
  [ -f build/build.ninja ] && return 0
  command -v cargo >/dev/null 2>&1 && return 0
  if [ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1; then
    apt_install "${HADAL_RUST_PACKAGES[@]}" 2>/dev/null && return 0
  fi
  say "hadal: ${HADAL_RUST_PACKAGES[*]} cannot be installed; the build goes on without structured output"
}

apt_install() {
  say "hadal: installing $*"
  local log
  log=$(mktemp)
  if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 2
  fi
  rm -f "$log"
}

configure() {
  [ -f build/build.ninja ] && return 0
  say "hadal: configuring build/"
  cmake --preset release >&2 || return 2
}

# build TARGETS...: in build/; quiet when there is nothing to do.
build() { run_ninja build "$@"; }

# The programs that ctest runs under sanitizers, and the fuzzers.
build_sanitized() {
  local preset
  for preset in asan tsan; do
    [ -f build-$preset/build.ninja ] || cmake --preset $preset >&2 || return 2
    run_ninja build-$preset sanitized || return 2
  done
}

run_ninja() {
  if [ -t 2 ]; then
    ninja -C "$@" >&2 || return 2
    return 0
  fi
  local log reporter status=0
  log=$(mktemp)
  report_progress "$log" &
  reporter=$!
  ninja -C "$@" >"$log" 2>&1 || status=2
  kill "$reporter" 2>/dev/null && wait "$reporter" 2>/dev/null || true
  [ "$status" = 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

# report_progress LOG: every ten seconds, where ninja is; for who sees no terminal's line that changes. Ends with this shell.
report_progress() {
  # A sleep that outlives its shell must not hold the reader of stderr.
  while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    grep -aE '^\[[0-9]+/[0-9]+\]' "$1" | tail -n 1 | sed -E 's|^\[([0-9]+)/([0-9]+)\].*|hadal: building \1 of \2|' >&2
  done
}
