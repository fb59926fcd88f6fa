#!/usr/bin/env bash
# Checks the systemd unit: no warning from `systemd-analyze verify`, and an
# exposure no worse than it says of itself. The binary need not be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unit="$folder/aliyun-acr-exporter.service"
sed 's|^ExecStart=.*|ExecStart=/bin/true|' deploy/systemd/aliyun-acr-exporter.service >"$unit"

said=$(systemd-analyze verify --man=no "$unit" 2>&1)
if [ -n "$said" ]; then
    printf '%s\n' "$said" >&2
    exit 1
fi
systemd-analyze security --offline=true --threshold=20 "$unit" | tail -n 1
