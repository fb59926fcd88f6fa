#!/usr/bin/env bash
# Measures the release binary from outside, as a user would run it: polls of a
# simulated cloud, scrapes, memory, start. docs/performance.md explains the rows.
#
# Usage: benches/whole-process.sh [PYTHON]
#
# PYTHON has tests/python_sdk/requirements.txt and prometheus-client installed;
# with it the same polls are measured with benches/peers/python_exporter.py.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --locked
target="$(cargo metadata --format-version 1 --no-deps --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')"
exec python3 -B benches/whole_process.py "$target/release/aliyun-acr-exporter" "$@"
