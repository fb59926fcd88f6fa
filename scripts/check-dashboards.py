#!/usr/bin/env python3
"""What can be known of the Grafana dashboards without a Prometheus.

usage: check-dashboards.py

Fails (exit 1) unless the dashboards are what grafana/generate.py writes, ask only for metrics that
docs/metrics.md names, describe every panel, overlap nowhere, and link to dashboards, alerts and
runbooks that exist. scripts/dashboard-queries.py asks a Prometheus. Needs the standard library only.
"""

import json
import pathlib
import re
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent
VARIABLES = ["datasource", "job", "instance_id", "task"]
METRIC = re.compile(r"\b((?:aliyun_acr_(?:subscription|exporter)|process)_\w+)(\{[^}]*\})?")
WIDTH = 24


def metrics():
    names = set()
    for line in (PROJECT / "docs/metrics.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| `(\w+)` \| (\w+) ", line)
        if row:
            names.add(row[1])
            if row[2] == "histogram":
                names.update(f"{row[1]}_{part}" for part in ("bucket", "sum", "count"))
    return names


def alerts():
    found = set()
    for path in (PROJECT / "deploy/prometheus").glob("*.yaml"):
        found.update(re.findall(r"^\s*- alert: (\w+)$", path.read_text(encoding="utf-8"), re.M))
    return found


def strings(value):
    """Every text inside a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def check_panel(panel, known):
    if len(panel.get("description", "")) < 40:
        yield "does not say why one looks at it"
    defaults = panel["fieldConfig"]["defaults"]
    if not defaults.get("unit"):
        yield "has no unit"
    if defaults["thresholds"]["steps"][0]["value"] is not None:
        yield "has no lowest threshold"
    if not defaults.get("noValue"):
        yield "says nothing where there is nothing"
    if panel["gridPos"]["x"] + panel["gridPos"]["w"] > WIDTH:
        yield "reaches beyond the right edge"
    for target in panel["targets"]:
        for name, selector in METRIC.findall(target["expr"]):
            if name not in known:
                yield f"asks for {name}, which docs/metrics.md does not name"
            if 'job=~"$job"' not in selector:
                yield f"asks for {name} of every job"


def check_links(dashboard, uids, alerts):
    books = PROJECT / "docs/runbooks"
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    for text in strings(dashboard):
        for alert in re.findall(r"\$\{runbooks\}/(\w+)\.md", text):
            if alert not in alerts:
                yield f"links to a runbook of {alert}, which is no alert"
            if books.is_dir() and not (books / f"{alert}.md").is_file():
                yield f"links to docs/runbooks/{alert}.md, which is not there"
        for uid in re.findall(r"^/d/([^?/]+)", text):
            if uid not in uids:
                yield f"links to dashboard {uid}, which is not there"
        for name in re.findall(r"[?&]var-(\w+)=|\$\{(\w+):queryparam\}", text):
            if "".join(name) not in names:
                yield f"passes on {''.join(name)}, which is no variable"


def overlaps(panels):
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if (x, y) in taken:
                    yield f"{panel['title']!r} overlaps {taken[x, y]!r}"
                    break
                taken[x, y] = panel["title"]


def main():
    generated = subprocess.run([sys.executable, PROJECT / "grafana/generate.py", "--check"], check=False)
    problems = ["grafana/generate.py --check fails"] if generated.returncode else []
    paths = sorted((PROJECT / "grafana/dashboards").glob("*.json"))
    dashboards = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    uids = {dashboard["uid"] for dashboard in dashboards.values()}
    known, rules = metrics(), alerts()
    panels = 0
    for path, dashboard in dashboards.items():
        found = []
        if [one["name"] for one in dashboard["templating"]["list"] if one["hide"] == 0] != VARIABLES:
            found.append(f"its variables are not {', '.join(VARIABLES)}")
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                panels += 1
                found += [f"{panel['title']!r} {what}" for what in check_panel(panel, known)]
        found += overlaps(dashboard["panels"])
        found += check_links(dashboard, uids, rules)
        problems += [f"{path.relative_to(PROJECT)}: {what}" for what in dict.fromkeys(found)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(dashboards)} dashboards, {panels} panels, {len(problems)} problems")
    return 1 if problems or not panels or not rules else 0


if __name__ == "__main__":
    sys.exit(main())
