#!/usr/bin/env python3
"""Write the dashboards in dashboards/, which are generated: edit this file, not the JSON.

usage: generate.py [--check]

One panel is two thousand characters of JSON, of which two hundred say something; those stand
here. `--check` writes nothing and fails (exit 1) if a file is not what would be written.
Needs the standard library only.
"""

import json
import pathlib
import sys

DASHBOARDS = pathlib.Path(__file__).parent / "dashboards"
TAG = "aliyun-acr-exporter"
OVERVIEW = "aliyun-acr-overview"
EXPORTER = "aliyun-acr-exporter"

# --- what is asked ---------------------------------------------------------------------------

JOB = 'job=~"$job"'
INSTANCE = JOB + ',instance_id=~"$instance_id"'
TASK = INSTANCE + ',task=~"$task"'

# Two exporters that watch the same must count once, hence `max by` these everywhere.
BY_TASK = "instance_id, task_id, task"
BY_SUBSCRIPTION = "instance_id, repo_namespace, repo_name, source_provider, source_repository"

REASONS = {
    "ok": "green",
    "none": "green",
    "throttled": "yellow",
    "auth": "dark-red",
    "forbidden": "red",
    "clock": "super-light-red",
    "credentials": "semi-dark-red",
    "not_found": "orange",
    "bad_request": "dark-orange",
    "timeout": "purple",
    "connect": "blue",
    "server": "dark-blue",
    "decode": "dark-purple",
    "other": "text",
}

# In the order of their weight, so that the worst is the largest.
STATUSES = [
    ("empty", "text"),
    ("succeeded", "green"),
    ("running", "blue"),
    ("unknown", "purple"),
    ("failed", "red"),
]


def of_task(metric, more=""):
    return f"max by ({BY_TASK}) (aliyun_acr_subscription_{metric}{{{TASK}{more}}})"


def of_subscription(metric, more=""):
    return f"max by ({BY_SUBSCRIPTION}) (aliyun_acr_subscription_{metric}{{{INSTANCE}{more}}})"


def coded(by, metric, labels, statuses=STATUSES):
    """The one status that is true as a number: its place in STATUSES, from 1."""
    known = [name for name, _ in STATUSES]
    terms = [
        f'{known.index(name) + 1} * (aliyun_acr_subscription_{metric}{{{labels},status="{name}"}} == 1)'
        for name, _ in statuses
    ]
    return f"max by ({by}) (\n  " + "\n  or ".join(terms) + "\n)"


def ending(status):
    return f',status="{status}"'


def artifacts_of(by, metric, labels):
    """All artifacts, whatever their status."""
    return f"sum by ({by}) (max by ({by}, status) (aliyun_acr_subscription_{metric}{{{labels}}}))"


def count(expression):
    """How many, 0 included."""
    return f"count({expression}) or vector(0)"


def source_page(expression):
    """Adds the label `source`: where the source repository can be looked at, without https://."""
    return labelled(
        f'label_join({expression}, "source", " ", "source_provider", "source_repository")',
        ("source", "hub.docker.com/r/$1", "DOCKER_HUB (.+)"),
        ("source", "quay.io/repository/$1", "QUAY (.+)"),
        ("source", "gcr.io/$1", "GCR (.+)"),
    )


def labelled(expression, *replacements):
    for label, value, pattern in replacements:
        expression = f'label_replace({expression}, "{label}", "{value}", "{label}", "{pattern}")'
    return expression


def repository(expression):
    return f'label_join({expression}, "repository", "/", "repo_namespace", "repo_name")'


TASKS = of_task("task_info")
FAILED_TASKS = of_task("task_status", ending("failed")) + " == 1"
FAILING = of_subscription("last_finished_run_status", ending("failed")) + " == 1"
STALE = f"{TASKS}\nunless on ({BY_TASK})\n{of_task('task_status')}"
NOT_LISTED = f"max by (instance_id) (aliyun_acr_exporter_follow_up{{{INSTANCE}}}) == 0"
SUCCESS_AGE = (
    f"time() - (\n  {of_subscription('last_success_timestamp_seconds')}\n"
    f"  or {of_subscription('created_timestamp_seconds')}\n)"
)
DATA_AGE = f"time() - {of_task('task_last_successful_poll_timestamp_seconds')}"
# Why a task cannot be read, or that it can.
POLL = (
    f"max by ({BY_TASK}, reason) (aliyun_acr_subscription_task_poll_error{{{TASK}}})\n"
    f'or on ({BY_TASK}) label_replace({of_task("task_up")}, "reason", "ok", "", "")'
)
ALERTS = 'alertname=~"AliyunAcr.+",instance_id=~"$instance_id|"'
FIRING = f'ALERTS{{{ALERTS},alertstate="firing"}}'
# Who an alert is about. Labels that it has not are blanks, which a browser folds.
ABOUT = ["task", "repo_namespace", "repo_name", "credentials", "provider", "action", "reason", "field", "value", "instance_id", "instance", "job"]


def rate(metric, by="", labels=JOB, over="$__rate_interval"):
    by = f" by ({by})" if by else ""
    return f"sum{by} (rate({metric}{{{labels}}}[{over}]))"


def quantile(q, metric, labels, by="", over="$__rate_interval"):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(metric + '_bucket', by, labels, over)})"


# --- how it is drawn -------------------------------------------------------------------------

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def target(expression, legend=None, table=False, instant=False):
    out = {"datasource": SOURCE, "editorMode": "code", "expr": expression}
    out["format"] = "table" if table else "time_series"
    out["instant"] = table or instant
    out["range"] = not out["instant"]
    if legend is not None:
        out["legendFormat"] = legend
    return out


def steps(*pairs):
    """Thresholds: the first is a colour, the others (from, colour)."""
    first, *rest = pairs
    return {
        "mode": "absolute",
        "steps": [{"color": first, "value": None}] + [{"color": color, "value": at} for at, color in rest],
    }


