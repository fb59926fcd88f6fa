#!/usr/bin/env bash
# Measures how CPU time and memory of the release binary grow with series and
# with tasks, and draws docs/scale.svg. docs/performance.md explains the rows.
#
# Usage: benches/scale.sh [BINARY] [--quick] [--check] [--json FILE] [--svg FILE]
#        benches/scale.sh --draw FILE [--svg FILE]
#
# Without BINARY it builds one. Under twelve minutes; with --quick under two, of
# fewer and smaller points. With --check it fails where anything that has to
# grow in proportion grows faster. --draw measures nothing: it draws the JSON of
# an earlier run again.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == --draw ]]; then
    exec python3 -B benches/scale.py "$@"
fi
if [[ ${1:-} == "" || ${1:-} == --* ]]; then
    cargo build --quiet --release --locked
    target="$(cargo metadata --format-version 1 --no-deps --locked |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')"
    set -- "$target/release/aliyun-acr-exporter" "$@"
fi
exec python3 -B benches/scale.py "$@"
