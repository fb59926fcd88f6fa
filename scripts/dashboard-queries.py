#!/usr/bin/env python3
"""Ask a Prometheus every question that Grafana dashboards ask.

usage: dashboard-queries.py PROMETHEUS_URL DASHBOARD.json...

Fails (exit 1) on a query or variable that is refused, warned about or answered with nothing,
on an unknown variable, on a repeated panel id, on a panel without queries and on a data source
that is not a variable. Run it against a Prometheus that has scraped the exporter at least
twice, since rate() needs two samples. Needs the standard library only.
"""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

PANELS_WITHOUT_QUERIES = {"alertlist", "dashlist", "news", "row", "text"}

# What Grafana puts in itself, with values that suit a server that runs since a few minutes.
BUILT_IN = {
    "__rate_interval": "1m",
    "__interval": "15s",
    "__interval_ms": "15000",
    "__range": "5m",
    "__range_s": "300",
    "__range_ms": "300000",
}

VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]|\$(\w+)")
LABEL_VALUES = re.compile(r"label_values\(\s*(?:(?P<selector>.+),\s*)?(?P<label>\w+)\s*\)", re.S)


class Refused(Exception):
    """Prometheus refused a query."""


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, path, **parameters):
        """The `data` of an answer, and its warnings. Raises Refused."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                raise Refused(json.loads(text)["error"]) from error
            except (ValueError, KeyError):
                raise Refused(f"HTTP {error.code}: {text[:200]}") from error
        return answer["data"], answer.get("warnings", []) + answer.get("infos", [])

    def query(self, expression):
        data, warnings = self.get("query", query=expression)
        return data["result"], warnings

    def label_values(self, label, selector):
        parameters = {"match[]": selector} if selector else {}
        return self.get(f"label/{label}/values", **parameters)


class Check:
    """One dashboard. `problems` collects what is wrong, `queries` counts what was asked."""

    def __init__(self, prometheus, path):
        self.prometheus = prometheus
        self.path = path
        self.variables = dict(BUILT_IN)
        self.problems = []
        self.queries = 0

    def run(self):
        with open(self.path, encoding="utf-8") as file:
            dashboard = json.load(file)
        for variable in dashboard.get("templating", {}).get("list", []):
            self.resolve(variable)
        if self.problems:
            return  # Every panel would fail for the same reason.
        seen = set()
        for panel in all_panels(dashboard["panels"]):
            if panel["id"] in seen:
                self.problem(describe(panel), "repeated panel id")
            seen.add(panel["id"])
            self.check_panel(panel)
        for annotation in dashboard.get("annotations", {}).get("list", []):
            if "expr" in annotation:
                self.ask(f"annotation {annotation['name']!r}", annotation["expr"])
        if not self.queries:
            self.problem("dashboard", "asks nothing")

    def resolve(self, variable):
        """Gives a variable all of its values, as Grafana does for "All" without `allValue`."""
        name, kind = variable["name"], variable["type"]
        if kind == "datasource":
            self.variables[name] = "prometheus"
        elif kind in ("constant", "textbox"):
            self.variables[name] = variable["query"]
        elif kind in ("custom", "interval"):
            first = variable["query"].split(",")[0]
            self.variables[name] = first.split(" : ")[-1].strip()
        elif kind == "query":
            self.resolve_query(variable)
        else:
            self.problem(f"variable {name}", f"type {kind!r} is not known to this check")

    def resolve_query(self, variable):
        where = f"variable {variable['name']}"
        query = variable["query"]
        if isinstance(query, dict):
            query = query["query"]
        call = LABEL_VALUES.fullmatch(query.strip())
        if not call:
            self.problem(where, f"only label_values(…) is known to this check, not {query!r}")
            return
        self.queries += 1
        selector = call["selector"] and self.interpolate(where, call["selector"])
        try:
            values, warnings = self.prometheus.label_values(call["label"], selector)
        except Refused as refusal:
            self.problem(where, f"{refusal} in {query}")
            return
        for warning in warnings:
            self.problem(where, warning)
        if not values:
            self.problem(where, f"no values: {query}")
        several = variable.get("multi") or variable.get("includeAll")
        # Escaped for a regular expression, and the backslash once more for the PromQL string.
        escaped = "|".join(re.escape(value).replace("\\", "\\\\") for value in values)
        self.variables[variable["name"]] = f"({escaped})" if several else "".join(values[:1])

    def check_panel(self, panel):
        where = describe(panel)
        targets = [target for target in panel.get("targets", []) if not target.get("hide")]
        if not targets and panel["type"] not in PANELS_WITHOUT_QUERIES:
            self.problem(where, "no queries")
        for source in [panel.get("datasource")] + [target.get("datasource") for target in targets]:
            if isinstance(source, dict) and not source.get("uid", "").startswith("$"):
                self.problem(where, f"data source {source.get('uid')!r} is not a variable")
        for target in targets:
            self.ask(f"{where} {target['refId']}", target["expr"])

    def ask(self, where, expression):
        self.queries += 1
        expression = self.interpolate(where, expression)
        try:
            result, warnings = self.prometheus.query(expression)
        except Refused as refusal:
            self.problem(where, f"{refusal} in {expression}")
            return
        if not result:
            self.problem(where, f"empty: {expression}")
        for warning in warnings:
            self.problem(where, f"{warning} in {expression}")

    def interpolate(self, where, text):
        def value(match):
            name = next(group for group in match.groups() if group)
            if name not in self.variables:
                self.problem(where, f"unknown variable ${name}")
                return match[0]
            return self.variables[name]

        return VARIABLE.sub(value, text)

    def problem(self, where, what):
        self.problems.append(f"{self.path}: {where}: {what}")


def all_panels(panels):
    """Panels in reading order, those of collapsed rows included."""
    for panel in panels:
        yield panel
        yield from all_panels(panel.get("panels", []))


def describe(panel):
    return f"panel {panel['id']} {panel.get('title', '')!r}"


def main(arguments):
    if len(arguments) < 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    prometheus = Prometheus(arguments[0])
    checks = [Check(prometheus, path) for path in arguments[1:]]
    for check in checks:
        check.run()
    problems = [problem for check in checks for problem in check.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{sum(check.queries for check in checks)} queries, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
