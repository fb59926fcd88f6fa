#!/usr/bin/env bash
# Checks the systemd files: no word from `systemd-analyze verify` about service and
# socket, an exposure no worse than 2.0, a user that can be made. Nothing need be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unit="$folder/aliyun-acr-exporter.service"
sed 's|^ExecStart=.*|ExecStart=/bin/true|' deploy/systemd/aliyun-acr-exporter.service >"$unit"
cp deploy/systemd/aliyun-acr-exporter.socket "$folder"

said=$(systemd-analyze verify --man=no "$unit" "$folder/aliyun-acr-exporter.socket" 2>&1)
if [ -n "$said" ]; then
    printf '%s\n' "$said" >&2
    exit 1
fi
systemd-analyze security --offline=true --threshold=20 "$unit" | tail -n 1
systemd-sysusers --dry-run --root="$folder" "$PWD/deploy/systemd/sysusers.d/aliyun-acr-exporter.conf" 2>&1 |
    grep "^Would create user 'aliyun-acr-exporter'\|^Creating user 'aliyun-acr-exporter'"
