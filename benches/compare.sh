#!/usr/bin/env bash
# Measures the release binary beside what one would run instead: Prometheus' Go
# and Python clients, nginx, an exporter over the vendor's SDK. Builds them, and
# says what is missing. benches/compare.py explains the rows.
#
# Usage: benches/compare.sh [scrape|poll|rest|start|all] [--quick] [--hour] [--simulator BINARY]
#
# BINARY in the environment is measured in place of a build of this tree. All
# takes a quarter of an hour, --quick three minutes. It needs Linux and Debian's
# golang-go, golang-github-prometheus-client-golang-dev, nginx-light, openssl,
# prometheus, python3-venv; a Prometheus 3 is measured too where
# scripts/get-prometheus3.sh has put one.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"

missing=()
needs() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || missing+=("$2")
}
needs go golang-go
needs nginx nginx-light
needs openssl openssl
needs prometheus prometheus
needs python3 python3
needs strip binutils
[ -d /usr/share/gocode/src/github.com/prometheus/client_golang ] ||
    missing+=(golang-github-prometheus-client-golang-dev)
if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    echo "Debian has them: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

if [ -z "${BINARY:-}" ]; then
    cargo build --quiet --release --locked
    BINARY="$(cargo metadata --format-version 1 --no-deps --locked |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/aliyun-acr-exporter"
fi
[ -x "$BINARY" ] || { echo "no program: $BINARY" >&2; exit 1; }

parts=target/compare
mkdir -p "$parts"
if ! cmp -s tests/python_sdk/requirements.txt "$parts/requirements.txt"; then
    python3 -m venv --clear "$parts/venv" ||
        { echo 'Debian has it: apt-get install python3-venv' >&2; exit 1; }
    "$parts/venv/bin/python" -m pip install -q --disable-pip-version-check -r tests/python_sdk/requirements.txt
    cp tests/python_sdk/requirements.txt "$parts/requirements.txt"
fi
GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS='' go build -o "$parts/peer-go" benches/peers/go/main.go

exec python3 -B benches/compare.py --binary "$BINARY" --python "$parts/venv/bin/python" \
    --go "$parts/peer-go" --prometheus3 target/prometheus3/usr/bin/prometheus "$@"
