#!/usr/bin/env bash
# Every test: documentation examples first, then the rest, so that the runner's summary is the last thing to be read.
# Uses cargo-nextest where it is installed, else cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --doc --quiet
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --no-fail-fast --status-level slow --final-status-level flaky "$@"
fi

# cargo test gives a summary per test program; add them up
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --lib --bins --tests --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
exit "$status"
