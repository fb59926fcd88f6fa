#!/usr/bin/env bash
# Measures the memory and CPU time of a daemon that watches 10 000 finished
# tasks, polled once, over twenty minutes. docs/performance.md explains the rows.
#
# Usage: benches/at-rest.sh
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --locked
target="$(cargo metadata --format-version 1 --no-deps --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')"
exec python3 -B benches/at_rest.py "$target/release/aliyun-acr-exporter"
