#!/usr/bin/env python3
"""Puts into the Helm chart what stands elsewhere in the repository.

Helm reads no file outside of a chart, so the chart carries copies: the
Prometheus rules, the Grafana dashboards, the schema of the configuration and
the version. This script makes them; with --check it says which differ and
fails.
"""

import json
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/aliyun-acr-exporter"


def schema() -> str:
    """The chart's schema with the exporter's own one as that of `config`.

    It becomes draft 7: older Helms know no other. Whether `instances` is
    required depends on other values; the templates see to it.
    """
    text = (ROOT / "src/config/schema.json").read_text()
    own = json.loads(text.replace('"#/$defs/', '"#/definitions/config.'))
    values = json.loads((CHART / "values.schema.json").read_text())
    values["properties"]["config"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": own["properties"],
    }
    values["definitions"] = {
        f"config.{name}": definition for name, definition in own["$defs"].items()
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def chart() -> str:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    version = manifest["workspace"]["package"]["version"]
    text = (CHART / "Chart.yaml").read_text()
    return re.sub(r'(?m)^appVersion: "[^"]*"', f'appVersion: "{version}"', text)


def wanted() -> dict[pathlib.Path, str]:
    files = {
        CHART / "Chart.yaml": chart(),
        CHART / "values.schema.json": schema(),
        CHART / "files/rules.yaml": (ROOT / "deploy/prometheus/rules.yaml").read_text(),
    }
    for dashboard in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        files[CHART / "files/dashboards" / dashboard.name] = dashboard.read_text()
    return files


def main() -> int:
    files = wanted()
    present = {path for path in (CHART / "files").rglob("*") if path.is_file()}
    superfluous = present - files.keys()
    differing = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text() != text
    ]
    if sys.argv[1:] == ["--check"]:
        for path in [*differing, *superfluous]:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/chart-files.py", file=sys.stderr)
        return 1 if differing or superfluous else 0
    for path in superfluous:
        path.unlink()
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