def values(*rows):
    """Mappings of single values: (value, text, colour)."""
    options = {
        str(value): {"text": text, "color": color, "index": index} for index, (value, text, color) in enumerate(rows)
    }
    return {"type": "value", "options": options}


def span(low, high, text, color):
    return {"type": "range", "options": {"from": low, "to": high, "result": {"text": text, "color": color, "index": 9}}}


STATUS = [values(*((place + 1, name, color) for place, (name, color) in enumerate(STATUSES)))]


def otherwise(color):
    return {"type": "regex", "options": {"pattern": "(.+)", "result": {"text": "$1", "color": color, "index": 99}}}


def runbook(alert):
    return {"title": f"Runbook: {alert}", "url": f"${{runbooks}}/{alert}.md", "targetBlank": True}


def to_dashboard(uid, title, **fixed):
    """A link that keeps time and variables but those that are fixed."""
    keep = [name for name in ("datasource", "job", "instance_id", "task") if name not in fixed]
    query = "&".join([f"${{{name}:queryparam}}" for name in keep] + [f"var-{name}={value}" for name, value in fixed.items()])
    return {"title": title, "url": f"/d/{uid}?{query}&${{__url_time_range}}", "targetBlank": False}


def full(link):
    """A link as dashboards and panels have it; those of fields have three keys."""
    more = {"type": "link", "tooltip": "", "icon": "external link", "tags": [], "asDropdown": False}
    return {**more, "includeVars": False, "keepTime": False, **link}


def panel(kind, title, description, width, height, targets, *, options, defaults, overrides=(), links=(), **more):
    targets = [{**one, "refId": chr(ord("A") + index)} for index, one in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": targets,
        "links": [full(link) for link in links],
        **more,
    }


def stat(title, description, width, expression, *, unit="none", thresholds, mappings=(), background=False, links=(), empty="none", decimals=None):
    defaults = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds,
        "mappings": list(mappings),
        "noValue": empty,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "background" if background else "value",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, width, 4, [target(expression, instant=True)], options=options, defaults=defaults, links=links)


def lines(title, description, width, *targets, unit, height=8, thresholds=None, fill=0, stack=False, log=False, low=0, colors=None, dashed=None, aside=False, links=(), empty="no data"):
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": fill,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    defaults = {
        "unit": unit,
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": thresholds or steps("green"),
        "noValue": empty,
    }
    if low is not None and not log:
        defaults["min"] = low
    overrides = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for name, color in (colors or {}).items()
    ]
    if dashed:
        overrides.append(
            {
                "matcher": {"id": "byRegexp", "options": dashed},
                "properties": [
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                ],
            }
        )
    options = {
        "legend": {
            "displayMode": "table" if aside else "list",
            "placement": "right" if aside else "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull"] if aside else [],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, width, height, targets, options=options, defaults=defaults, overrides=overrides, links=links)


def timeline(title, description, width, expression, legend, height, links=(), empty="no data"):
    defaults = {
        "unit": "none",
        "color": {"mode": "thresholds"},
        "thresholds": steps("text"),
        "mappings": STATUS,
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "noValue": empty,
    }
    options = {
        "alignValue": "center",
        "mergeValues": True,
        "perPage": 20,
        "rowHeight": 0.85,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, description, width, height, [target(expression, legend)], options=options, defaults=defaults, links=links)


def column(source, name, *, width=None, unit=None, mappings=None, thresholds=None, cell=None, links=None, decimals=None, wrap=False):
    """One column of a table: the field it shows, its heading and looks."""
    # The text for an empty table would stand in every empty cell.
    properties = [{"id": "noValue", "value": "–"}]
    if width:
        properties.append({"id": "custom.width", "value": width})
    if unit:
        properties.append({"id": "unit", "value": unit})
    if decimals is not None:
        properties.append({"id": "decimals", "value": decimals})
    if mappings:
        properties.append({"id": "mappings", "value": mappings})
    if thresholds:
        properties.append({"id": "thresholds", "value": thresholds})
    if cell or mappings or thresholds:
        properties.append({"id": "custom.cellOptions", "value": {"type": cell or "color-text"}})
    if wrap:
        properties.append({"id": "custom.wrapText", "value": True})
    if links:
        properties.append({"id": "links", "value": links})
    if mappings:  # Words, also where they are numbers.
        properties.append({"id": "custom.align", "value": "left"})
    return source, name, properties


def table(title, description, width, height, expressions, columns, *, sort=None, rising=False, links=(), empty="none"):
    """Rows of several queries that agree in their labels become one. Fields that no column names are left out.
    `sort` is the field whose largest value comes first, or the smallest where `rising`."""
    wanted = [source for source, _, _ in columns]
    fields = {
        "id": "filterFieldsByName",
        "options": {"include": {"names": wanted}},
    }
    order = {
        "id": "organize",
        "options": {
            "excludeByName": {},
            "includeByName": {},
            "indexByName": {source: index for index, source in enumerate(wanted)},
            "renameByName": {source: name for source, name, _ in columns},
        },
    }
    overrides = [{"matcher": {"id": "byName", "options": name}, "properties": properties} for _, name, properties in columns]
    defaults = {
        "unit": "none",
        "color": {"mode": "thresholds"},
        "thresholds": steps("text"),
        "mappings": [],
        "noValue": empty,
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
    }
    options = {"cellHeight": "sm", "showHeader": True, "frameIndex": 0}
    merge = [{"id": "merge", "options": {}}] if len(expressions) > 1 else []
    by = [{"id": "sortBy", "options": {"fields": {}, "sort": [{"field": sort, "desc": not rising}]}}] if sort else []
    targets = [target(expression, table=True) for expression in expressions]
    return panel(
        "table", title, description, width, height, targets,
        options=options, defaults=defaults, overrides=overrides, links=links, transformations=[*merge, *by, fields, order],
    )  # fmt: skip


