#!/usr/bin/env bash
# Runs in a booted Debian, as root and without a network: the commands of
# deploy/README.md for the package and the archive, and what they should lead to.
# deploy/tests/package.sh starts it.
set -Eeuo pipefail
cd /srv
export HOME=/root ALIBABA_CLOUD_ECS_METADATA_DISABLED=true

fail() {
    printf 'FAILED: %s\n' "$*"
    systemctl --no-pager --full status aliyun-acr-exporter.service aliyun-acr-exporter.socket || true
    journalctl --no-pager --unit=aliyun-acr-exporter --lines=30 || true
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
sudo() { "$@"; }
guide() {
    printf '== the guide: %s\n' "$1"
    set -x
    # shellcheck source=/dev/null
    . "/srv/$1.sh"
    { set +x; } 2>/dev/null
}
is() { [ "$(systemctl is-active "aliyun-acr-exporter.$1" || true)" = "$2" ] || fail "the $1 is not $2"; }
# grep reads to the end, since curl fails where nobody reads.
page() { curl -fsS http://127.0.0.1:10980/metrics; }
shows() { page | grep "$1" >/dev/null; }
has() { shows "$1" || fail "the page has no $1"; }

printf '== a cloud\n'
mkdir archive
tar -C archive --strip-components=1 -xzf target/dist/*.tar.gz
archive/aliyun-acr-exporter simulate --listen 127.0.0.1:10990 >cloud.log 2>&1 &
cloud=$!
trap 'kill "$cloud"' EXIT
until grep -q '^endpoint:' cloud.log; do kill -0 "$cloud"; done
export ALIBABA_CLOUD_ACCESS_KEY_ID=simulated-key-id ALIBABA_CLOUD_ACCESS_KEY_SECRET=simulated-key-secret
cat >config.yaml <<'YAML'
instances:
  - { id: cri-demohangzhou0001, endpoint: "http://127.0.0.1:10990", tasks: [crast-demosucceeded01] }
state: { path: /var/lib/aliyun-acr-exporter/state }
YAML
task='aliyun_acr_subscription_task_up{.*task_id="crast-demosucceeded01".*} 1'

printf '== installed, not configured\n'
dpkg --install target/dist/*.deb
is service inactive
is socket inactive
[ "$(systemctl is-enabled aliyun-acr-exporter.service)" = enabled ] || fail 'the service is not enabled'
[ "$(systemctl is-enabled aliyun-acr-exporter.socket || true)" = disabled ] || fail 'the socket is enabled'
systemctl start aliyun-acr-exporter.service || fail 'a service without a configuration failed instead of being skipped'
is service inactive
systemd-analyze verify --man=no aliyun-acr-exporter.service aliyun-acr-exporter.socket || fail 'the units'
dpkg --purge aliyun-acr-exporter

guide package
is service active
has "$task"
[ "$(stat -c '%U:%G %a' /etc/aliyun-acr-exporter /etc/aliyun-acr-exporter/config.yaml | paste -sd ,)" = \
    'root:aliyun-acr-exporter 2750,root:aliyun-acr-exporter 640' ] || fail 'the modes of the configuration'
! runuser -u nobody -- cat /etc/aliyun-acr-exporter/config.yaml 2>/dev/null || fail 'everyone can read the configuration'
main() { systemctl show --property=MainPID --value aliyun-acr-exporter.service; }
[ "$(stat -c %U "/proc/$(main)")" = aliyun-acr-exporter ] || fail 'the user of the daemon'
awk '/^(CapEff|CapBnd|CapAmb)/ { if ($2 != "0000000000000000") exit 1 }' "/proc/$(main)/status" || fail 'it has capabilities'
grep -q '^NoNewPrivs:\s1$' "/proc/$(main)/status" || fail 'it may gain privileges'
grep -q '^Seccomp:\s2$' "/proc/$(main)/status" || fail 'its system calls are not filtered'
# Also what the filter could forbid: metrics of the process, the state, name resolution.
has '^process_start_time_seconds [1-9]'
until shows '^aliyun_acr_exporter_state_last_save_timestamp_seconds [1-9]'; do is service active; done
[ "$(stat -c '%U %a' /var/lib/aliyun-acr-exporter/state)" = 'aliyun-acr-exporter 600' ] || fail 'the state file'

printf '== reloaded, with what root alone has changed\n'
before=$(main)
sed -i 's/crast-demosucceeded01/crast-demosucceeded01, crast-demofailed00001/' /etc/aliyun-acr-exporter/config.yaml
systemctl reload aliyun-acr-exporter
until shows 'aliyun_acr_subscription_task_up{.*crast-demofailed00001.*} 1'; do is service active; done
[ "$(main)" = "$before" ] || fail 'a reload has started another process'

printf '== killed, and started again\n'
kill -KILL "$before"
until [ "$(systemctl show --property=NRestarts --value aliyun-acr-exporter.service)" = 1 ] &&
    curl -fsS http://127.0.0.1:10980/-/ready 2>/dev/null; do :; done
has "$task"

printf '== hung, and found by the watchdog\n'
mkdir -p /run/systemd/system/aliyun-acr-exporter.service.d
printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >/run/systemd/system/aliyun-acr-exporter.service.d/soon.conf
systemctl daemon-reload
systemctl restart aliyun-acr-exporter
hung=$(main)
kill -STOP "$hung"
until [ "$(main)" != "$hung" ] && curl -fsS http://127.0.0.1:10980/-/ready 2>/dev/null; do :; done
journalctl --no-pager --unit=aliyun-acr-exporter | grep 'Watchdog timeout' || fail 'it was not the watchdog'
rm -r /run/systemd/system/aliyun-acr-exporter.service.d
systemctl daemon-reload

printf '== a wrong configuration is not tried again and again\n'
cp -p /etc/aliyun-acr-exporter/config.yaml good.yaml
printf 'instances: 7\n' >/etc/aliyun-acr-exporter/config.yaml
! systemctl restart aliyun-acr-exporter 2>/dev/null || fail 'it starts with a wrong configuration'
is service failed
[ "$(systemctl show --property=ExecMainStatus --value aliyun-acr-exporter.service)" = 2 ] || fail 'the exit code'
cp -p good.yaml /etc/aliyun-acr-exporter/config.yaml
systemctl restart aliyun-acr-exporter
is service active

printf '== installed again\n'
before=$(main)
dpkg --install target/dist/*.deb
is service active
[ "$(main)" != "$before" ] || fail 'the old version still runs'
grep -q '^ALIBABA_CLOUD_ACCESS_KEY_ID=simulated-key-id$' /etc/default/aliyun-acr-exporter || fail 'the environment was overwritten'

guide package-socket
is socket active
is service active
has "$task"
before=$(main)
systemctl restart --no-block aliyun-acr-exporter
until [ "$(main)" != "$before" ] && [ "$(systemctl is-active aliyun-acr-exporter.service)" = active ]; do
    curl -fsS http://127.0.0.1:10980/-/healthy >/dev/null || fail 'a request was refused during a restart'
done
systemctl stop aliyun-acr-exporter 2>/dev/null
is service inactive
curl -fsS http://127.0.0.1:10980/-/healthy >/dev/null || fail 'the socket does not start the service'
is service active

guide package-remove
! systemctl cat aliyun-acr-exporter.service >/dev/null 2>&1 || fail 'the service is still there'
! curl -fsS http://127.0.0.1:10980/ 2>/dev/null || fail 'something still listens'
[ ! -e /var/lib/aliyun-acr-exporter ] || fail 'a purge left the state'
[ ! -e /etc/default/aliyun-acr-exporter ] || fail 'a purge left the environment'
[ -e /etc/aliyun-acr-exporter/config.yaml ] || fail "the administrator's file is gone"
rm -r /etc/aliyun-acr-exporter
userdel aliyun-acr-exporter

guide archive
for file in aliyun-acr-exporter.1 completions/{aliyun-acr-exporter,_aliyun-acr-exporter,aliyun-acr-exporter.fish} config.example.yaml \
    prometheus/rules.yaml dashboards/aliyun-acr-overview.json ram-policy.json LICENSE README.md CHANGELOG.md; do
    [ -s "/srv/archive/$file" ] || fail "the archive has no $file"
done
guide archive-service
is service active
has "$task"
[ "$(readlink "/proc/$(main)/exe")" = /usr/local/bin/aliyun-acr-exporter ] || fail 'another binary runs'
[ "$(stat -c %U "/proc/$(main)")" = aliyun-acr-exporter ] || fail 'the user of the daemon'
systemctl stop aliyun-acr-exporter
printf 'all of the guide ran\n'
