#!/usr/bin/env bash
# Every test of the project, on a machine that has Rust. What the tests need
# beyond Rust (Prometheus with promtool, the official Python SDK, curl, zstd, a browser,
# schemathesis, valgrind, linters) is installed here; a part that cannot be installed fails loudly.
#
# Usage: scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

step 'parts beyond Rust'
packages=()
command -v promtool >/dev/null && command -v prometheus >/dev/null || packages+=(prometheus)
command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || packages+=(prometheus-alertmanager)
# Debian 12 has one that is too old for the overlays, which the check then tells.
command -v kubectl >/dev/null || packages+=(kubernetes-client)
command -v systemd-analyze >/dev/null || packages+=(systemd)
command -v python3 >/dev/null || packages+=(python3)
command -v curl >/dev/null || packages+=(curl)
command -v zstd >/dev/null || packages+=(zstd)
command -v valgrind >/dev/null || packages+=(valgrind)
command -v chromium >/dev/null || packages+=(chromium)
command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)
if [ "${#packages[@]}" -gt 0 ]; then
    # The service of the package must not start: the tests start their own.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod +x "$policy" && made_policy=1; }
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
    [ -z "${made_policy:-}" ] || as_root rm -f "$policy"
fi
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv || {
        as_root apt-get install -qy --no-install-recommends python3-venv
        python3 -m venv --clear .venv
    }
fi
.venv/bin/python -m pip install -q --disable-pip-version-check -r tests/python_sdk/requirements.txt -r tests/requirements-lint.txt -r tests/requirements-schemathesis.txt
npm ci --prefix tests/browser --no-audit --no-fund --silent
scripts/get-prometheus3.sh
export REQUIRE_REAL_PARTS=1

step 'format'
cargo fmt --all --check

step 'lints'
cargo clippy --locked --workspace --all-targets -- -D warnings
cargo clippy --locked --no-default-features -- -D warnings
.venv/bin/shellcheck scripts/*.sh benches/*.sh deploy/tests/*.sh deploy/debian/* .ci/run
.venv/bin/yamllint -s -c .yamllint.yaml .
.venv/bin/typos --config .typos.toml
.venv/bin/check-jsonschema --schemafile src/config/schema.json config.example.yaml tests/testdata/config/good/*.yaml

step 'unit, whole-daemon and real-part tests'
cargo test --locked --workspace --all-targets

step 'documentation and its examples'
cargo test --locked --workspace --doc
RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --workspace --no-deps --lib --document-private-items

step 'packages'
cargo package --locked --workspace --allow-dirty --no-verify --quiet

step 'alerts: rules and routes, with both Prometheus releases'
mkdir -p target/scaling
awk '/^```yaml$/ { file = "target/scaling/" ++n ".yaml"; printf "" > file; next }
    /^```$/ { file = "" }
    file { print > file }' docs/scaling.md
for bin in '' target/prometheus3/usr/bin/; do
    "${bin}promtool" --version | sed -n 1p
    "${bin}promtool" check rules deploy/prometheus/rules.yaml
    "${bin}promtool" check config deploy/prometheus/scrape.yaml target/scaling/*.yaml
    "${bin}promtool" test rules deploy/prometheus/rules_test.yaml deploy/prometheus/rules_long_test.yaml
    "${bin}amtool" check-config deploy/prometheus/alertmanager.yaml
    for route in critical=pager warning=team info=team none=nobody; do
        "${bin}amtool" config routes test --config.file=deploy/prometheus/alertmanager.yaml \
            --verify.receivers="${route#*=}" severity="${route%=*}"
    done
done

step 'chart, kustomize, compose'
scripts/check-deploy.sh

step 'Grafana dashboards'
scripts/check-dashboards.py

step 'systemd units'
scripts/check-unit.sh

step 'instruction counts'
scripts/check-instructions.py --self-test
scripts/check-instructions.py

printf '\nall tests passed\n'
