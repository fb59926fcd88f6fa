#!/usr/bin/env bash
# Makes what is given out, for this machine's architecture, into target/dist:
#   aliyun-acr-exporter-VERSION-TARGET.tar.gz   static binary, manual page, completions, units, rules, dashboards
#   aliyun-acr-exporter_VERSION-1_ARCH.deb      the same for Debian and Ubuntu, linked to libc
#   aliyun-acr-exporter-VERSION-TARGET.cdx.json CycloneDX SBOM of the dependencies in the binary and its build
#   SHA256SUMS
# What is packed is packed the same way each time: order, owners and times are fixed. Needs Rust, a C compiler,
# glibc's static libraries (libc6-dev) and Debian's tools for the package; the two cargo commands are
# installed where they are missing.
#
# Usage: scripts/release.sh
set -euo pipefail
cd "$(dirname "$0")/.."

name=aliyun-acr-exporter
version=$(sed -n 's/^version = "\(.*\)"$/\1/p;/^\[package\]/q' Cargo.toml)
target=$(rustc -vV | sed -n 's/^host: //p')
case "$target" in
    *-linux-gnu) ;;
    *) printf 'no release for %s\n' "$target" >&2; exit 1 ;;
esac
grep -qF "## [$version]" CHANGELOG.md || { printf 'CHANGELOG.md has no section for %s\n' "$version" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || printf 'warning: there are changes that are not committed\n' >&2

command -v cargo-deb >/dev/null || cargo install --locked cargo-deb@3.8.0
command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx@0.5.9

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
dist=target/dist
base="$name-$version-$target"
tree="$dist/$base"
rm -rf "$dist"
mkdir -p "$tree/completions"

# Both builds have their flags from here, since flags are part of what cargo compares.
paths="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/src"

# As in deploy/docker/Dockerfile: a static binary needs an explicit --target.
RUSTFLAGS="-C target-feature=+crt-static $paths" \
    cargo build --release --locked --target "$target" --target-dir target/release-static
binary="target/release-static/$target/release/$name"
[ "$("$binary" --version | cut -d ' ' -f 2)" = "$version" ]

install "$binary" "$tree/$name"
"$binary" man >"$tree/$name.1"
"$binary" completions bash >"$tree/completions/$name"
"$binary" completions zsh >"$tree/completions/_$name"
"$binary" completions fish >"$tree/completions/$name.fish"
cp LICENSE README.md CHANGELOG.md config.example.yaml deploy/ram-policy.json "$tree"
cp -r deploy/systemd deploy/prometheus grafana/dashboards "$tree"
rm "$tree"/prometheus/*_test.yaml
chmod -R u=rwX,go=rX "$tree"
tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$base" |
    gzip -9n >"$dist/$base.tar.gz"

# The package takes the papers from the same folder. It is linked to the system's libc, which
# then resolves names as the system is set up to.
printf '%s (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$name" "$version" \
    "$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" >"$dist/changelog.Debian"
ln -sfn "$base" "$dist/papers"
RUSTFLAGS="$paths" cargo build --release --locked --target-dir target/release-dynamic
CARGO_TARGET_DIR=target/release-dynamic cargo deb --locked --no-build --output "$dist/"

cargo cyclonedx --format json --spec-version 1.5 --target "$target" --override-filename "$base.cdx" -q
mv "$base.cdx.json" "$dist/"
# One for each member of the workspace is written; the root's lists the others.
rm -f crates/*/"$base.cdx.json"

rm -rf "$dist/papers" "$dist/changelog.Debian" "$tree"
(cd "$dist" && sha256sum -- *.tar.gz *.deb *.cdx.json >SHA256SUMS && cat SHA256SUMS && ls -l)