def value(index, several=True):
    return f"Value #{chr(ord('A') + index)}" if several else "Value"


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def placed(panels):
    """Panels from left to right and downwards; every line is as high as its highest."""
    x = y = line = 0
    for number, one in enumerate(panels, 1):
        size = one["gridPos"]
        if x + size["w"] > 24:
            x, y, line = 0, y + line, 0
        one["id"] = number
        one["gridPos"] = {"x": x, "y": y, **size}
        x, line = x + size["w"], max(line, size["h"])
    return panels


def query_variable(name, label, description, query, everything):
    out = {
        "type": "query",
        "name": name,
        "label": label,
        "description": description,
        "datasource": SOURCE,
        "query": {"query": query, "refId": "Variable"},
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
        "skipUrlSync": False,
    }
    if everything:
        out["allValue"] = everything
    return out


def variables():
    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "description": "The Prometheus that scrapes the exporters",
            "query": "prometheus",
            "regex": "",
            "refresh": 1,
            "multi": False,
            "includeAll": False,
            "options": [],
            "hide": 0,
            "skipUrlSync": False,
        },
        # No value for all: `up` is there for every job of a Prometheus.
        query_variable("job", "Job", "Scrape jobs of exporters", "label_values(aliyun_acr_exporter_build_info, job)", None),
        query_variable(
            "instance_id",
            "Registry instance",
            "Instances of Container Registry",
            f"label_values(aliyun_acr_subscription_task_info{{{JOB}}}, instance_id)",
            ".+",
        ),
        query_variable(
            "task",
            "Task",
            "Names of tasks; followed runs have the name of their repository",
            f"label_values(aliyun_acr_subscription_task_info{{{INSTANCE}}}, task)",
            ".+",
        ),
        {
            "type": "constant",
            "name": "runbooks",
            "label": "Runbooks",
            "description": "Where docs/runbooks can be read",
            "query": "https://runbooks.example.com/aliyun-acr-exporter",
            "hide": 2,
            "skipUrlSync": True,
        },
    ]


def dashboard(uid, title, description, panels):
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG, "container-registry"],
        "schemaVersion": 42,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "links": [
            {
                "type": "dashboards",
                "title": "Dashboards",
                "tooltip": "The other dashboard, with the same time and variables",
                "icon": "external link",
                "tags": [TAG],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "url": "",
            },
            full({"title": "Runbooks", "tooltip": "What to do about each alert", "icon": "doc", "targetBlank": True, "url": "${runbooks}"}),
        ],
        "annotations": {
            "list": [
                {
                    "builtIn": 1,
                    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                    "enable": True,
                    "hide": True,
                    "iconColor": "rgba(0, 211, 255, 1)",
                    "name": "Annotations & Alerts",
                    "type": "dashboard",
                }
            ]
        },
        "templating": {"list": variables()},
        "panels": placed(panels),
    }


# --- the dashboards --------------------------------------------------------------------------

CONSOLE = [{"title": "Instances of this region in the console", "url": "https://cr.console.aliyun.com/${__value.text}/instances", "targetBlank": True}]
SOURCE_LINK = [{"title": "Source repository", "url": "https://${__value.text}", "targetBlank": True}]
ONE_TASK = [to_dashboard(OVERVIEW, "This task alone", task="${__value.text}"), to_dashboard(EXPORTER, "How it is polled", task="${__value.text}")]
RED_FROM_ONE = steps("green", (1, "red"))
ORANGE_FROM_ONE = steps("green", (1, "orange"))
DAY = 86400
SUCCESS = steps("green", (DAY, "orange"), (2 * DAY, "red"))
LAG = steps("green", (60, "orange"), (600, "red"))
NEARLY_FULL = steps("green", (0.8, "orange"), (1, "red"))


def info_of_task(*labels):
    """One series a task with what is known of it, also while two exporters know different things."""
    return (
        f"topk by (instance_id, task_id) (1, max by ({BY_TASK}, {', '.join(labels)}) "
        f"(aliyun_acr_subscription_task_info{{{TASK}}}))"
    )


def overview():
    verdict = (
        f"3 * absent(aliyun_acr_exporter_build_info{{{JOB}}})\n"
        f"or 2 + 0 * count({FAILED_TASKS})\n"
        f"or 2 + 0 * count({FAILING})\n"
        f"or 1 + 0 * count({STALE})\n"
        f"or 1 + 0 * count({NOT_LISTED})\n"
        f"or 1 + 0 * count({of_task('task_status', ending('unknown'))} == 1)\n"
        "or vector(0)"
    )
    # Numbered, so that they sort by weight and not by name.
    since = labelled(
        f"max by (alertname, severity, about) (label_join(\n"
        f"  1000 * ALERTS_FOR_STATE{{{ALERTS}}}\n"
        f"  and ignoring (alertstate) {FIRING},\n"
        f'  "about", " ", {", ".join(json.dumps(label) for label in ABOUT)}\n))',
        ("severity", "1 $1", "(critical)"),
        ("severity", "2 $1", "(warning)"),
    )
    artifacts = source_page(
        'label_join(\n  '
        f"max by ({BY_TASK}, repo_namespace, repo_name, tag, status) "
        f'(aliyun_acr_subscription_artifact_status{{{TASK},status=~"failed|unknown"}})\n'
        f"  * on ({BY_TASK}) group_left (acr_region, source_provider, source_repository)\n"
        f"  {info_of_task('acr_region', 'source_provider', 'source_repository')},\n"
        '  "artifact", ":", "repo_name", "tag")'
    )
    slowest = (
        f"topk(10, max by (task, artifact) (label_join(\n"
        f"  aliyun_acr_subscription_artifact_sync_duration_seconds{{{TASK}}},\n"
        '  "artifact", ":", "repo_name", "tag"\n)))'
    )
    # What is bad lies at the bottom, where its size can be seen.
    outcomes = [("failed", "red"), ("unknown", "purple"), ("running", "blue"), ("succeeded", "green")]
    increase = "max by ({by}) (increase(aliyun_acr_subscription_{metric}{{{labels}}}[1h]))"
    finished = increase.format(by=BY_SUBSCRIPTION, metric="runs_total", labels=INSTANCE)
    failed = increase.format(by=BY_SUBSCRIPTION, metric="run_failures_total", labels=INSTANCE)
    severity = [values(("1 critical", "critical", "red"), ("2 warning", "warning", "orange"), ("info", "info", "blue"))]
    artifact_status = [values(("failed", "failed", "red"), ("unknown", "unknown", "purple"))]

    return dashboard(
        OVERVIEW,
        "Aliyun ACR / Overview",
        "Do the artifact subscriptions of Alibaba Cloud Container Registry arrive? What failed, since when, and where to go on.",
        [
            stat(
                "Verdict",
                "Everything of this page in one word. **Failing**: a task failed, or the newest finished run of a subscription did. **Cannot tell**: nothing is known to fail, but something has no fresh data, is not listed or says a word that nobody knows. **No exporter**: nothing is watched. Go on with the alerts and tables below.",
                4,
                verdict,
                thresholds=steps("green", (1, "orange"), (2, "red")),
                mappings=[values((0, "All well", "green"), (1, "Cannot tell", "orange"), (2, "Failing", "red"), (3, "No exporter", "dark-red"))],
                background=True,
                links=[runbook("AliyunAcrExporterAbsent")],
            ),
            stat(
                "Failing subscriptions",
                "Followed subscriptions whose newest finished run failed; a run that has merely begun does not clear it. The table of subscriptions has them on top.",
                4,
                count(FAILING),
                thresholds=RED_FROM_ONE,
                links=[runbook("AliyunAcrSubscriptionFailed")],
            ),
            stat(
                "Failed tasks",
                "Tasks, named ones and runs of followed subscriptions, of which an artifact or the task itself failed. The table of failed artifacts tells which.",
                3,
                count(FAILED_TASKS),
                thresholds=RED_FROM_ONE,
                links=[runbook("AliyunAcrTaskFailed")],
            ),
            stat(
                "Unknown",
                "Tasks whose outcome the cloud tells in a word that is in no list. Look the word up under *Unrecognized words*, and add it under `status:` in the configuration.",
                2,
                count(of_task("task_status", ending("unknown")) + " == 1"),
                thresholds=steps("green", (1, "purple")),
                links=[runbook("AliyunAcrUnrecognizedValue")],
            ),
            stat(
                "No fresh data",
                "Tasks that could not be read for so long that their status is shown no more: they may fail unseen. The table of tasks tells why, the other dashboard whether it is the exporter, the API or the credentials.",
                3,
                count(STALE),
                thresholds=ORANGE_FROM_ONE,
                links=[to_dashboard(EXPORTER, "Exporter dashboard"), runbook("AliyunAcrDataStale")],
            ),
            stat(
                "Running",
                "Tasks that run now. One that does not end blocks what waits for it: see how long in the table of tasks.",
                2,
                count(of_task("task_status", ending("running")) + " == 1"),
                thresholds=steps("blue"),
                links=[runbook("AliyunAcrTaskStuck")],
            ),
            stat(
                "Oldest success",
                "Time since the last successful run of the subscription that has waited longest, or since its creation if no run has succeeded. Orange after a day, red after two: compare with how often your rules run.",
                3,
                f"max(\n{SUCCESS_AGE}\n)",
                unit="s",
                decimals=1,
                thresholds=SUCCESS,
                empty="no subscriptions",
                links=[runbook("AliyunAcrSubscriptionNoSuccess")],
            ),
            stat(
                "Alerts firing",
                "Firing alerts of the shipped rules, those on the exporter included. 0 also where the rules are not loaded.",
                3,
                f"count({FIRING}) or vector(0)",
                thresholds=RED_FROM_ONE,
            ),
            table(
                "Firing alerts",
                "What somebody should do something about, by the shipped rules. Each name leads to its runbook.",
                12,
                7,
                [since],
                [
                    column("alertname", "Alert", width=250, links=[{"title": "Runbook", "url": "${runbooks}/${__value.raw}.md", "targetBlank": True}]),
                    column("severity", "Severity", width=75, mappings=severity),
                    column("about", "About", wrap=True),
                    column("Value", "Since", width=125, unit="dateTimeFromNow"),
                ],
                sort="severity",
                rising=True,
                empty="No alert fires, or the rules are not loaded",
            ),
            table(
                "Failed and unknown artifacts",
                "Tags that did not arrive, or of which nobody knows. The task leads to its own view, the source to the repository it comes from, the region to the console, where the cloud's message stands. Nothing here is good.",
                12,
                7,
                [artifacts],
                [
                    column("task", "Task", width=105, links=ONE_TASK),
                    column("artifact", "Artifact"),
                    column("status", "Status", width=78, mappings=artifact_status),
                    column("source", "Source", width=242, links=SOURCE_LINK),
                    column("acr_region", "Region", width=110, links=CONSOLE),
                ],
                sort="status",
                rising=True,
                links=[runbook("AliyunAcrTaskFailed")],
                empty="Nothing failed",
            ),
            timeline(
                "Subscriptions, newest run",
                "Since when a subscription fails, and whether it fails always or now and then. A gap is a time without fresh data. The variable Task has no effect here.",
                12,
                coded("instance_id, repo_namespace, repo_name", "last_run_status", INSTANCE),
                "{{repo_namespace}}/{{repo_name}}",
                9,
                empty="No followed subscriptions",
            ),
            timeline(
                "Tasks",
                "The same for tasks, named ones and followed runs, by name: where several bear one name, the worst of them. A gap is a time without fresh data.",
                12,
                coded("instance_id, task", "task_status", TASK),
                "{{task}}",
                9,
            ),
            table(
                "Subscriptions",
                "Each followed subscription, worst first. One failed run may be chance, three in a row are not; the age of the last success is the age of what you deploy. *Artifacts*, *Failed*, *Cause* and *Duration* are those of the last finished run. Filtered by instance, not by task.",
                24,
                7,
                [
                    repository(source_page(of_subscription("rule_info"))),
                    coded(BY_SUBSCRIPTION, "last_run_status", INSTANCE),
                    coded(BY_SUBSCRIPTION, "last_finished_run_status", INSTANCE, STATUSES[1:2] + STATUSES[3:]),
                    of_subscription("consecutive_failed_runs"),
                    SUCCESS_AGE,
                    artifacts_of(BY_SUBSCRIPTION, "last_finished_run_artifacts", INSTANCE),
                    of_subscription("last_finished_run_artifacts", ending("failed")),
                    of_subscription("last_finished_run_duration_seconds"),
                    "1000 * " + of_subscription("last_run_start_timestamp_seconds"),
                    f"max by ({BY_SUBSCRIPTION}, cause) (aliyun_acr_subscription_last_finished_run_failure{{{INSTANCE}}})",
                ],
                [
                    column("repository", "Repository", links=[to_dashboard(OVERVIEW, "Its runs alone", task="${__value.text}")]),
                    column("source", "Source", width=305, links=SOURCE_LINK),
                    column("instance_id", "Instance", width=180),
                    column(value(1), "Newest run", width=100, mappings=STATUS),
                    column(value(2), "Last finished", width=105, mappings=STATUS),
                    column(value(3), "Failed in a row", width=110, thresholds=steps("text", (1, "orange"), (3, "red"))),
                    column(value(4), "Last success", width=105, unit="s", decimals=1, thresholds=SUCCESS),
                    column(value(5), "Artifacts", width=78),
                    column(value(6), "Failed", width=60, thresholds=steps("text", (1, "red"))),
                    column("cause", "Cause", width=95),
                    column(value(7), "Duration", width=85, unit="s", decimals=1),
                    column(value(8), "Started", width=125, unit="dateTimeFromNow"),
                ],
                sort=value(3),
                links=[runbook("AliyunAcrSubscriptionFailingAgain"), runbook("AliyunAcrSubscriptionStuck")],
                empty="No followed subscriptions",
            ),
            table(
                "Tasks",
                "Each task, worst first, with how many of its artifacts failed or are running, and the cause of a failure. *Poll* is the reason why a task cannot be read; columns that need fresh data are then empty. Remove a task from the configuration if it stays `not_found`.",
                24,
                9,
                [
                    source_page(f"max by ({BY_TASK}, acr_region, source_provider, source_repository) (aliyun_acr_subscription_task_info{{{TASK}}})"),
                    coded(BY_TASK, "task_status", TASK),
                    artifacts_of(BY_TASK, "task_artifacts", TASK),
                    of_task("task_artifacts", ending("failed")),
                    of_task("task_artifacts", ending("running")),
                    of_task("task_sync_duration_seconds"),
                    "1000 * " + of_task("task_start_timestamp_seconds"),
                    DATA_AGE,
                    POLL,
                    f"max by ({BY_TASK}, cause) (aliyun_acr_subscription_task_failure{{{TASK}}})",
                ],
                [
                    column("task", "Task", links=ONE_TASK),
                    column("task_id", "Id", width=190),
                    column("source", "Source", width=305, links=SOURCE_LINK),
                    column("acr_region", "Region", width=115, links=CONSOLE),
                    column(value(1), "Status", width=90, mappings=STATUS),
                    column(value(2), "Artifacts", width=78),
                    column(value(3), "Failed", width=60, thresholds=steps("text", (1, "red"))),
                    column(value(4), "Running", width=72, thresholds=steps("text", (1, "blue"))),
                    column("cause", "Cause", width=95),
                    column(value(5), "Duration", width=78, unit="s", decimals=1),
                    column(value(6), "Started", width=125, unit="dateTimeFromNow"),
                    column(value(7), "Data age", width=82, unit="s", decimals=0),
                    column("reason", "Poll", width=95, mappings=[values(("ok", "ok", "green")), otherwise("orange")]),
                ],
                sort=value(1),
                links=[runbook("AliyunAcrTaskNotFound"), runbook("AliyunAcrDataStale")],
                empty="No tasks",
            ),
            row("History"),
            lines(
                "Runs finished an hour",
                "How much is synchronised, and how much of it fails. Only runs that began after the exporter knew the subscription are counted. Where nothing is finished for hours, look whether the rules still run.",
                8,
                target(f"sum({failed})", "failed"),
                target(f"sum({finished})\n- sum({failed})", "succeeded"),
                unit="short",
                fill=25,
                stack=True,
                colors={"succeeded": "green", "failed": "red"},
            ),
            lines(
                "Age of the last success",
                "The ten subscriptions that wait longest. A healthy one is a saw with teeth as high as its rule's interval; a straight rise is one that fails or does not run.",
                8,
                target(f"topk(10,\n{SUCCESS_AGE}\n)", "{{repo_namespace}}/{{repo_name}}"),
                unit="s",
                thresholds=SUCCESS,
            ),
            lines(
                "Duration of the newest finished run",
                "The ten slowest subscriptions. A run that takes longer each time will one day not be over when the next one is due.",
                8,
                target(f"topk(10, {of_subscription('last_finished_run_duration_seconds')})", "{{repo_namespace}}/{{repo_name}}"),
                unit="s",
                links=[runbook("AliyunAcrSubscriptionSlow")],
            ),
            lines(
                "Artifacts by outcome",
                "Artifacts of all tasks with fresh data. Red that stays is broken; a drop of everything at once is data that went stale.",
                6,
                *(target(f"sum({of_task('task_artifacts', ending(name))})", name) for name, _ in outcomes),
                unit="short",
                fill=25,
                stack=True,
                colors=dict(outcomes),
            ),
            lines(
                "Time an artifact takes",
                "Of the artifacts of runs that finished within the hour. When it grows for all alike, the source or the way to it is slow.",
                6,
                *(
                    target(quantile(q, "aliyun_acr_subscription_run_artifact_duration_seconds", INSTANCE, over="1h"), name)
                    for q, name in ((0.5, "half below"), (0.95, "95 % below"))
                ),
                unit="s",
                empty="No run finished",
            ),
            table(
                "Slowest artifacts",
                "The ten finished tags, of all tasks with fresh data, that took longest: large images, or a slow source.",
                6,
                8,
                [slowest],
                [
                    column("artifact", "Artifact"),
                    column("task", "Task", width=110, links=ONE_TASK),
                    column("Value", "Took", width=75, unit="s", decimals=1),
                ],
                empty="No finished artifact",
            ),
            table(
                "Unrecognized words",
                "Words of the cloud that are in no list; their artifacts are shown as unknown. Find out what they mean and add them under `status:` in the configuration. Nothing here is good.",
                6,
                8,
                [f"max by (field, value) (aliyun_acr_exporter_unrecognized_values{{{JOB}}})"],
                [column("field", "Field", width=110), column("value", "Word")],
                links=[runbook("AliyunAcrUnrecognizedValue")],
                empty="No unknown word",
            ),
        ],
    )


def exporter():
    own = "aliyun_acr_exporter_"
    requests = own + "api_requests_total"
    errors = own + "api_request_errors_total"
    limit = f"sum by (credentials) ({own}api_rate_limit{{{JOB}}})"
    never = 1e9

    def of_exporter(metric, by="job, instance"):
        return f"max by ({by}) ({metric}{{{JOB}}})"

    def that_occur(expression):
        """By reason, those that occur; else one line at 0, so that the panel says so."""
        return f'{expression} > 0\nor on () label_replace(vector(0), "reason", "none", "", "")'

    keys_end = (
        f"min by (credentials, provider) ({own}credentials_expiration_timestamp_seconds{{{JOB}}}) - time()\n"
        f"or on (credentials) {never:.0f} + 0 * max by (credentials) ({own}api_rate_limit{{{JOB}}})"
    )
    state = (
        f"time() - max by (job, instance) ({own}state_last_save_timestamp_seconds{{{JOB}}})\n"
        f"or on (job, instance) 0 * max by (job, instance) ({own}state_save_failures_total{{{JOB}}}) - 1\n"
        f"or on (job, instance) 0 * max by (job, instance) ({own}ready{{{JOB}}}) - 2"
    )
    ends = [span(never / 2, None, "does not end", "green")]
    key_steps = steps("red", (180, "orange"), (600, "green"))
    yes_no = [values((1, "yes", "green"), (0, "no", "red"))]
    since_listed = f"time() - max by (instance_id) ({own}follow_last_success_timestamp_seconds{{{INSTANCE}}})"

    return dashboard(
        EXPORTER,
        "Aliyun ACR / Exporter",
        "Can the Overview be believed? Freshness, the cloud's API and its rate limit, credentials, and the exporter's process.",
        [
            stat(
                "Down",
                "Targets of the chosen jobs that Prometheus gets no metrics from. What they watched is on no page.",
                3,
                f"count(up{{{JOB}}} == 0) or vector(0)",
                thresholds=RED_FROM_ONE,
                links=[runbook("AliyunAcrExporterDown")],
            ),
            stat(
                "Not ready",
                "Exporters that answer but have not tried every task once; a minute at most after a start.",
                3,
                count(f"{own}ready{{{JOB}}} == 0"),
                thresholds=ORANGE_FROM_ONE,
                links=[runbook("AliyunAcrExporterNotReady")],
            ),
            stat(
                "Configuration",
                "**Old** where the last reload failed and an older configuration is in force: the log tells the line, `check-config` too.",
                3,
                f"min({own}config_last_reload_successful{{{JOB}}})",
                thresholds=steps("red", (1, "green")),
                mappings=[values((1, "ok", "green"), (0, "old", "red"))],
                empty="no exporter",
                links=[runbook("AliyunAcrReloadFailed")],
            ),
            stat(
                "No fresh data",
                "Tasks without fresh data. The reasons stand under *Tasks by poll result*.",
                3,
                count(STALE),
                thresholds=ORANGE_FROM_ONE,
                links=[to_dashboard(OVERVIEW, "Overview dashboard"), runbook("AliyunAcrDataStale")],
            ),
            stat(
                "Poll lag",
                "How late the most overdue poll is now. Above some minutes the rate limit is too low for what is polled: raise it, lengthen the intervals, or use shards.",
                3,
                f"max({own}poll_lag_seconds{{{JOB}}})",
                unit="s",
                thresholds=LAG,
                empty="no exporter",
                links=[runbook("AliyunAcrPollsBehind")],
            ),
            stat(
                "API errors",
                "Share of the requests of the last 15 minutes that failed, retries included. The errors by reason tell what to do.",
                3,
                f"{rate(errors, over='15m')}\n/ ({rate(requests, over='15m')} > 0)\nor vector(0)",
                unit="percentunit",
                decimals=1,
                thresholds=steps("green", (0.01, "orange"), (0.1, "red")),
                links=[runbook("AliyunAcrApiUnreachable")],
            ),
            stat(
                "Calls a day",
                "Estimated from the last hour: what all exporters together take of the quota of the accounts. Too low during the first hour after a start.",
                3,
                f"{DAY} * {rate(requests, over='1h')}",
                unit="short",
                decimals=1,
                thresholds=steps("blue"),
            ),
            stat(
                "First key ends in",
                "The key that ends first. Temporary keys are renewed minutes before they end: below 3 minutes renewal fails, below 0 every request does.",
                3,
                f"min({keys_end})",
                unit="s",
                decimals=1,
                thresholds=key_steps,
                mappings=ends,
                links=[runbook("AliyunAcrCredentialsExpiring")],
            ),
            table(
                "Exporters",
                "Who watches, and whether they are alike: replicas and shards should have one version and one configuration hash. The target leads to the exporter's status page where your browser can reach it.",
                24,
                5,
                [
                    of_exporter("up"),
                    of_exporter(own + "build_info", "job, instance, version, revision"),
                    of_exporter(own + "ready"),
                    of_exporter(own + "tasks"),
                    of_exporter(own + "series"),
                    of_exporter(own + "series_dropped"),
                    of_exporter(own + "config_last_reload_successful"),
                    of_exporter(own + "config_hash"),
                    "1000 * " + of_exporter(own + "config_last_reload_success_timestamp_seconds"),
                    state,
                    "1000 * " + of_exporter("process_start_time_seconds"),
                ],
                [
                    column("instance", "Target", links=[{"title": "Status page", "url": "http://${__value.text}/", "targetBlank": True}]),
                    column("job", "Job", width=170),
                    column("version", "Version", width=75),
                    column("revision", "Revision", width=115),
                    column(value(0), "Up", width=50, mappings=yes_no),
                    column(value(2), "Ready", width=60, mappings=yes_no),
                    column(value(3), "Tasks", width=65),
                    column(value(4), "Series", width=70),
                    column(value(5), "Dropped", width=75, thresholds=steps("text", (1, "orange"))),
                    column(value(6), "Reload", width=70, mappings=[values((1, "ok", "green"), (0, "failed", "red"))]),
                    column(value(7), "Hash", width=125, unit="hex", decimals=0),
                    column(value(8), "Loaded", width=120, unit="dateTimeFromNow"),
                    column(value(9), "State saved", width=95, unit="s", decimals=0, mappings=[values((-1, "not yet", "text"), (-2, "no file", "text"))]),
                    column(value(10), "Started", width=120, unit="dateTimeFromNow"),
                ],
                links=[runbook("AliyunAcrReplicasDisagree"), runbook("AliyunAcrSeriesDropped")],
                empty="No exporter",
            ),
            row("Freshness"),
            lines(
                "Age of the oldest data",
                "Time since the last successful poll of the task that waits longest, by registry instance. It may reach the poll interval, an hour for finished tasks by default; after three times that the data is dropped. The table of tasks on the Overview shows which task it is. A task that has never been read is not drawn.",
                8,
                target(f"max by (instance_id) ({DATA_AGE})", "{{instance_id}}"),
                unit="s",
                links=[runbook("AliyunAcrDataStale")],
            ),
            lines(
                "Tasks by poll result",
                "What the last poll of each task came to: *ok*, or the reason why it cannot be read. `forbidden` and `auth` are for whoever keeps the RAM policy, `not_found` tasks belong out of the configuration, `throttled` wants a lower rate.",
                8,
                target(
                    f"count by (reason) (max by (instance_id, task_id, reason) (aliyun_acr_subscription_task_poll_error{{{TASK}}}))\n"
                    f'or label_replace(count({of_task("task_up")} == 1), "reason", "ok", "", "")',
                    "{{reason}}",
                ),
                unit="short",
                fill=25,
                stack=True,
                colors=REASONS,
                links=[runbook("AliyunAcrTaskNotFound"), runbook("AliyunAcrAccessRefused")],
            ),
            lines(
                "Polls",
                "Finished polls a second, those of them that failed, and those skipped because the one before still ran. Skipped ones mean intervals that are too short for what they ask.",
                8,
                target(rate(own + "polls_total"), "finished"),
                target(rate(own + "poll_failures_total"), "failed"),
                target(rate(own + "polls_skipped_total"), "skipped"),
                unit="cps",
                colors={"finished": "green", "failed": "red", "skipped": "orange"},
                links=[runbook("AliyunAcrPollsOverrun")],
            ),
            lines(
                "Poll lag",
                "How late the most overdue poll of each exporter is. A rise that does not end: more is to be polled than the rate limit lets through.",
                8,
                target(of_exporter(own + "poll_lag_seconds", "instance"), "{{instance}}"),
                unit="s",
                thresholds=LAG,
                links=[runbook("AliyunAcrPollsBehind")],
            ),
            lines(
                "Age of the listings",
                "Time since the rules and tasks of each followed instance were last listed in full; 5 minutes at most by default. While it grows, new runs and new rules stay unseen.",
                8,
                target(since_listed, "{{instance_id}}"),
                unit="s",
                links=[runbook("AliyunAcrListingFailed")],
                empty="No followed instance",
            ),
            table(
                "Followed instances",
                "Whether the lists could be read the last time, and how many newest runs `follow.max_tasks` keeps off the page: raise it, or follow fewer repositories.",
                8,
                8,
                [
                    f"max by (instance_id) ({own}follow_up{{{INSTANCE}}})",
                    f"count by (instance_id) ({of_subscription('rule_info')})",
                    f"max by (instance_id) ({own}follow_tasks_dropped{{{INSTANCE}}})",
                ],
                [
                    column("instance_id", "Instance"),
                    column(value(0), "Listed", width=60, mappings=yes_no),
                    column(value(1), "Subscriptions", width=105),
                    column(value(2), "Left out", width=75, thresholds=steps("text", (1, "orange"))),
                ],
                links=[runbook("AliyunAcrTasksDropped")],
                empty="No followed instance",
            ),
            row("Cloud API"),
            lines(
                "Requests",
                "Requests a second by operation, every attempt; those for keys (STS) included. A step upwards after a change of the configuration is what that change costs.",
                8,
                target(rate(requests, "action"), "{{action}}"),
                unit="reqps",
            ),
            lines(
                "Errors by reason",
                "Failed requests a second by reason. `throttled`: the account's quota is used up, perhaps by others. `timeout`, `connect`, `server`: the way to the endpoint, or the cloud. `auth`, `forbidden`, `clock`: ours to mend.",
                8,
                target(that_occur(rate(errors, "reason")), "{{reason}}"),
                unit="reqps",
                colors=REASONS,
                links=[runbook("AliyunAcrApiUnreachable"), runbook("AliyunAcrThrottled"), runbook("AliyunAcrAccessRefused"), runbook("AliyunAcrActionDenied")],
            ),
            lines(
                "Latency",
                "Duration of one request, connecting included, all operations together. Near `poll.timeout` (10 s by default) requests begin to fail.",
                8,
                *(
                    target(quantile(q, own + "api_request_duration_seconds", JOB), name)
                    for q, name in ((0.5, "half below"), (0.9, "90 % below"), (0.99, "99 % below"))
                ),
                unit="s",
                thresholds=steps("green", (10, "red")),
                empty="No requests",
            ),
            row("Rate limit"),
            lines(
                "Estimated calls a day",
                "What a day costs at the rate of the last hour, by account and operation, against the most that the limit lets through (dashed). Logarithmic. Where it comes near the limit, polls are late; to ask less, lengthen `poll.interval`, `poll.finished_interval` or `follow.interval`.",
                12,
                target(f"{DAY} * {rate(requests, 'credentials, action', over='1h')} > 0", "{{credentials}} {{action}}"),
                target(f"{DAY} * {limit}", "{{credentials}} limit"),
                unit="short",
                log=True,
                height=9,
                dashed=".* limit$",
                aside=True,
            ),
            lines(
                "Share of the limit in use",
                "Requests a second over what the limit allows now. At 100 % requests wait. The limit itself goes down when the cloud throttles.",
                6,
                target(f"{rate(requests, 'credentials')}\n/ {limit}", "{{credentials}}"),
                unit="percentunit",
                thresholds=NEARLY_FULL,
                height=9,
                links=[runbook("AliyunAcrThrottled")],
            ),
            lines(
                "Limit and waiting",
                "The limit in force, requests a second: below the configured one after throttling, and slowly back. And how many requests wait for it on average.",
                6,
                target(limit, "{{credentials}} limit"),
                target(rate(own + "api_rate_limit_wait_seconds_total", "credentials"), "{{credentials}} waiting"),
                unit="short",
                height=9,
                links=[runbook("AliyunAcrThrottled"), runbook("AliyunAcrPollsThrottled")],
            ),
            row("Credentials, clock and requests"),
            table(
                "Credentials",
                "When the key in use ends, and how often none could be had within a day. A temporary key that comes close to its end is not renewed: look at the role, the token file or the metadata service.",
                8,
                7,
                [keys_end, f"sum by (credentials) (increase({own}credentials_refresh_failures_total{{{JOB}}}[1d]))"],
                [
                    column("credentials", "Credentials"),
                    column("provider", "From", width=115),
                    column(value(0), "Ends in", width=105, unit="s", decimals=1, mappings=ends, thresholds=key_steps),
                    column(value(1), "Failed a day", width=100, decimals=0, thresholds=steps("text", (1, "orange"))),
                ],
                links=[runbook("AliyunAcrCredentialsExpiring"), runbook("AliyunAcrAccessRefused")],
                empty="No credentials",
            ),
            lines(
                "Clock skew",
                "The exporter's clock less the cloud's. From 15 minutes on the cloud refuses every request: see to time synchronisation on the host.",
                8,
                target(of_exporter(own + "clock_skew_seconds", "instance"), "{{instance}}"),
                unit="s",
                low=None,
                height=7,
                thresholds=steps("red", (-300, "green"), (300, "red")),
                links=[runbook("AliyunAcrClockSkew")],
            ),
            lines(
                "In flight and retries",
                "Requests in flight at the scrape, at most `poll.concurrency`, and requests sent again a second. Retries are what hides errors from the tables.",
                8,
                target(f"sum({own}api_requests_in_flight{{{JOB}}})", "in flight"),
                target(rate(own + "api_retries_total"), "retries a second"),
                unit="short",
                height=7,
            ),
            row("Process"),
            lines(
                "CPU",
                "Processor time of each exporter: 100 % is one core. It grows with tasks, artifacts and scrapes.",
                6,
                target(f"sum by (instance) (rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))", "{{instance}}"),
                unit="percentunit",
                height=7,
            ),
            lines(
                "Memory",
                "Resident memory of each exporter. It follows the number of artifacts; a rise without more series is a leak, tell the project.",
                6,
                target(of_exporter("process_resident_memory_bytes", "instance"), "{{instance}}"),
                unit="bytes",
                height=7,
            ),
            lines(
                "Series",
                "Series of what is watched, and those that `limits:` keeps off the page. Dropped ones are artifacts that nobody sees: raise the limit, or set `artifacts: failed`.",
                6,
                target(f"sum({own}series{{{JOB}}})", "shown"),
                target(f"sum({own}series_dropped{{{JOB}}})", "dropped"),
                unit="short",
                height=7,
                colors={"dropped": "orange"},
                links=[runbook("AliyunAcrSeriesDropped")],
            ),
            lines(
                "File descriptors",
                "Open ones over those that may be open. Near 100 % no new connection can be made.",
                6,
                target(f"max by (instance) (process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}})", "{{instance}}"),
                unit="percentunit",
                thresholds=NEARLY_FULL,
                height=7,
            ),
            lines(
                "HTTP requests",
                "Requests to the exporters a second, by path and status. Scrapes alone come to one in each scrape interval and Prometheus; 503 are more at once than `--web.max-requests`.",
                8,
                target(rate(own + "http_requests_total", "path, code"), "{{path}} {{code}}"),
                unit="reqps",
                height=7,
            ),
            lines(
                "Log messages",
                "Warnings and errors an hour: read the log where it rises.",
                8,
                target(f'sum by (level) (increase({own}log_messages_total{{{JOB},level=~"warn|error"}}[1h]))', "{{level}}"),
                unit="short",
                height=7,
                colors={"warn": "orange", "error": "red"},
            ),
            lines(
                "Threads and state file",
                "Threads of the processes, and failed writes of the state file an hour: without it counters begin at 0 after the next start.",
                8,
                target(f"sum(process_threads{{{JOB}}})", "threads"),
                target(f"sum(increase({own}state_save_failures_total{{{JOB}}}[1h])) or vector(0)", "failed saves"),
                unit="short",
                height=7,
                colors={"failed saves": "red"},
                links=[runbook("AliyunAcrStateNotSaved")],
            ),
        ],
    )


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    different = 0
    for one in (overview(), exporter()):
        path = DASHBOARDS / f"{one['uid']}.json"
        text = json.dumps(one, indent=1, ensure_ascii=False) + "\n"
        if not arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} is not what generate.py writes; run it", file=sys.stderr)
            different = 1
    return different


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
