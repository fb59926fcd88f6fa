#!/usr/bin/env bash
# Makes a release and installs it in a booted Debian 12: what deploy/README.md
# tells a newcomer to type for the package and for the archive is what is run
# there, by deploy/tests/package-guest.sh, against the simulated cloud.
#
# It needs root and Debian; debootstrap, systemd-nspawn and lintian are installed
# here if missing. The guest has no network. What is compiled is kept in target/.
#
# Usage: deploy/tests/package.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
for tool in debootstrap systemd-container:systemd-nspawn lintian; do
    command -v "${tool#*:}" >/dev/null || missing+=("${tool%%:*}")
done
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make release
cp target/dist/SHA256SUMS "$work"
printf '== the same again\n'
make release >/dev/null
cmp target/dist/SHA256SUMS "$work/SHA256SUMS" || fail 'the same commit gave other bytes'
(cd target/dist && sha256sum --check --strict SHA256SUMS)
[ "$(wc -l <target/dist/SHA256SUMS)" = 3 ] || fail 'SHA256SUMS does not name all files'
deb=$(echo target/dist/*.deb)
archive=$(echo target/dist/*.tar.gz)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p;/^\[package\]/q' Cargo.toml)
target=$(rustc -vV | sed -n 's/^host: //p')

printf '== the package\n'
dpkg-deb --info "$deb"
[ "$(dpkg-deb --field "$deb" Version)" = "$version-1" ] || fail 'the version of the package'
dpkg-deb --field "$deb" Depends | grep -q '^libc6 (>= ' || fail 'the package does not say which libc it needs'
# Wanted: the mode of the environment. Of no use: what Debian asks of those who upload to it.
lintian --fail-on error,warning --suppress-tags non-standard-file-perm,initial-upload-closes-no-bugs "$deb"
[ "$(dpkg-deb --info "$deb" conffiles)" = /etc/default/aliyun-acr-exporter ] || fail 'the conffiles'
contents=$(dpkg-deb --contents "$deb" | awk '{ print $1, substr($6, 2) }')
for file in /usr/bin/aliyun-acr-exporter /usr/lib/systemd/system/aliyun-acr-exporter.{service,socket} \
    /usr/lib/{sysusers,tmpfiles}.d/aliyun-acr-exporter.conf /usr/share/man/man1/aliyun-acr-exporter.1.gz \
    /usr/share/bash-completion/completions/aliyun-acr-exporter /usr/share/zsh/vendor-completions/_aliyun-acr-exporter \
    /usr/share/fish/vendor_completions.d/aliyun-acr-exporter.fish /usr/share/doc/aliyun-acr-exporter/{copyright,changelog.gz,changelog.Debian.gz} \
    /usr/share/doc/aliyun-acr-exporter/examples/config.example.yaml /usr/share/aliyun-acr-exporter/prometheus/rules.yaml \
    /usr/share/aliyun-acr-exporter/dashboards/aliyun-acr-overview.json; do
    grep -q "^-rw[x-]r-[x-]r-[x-] $file\$" <<<"$contents" || fail "the package has no $file"
done
grep -q '^-rw------- /etc/default/aliyun-acr-exporter$' <<<"$contents" || fail 'others can read the environment'

printf '== the SBOM\n'
# What cargo says is compiled into the binary or runs while it is built.
cargo tree --locked --target "$target" -e normal,build --prefix none --format '{p}' |
    sed -E 's/ \(.*//; s/ v/ /' | sort -u | grep -v '^aliyun-acr-exporter ' >"$work/tree"
python3 - "target/dist/aliyun-acr-exporter-$version-$target.cdx.json" "$work/tree" <<'PYTHON'
import json, sys
bom = json.load(open(sys.argv[1]))
assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5"), bom["bomFormat"]
assert bom["metadata"]["component"]["name"] == "aliyun-acr-exporter"
told = {f"{part['name']} {part['version']}" for part in bom["components"]}
tree = set(open(sys.argv[2]).read().splitlines())
assert tree <= told, sorted(tree - told)
# cargo-cyclonedx takes the features that tests switch on as well, and what those bring along.
assert len(told - tree) < 10, sorted(told - tree)
assert all(part.get("purl") and part.get("licenses") for part in bom["components"])
print(len(tree), "dependencies as cargo tree has them, and of tests alone:", ", ".join(sorted(told - tree)))
PYTHON

printf '== the archive\n'
! tar -tvzf "$archive" --numeric-owner | grep -v ' 0/0 ' || fail 'the archive knows who made it'
tar -C "$work" -xzf "$archive"
binary=$(echo "$work"/*/aliyun-acr-exporter)
# ldd fails of a static one, and of one that is static and relocatable does not.
if ldd "$binary" 2>&1 | grep -q '=>'; then fail 'the binary of the archive is not static'; fi
! grep -aqF "$HOME/.cargo" "$binary" || fail "the binary knows the builder's folders"

printf '== in Debian 12\n'
base=target/package/base.tar
if [ ! -e "$base" ]; then
    mkdir -p target/package
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl bookworm "$work/base" >"$work/log" ||
        { cat "$work/log"; exit 1; }
    tar -C "$work/base" -cf "$base.part" .
    mv "$base.part" "$base"
    rm -rf "$work/base"
fi
guest="$work/guest"
mkdir -p "$guest/srv/target"
tar -C "$guest" -xf "$base"
cp -r target/dist "$guest/srv/target"
cp deploy/tests/package-guest.sh "$guest/srv"
for mark in package package-socket package-remove archive archive-service; do
    python3 deploy/tests/commands.py deploy/README.md "$mark" >"$guest/srv/$mark.sh"
done
cat >"$guest/etc/systemd/system/guide.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/srv
ExecStart=/srv/package-guest.sh
StandardOutput=file:/srv/log
StandardError=inherit
ExecStopPost=/bin/sh -c 'systemctl exit "$$([ "$SERVICE_RESULT" = success ] && echo 0 || echo 1)"'
[Install]
WantedBy=multi-user.target
UNIT
ln -s ../guide.service "$guest/etc/systemd/system/multi-user.target.wants/guide.service"
status=0
timeout 300 systemd-nspawn -q -D "$guest" --register=no --keep-unit --private-network --console=pipe -b \
    </dev/null >"$work/console" 2>&1 || status=$?
cat "$guest/srv/log"
[ "$status" = 0 ] || { tail -n 20 "$work/console"; fail "the guest ended with $status"; }
grep -qx 'all of the guide ran' "$guest/srv/log" || fail 'the guide did not run to its end'
ls -l target/dist
