#!/bin/sh
# Formatting, clippy and the documentation, private items too; a warning is a failure.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --all-targets --quiet -- -D warnings
cargo clippy --lib --bins --no-default-features --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet
