#!/usr/bin/env bash
# One daemon for 40 000 tasks, then four shards of it: whether they show the same
# and ask as much together, and what each costs. docs/scaling.md has the figures.
#
# Usage: benches/shards.sh [BINARY] [--quick]
#
# Without BINARY it builds one. About five minutes, most of it waiting for the
# rate limit, which is part of what is looked at; --quick takes 4 000 tasks.
# Fails where anything does not hold.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == "" || ${1:-} == --* ]]; then
    cargo build --quiet --release --locked
    target="$(cargo metadata --format-version 1 --no-deps --locked |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')"
    set -- "$target/release/aliyun-acr-exporter" "$@"
fi
exec python3 -B benches/shards.py "$@"
