#!/usr/bin/env bash
# Puts Prometheus 3, promtool, Alertmanager and amtool beside those of the
# system, for the tests that run against both: unpacks the packages of Debian's
# next release, from the mirror that this machine uses, and installs nothing.
# Where they do not run, those of the release before, which are Prometheus 2.53,
# and says so.
#
# Usage: scripts/get-prometheus3.sh [DEST]    default: target/prometheus3, where the tests look
set -euo pipefail
cd "$(dirname "$0")/.."
dest=${1:-target/prometheus3}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

version() { "$dest/usr/bin/prometheus" --version 2>&1 | sed -n '1s/^prometheus, version \([0-9][^ +]*\).*/\1/p'; }
complete() {
    local name
    for name in prometheus promtool prometheus-alertmanager amtool; do
        "$dest/usr/bin/$name" --version >/dev/null 2>&1 || return 1
    done
}

# The mirror and its keyring, in either format of apt's sources.
# shellcheck disable=SC2016 # apt's own placeholder
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '/\/debian\/?$/ && !seen++')
[ -n "$mirror" ] || { echo 'no Debian mirror among the apt sources of this machine' >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

unpack() {
    local suite=$1 work
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/sources.list"
    local options=(
        -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache"
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o APT::Sandbox::User=root
    )
    local ok=1
    if apt-get -qq update "${options[@]}" &&
        (cd "$work" && apt-get -qq download "${options[@]}" prometheus promtool prometheus-alertmanager); then
        rm -rf "${dest:?}/usr" "${dest:?}/etc" "${dest:?}/lib" "${dest:?}/var"
        for package in "$work"/*.deb; do dpkg -x "$package" "$dest"; done
        complete && ok=0
    fi
    rm -rf "$work"
    return "$ok"
}

if ! complete; then
    unpack forky || { echo 'forky cannot be had or does not run here; trying trixie' >&2; unpack trixie; }
fi
version=$(version)
echo "Prometheus $version in $dest/usr/bin"
case $version in
3.*) ;;
*) echo "WARNING: this is not Prometheus 3; what is tested against 3 is tested against $version" >&2 ;;
esac
