#!/bin/sh
# fuzz.sh SECONDS [TARGET...]: runs each fuzz target for so long, on stable Rust (without a sanitizer).
set -eu
cd "$(dirname "$0")/.."

seconds=$1
shift
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing: cargo install cargo-fuzz" >&2
    exit 69
fi
# shellcheck disable=SC2046 # one word for each target
[ $# -gt 0 ] || set -- $(cargo fuzz list)
for target in "$@"; do
    echo "== $target"
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -max_len=65535
done
