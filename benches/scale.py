#!/usr/bin/env python3
"""What scale.sh measures: one daemon at sizes a factor of ten apart, and the
exponent by which each figure grows from one size to the next.

Two axes. Series: configured tasks of 90 artifacts, 20 + 2 × 90 series each.
Tasks: followed ones of one artifact, 20 + 2 + 34 series each. Followed, since
the first poll of a configured task takes two requests, and 10 000 of them are
more than the largest burst: the rate limit would be measured, not the daemon.

Standard library alone. scale_plot.py draws.
"""
import argparse
import collections
import contextlib
import http.client
import json
import math
import os
import pathlib
import platform
import signal
import statistics
import sys
import tempfile
import time

import measuring
import scale_plot
from measuring import PATIENCE, get, ready, sample, total

# What has to grow in proportion: 1, and a little for what is measured inexactly.
MOST = 1.05
SCRAPE_EVERY = 15.0

Axis = collections.namedtuple("Axis", "name unit counts rows")
AXES = [Axis("series", "series", [5, 50, 500, 5000], 90),
        Axis("tasks", "tasks", [100, 1000, 10_000], 1)]
QUICK = [Axis("series", "series", [5, 50, 500], 90),
         Axis("tasks", "tasks", [10, 100, 1000], 1)]
Effort = collections.namedtuple("Effort", "rounds windows")

Figure = collections.namedtuple("Figure", "name title unit held")
FIGURES = [
    Figure("poll", "first poll, CPU", "ms", True),
    Figure("plain", "plain scrape, CPU", "ms", True),
    Figure("anew", "gzip scrape, page made anew, CPU", "ms", True),
    Figure("kept", "gzip scrape, page kept, CPU", "ms", True),
    Figure("rest", "a minute at rest, CPU", "ms", False),
    Figure("save", "state saved at the end, CPU", "ms", False),
    Figure("answer", "restart to the first answer, wall", "ms", False),
    Figure("answer_cpu", "restart to the first answer, CPU", "ms", False),
    Figure("page", "restart to the first page, wall", "ms", False),
    Figure("page_cpu", "restart to the first page, CPU", "ms", False),
    Figure("polled", "memory after the poll", "MB", True),
    Figure("scraped", "memory after the scrapes", "MB", True),
    Figure("peak", "memory at most", "MB", False),
    Figure("state", "state file", "MB", False),
]


class Point:
    """One size: its cloud, its folder, what was measured of it."""

    def __init__(self, binary, folder, axis, tasks):
        self.binary = binary
        self.axis = axis
        self.tasks = tasks
        self.followed = axis.name == "tasks"
        self.size = tasks if self.followed else tasks * (20 + 2 * axis.rows)
        self.series = tasks * (20 + 2 * axis.rows + (34 if self.followed else 0))
        self.requests = tasks + 2 * -(-tasks // 100) if self.followed else 2 * tasks
        self.folder = folder / f"{axis.name}-{tasks}"
        self.folder.mkdir()
        self.state = self.folder / "state"
        self.cloud = None
        self.figures = collections.defaultdict(list)

    def note(self, name, value):
        self.figures[name].append(value)

    def config(self, tasks, **more):
        """Nothing is due twice while it is measured."""
        if self.followed:
            instance = {"follow": {"interval": "1h", "max_tasks": tasks, "artifacts": "all"}}
        else:
            instance = {"tasks": measuring.task_ids(tasks)}
        poll = {"interval": "1h", "finished_interval": "1h"}
        return measuring.configuration(
            self.folder, self.cloud, instance, poll, api={"max_pages": 1000},
            limits={"series": 10_000_000}, **more)

    def whole(self, page, requests):
        """Whether the page has all that it should have."""
        assert total(page, "aliyun_acr_exporter_api_request_errors_total") == 0
        asked = total(page, "aliyun_acr_exporter_api_requests_total")
        assert asked == requests, f"{asked} requests, not {requests}"
        assert sample(page, "aliyun_acr_exporter_series_dropped") == 0
        series = sample(page, "aliyun_acr_exporter_series")
        assert series == self.series, f"{series} series, not {self.series}"


class Scraper:
    """One connection that is kept, as Prometheus keeps it."""

    def __init__(self, process, port):
        self.process = process
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def scrape(self, coding):
        """CPU time of the daemon, ms."""
        before = self.process.cpu()
        self.connection.request("GET", "/metrics", headers={"Accept-Encoding": coding})
        answer = self.connection.getresponse()
        # A page of 200 MB is not kept here: freeing it takes time of its own.
        while answer.read(1 << 20):
            pass
        assert answer.status == 200
        return (self.process.cpu() - before) * 1e3


def own_metrics(port):
    """The exporter's own metrics, without the page of all series."""
    names = ["api_requests_total", "api_request_errors_total", "series", "series_dropped"]
    query = "&".join(f"name[]=aliyun_acr_exporter_{name}" for name in names)
    return get(port, f"/metrics?{query}")[1]


def end(process):
    """Stops the daemon; the CPU time that it took to end, ms. What has ended is
    left unreaped until its clock was read."""
    before = process.cpu()
    process.child.send_signal(signal.SIGTERM)
    os.waitid(os.P_PID, process.child.pid, os.WEXITED | os.WNOWAIT)
    return (process.cpu() - before) * 1e3


def start(point, runs):
    """CPU time of a daemon that polls one task, ms: a start, nearly."""
    # The cloud lists all of its tasks to who follows: a cloud of one task.
    with measuring.cloud(point.binary, 1, point.axis.rows) as alone:
        kept, point.cloud = point.cloud, alone
        config = point.config(1)
        point.cloud = kept
        times = []
        for _ in range(runs):
            with measuring.daemon(point.binary, config) as (process, port):
                ready(port)
                times.append(process.cpu() * 1e3)
    return statistics.median(times)


def poll_and_scrape(point, starts):
    with measuring.daemon(point.binary, point.config(point.tasks)) as (process, port):
        ready(port)
        cpu = process.cpu() * 1e3
        polled = process.memory("VmRSS")
        point.whole(own_metrics(port), point.requests)
        # The start that is taken off has polled one task.
        point.note("poll", (cpu - starts) * point.tasks / (point.tasks - 1))
        point.note("polled", polled)
        scraper = Scraper(process, port)
        point.note("anew", scraper.scrape("gzip"))
        point.note("kept", statistics.median(scraper.scrape("gzip") for _ in range(5)))
        point.note("plain", statistics.median(scraper.scrape("identity") for _ in range(3)))
        point.note("scraped", process.memory("VmRSS"))
        point.note("peak", process.memory("VmHWM"))
        scraper.connection.close()
        point.note("end", end(process))


def remember(point):
    """Leaves a state file behind."""
    config = point.config(point.tasks, state={"path": str(point.state)})
    with measuring.daemon(point.binary, config) as (process, port):
        ready(port)
        end(process)


def restart(point):
    config = point.config(point.tasks, state={"path": str(point.state)})
    before = point.state.stat().st_ino
    with measuring.daemon(point.binary, config) as (process, port):
        measuring.eventually("an answer", lambda: measuring.answers(port, "/-/healthy"), 0.001)
        point.note("answer", (time.perf_counter() - process.started) * 1e3)
        point.note("answer_cpu", process.cpu() * 1e3)
        scraper = Scraper(process, port)
        scraper.scrape("gzip")
        point.note("page", (time.perf_counter() - process.started) * 1e3)
        point.note("page_cpu", process.cpu() * 1e3)
        # All of it is remembered, nothing is asked.
        point.whole(own_metrics(port), 0)
        scraper.connection.close()
        point.note("end_with_state", end(process))
    assert point.state.stat().st_ino != before, "nothing was saved at the end"
    point.note("state", point.state.stat().st_size / 1e6)


def rest(points, windows):
    """All daemons at once: each has its own clock, and none has much to do."""
    with contextlib.ExitStack() as stack:
        scrapers = []
        for point in points:
            config = point.config(point.tasks)
            process, port = stack.enter_context(measuring.daemon(point.binary, config))
            ready(port)
            point.whole(own_metrics(port), point.requests)
            scrapers.append((point, Scraper(process, port)))
            scrapers[-1][1].scrape("gzip")
        marks = [scraper.process.cpu() for _, scraper in scrapers]
        due = time.monotonic()
        for _ in range(windows):
            due += SCRAPE_EVERY
            time.sleep(max(0.0, due - time.monotonic()))
            for at, (point, scraper) in enumerate(scrapers):
                scraper.scrape("gzip")
                now = scraper.process.cpu()
                point.note("rest", (now - marks[at]) * 1e3 * 60 / SCRAPE_EVERY)
                marks[at] = now
        for _, scraper in scrapers:
            scraper.connection.close()


def measure(binary, axes, effort):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        points = [Point(binary, pathlib.Path(folder), axis, tasks)
                  for axis in axes for tasks in axis.counts]
        for point in points:
            point.cloud = stack.enter_context(
                measuring.cloud(binary, point.tasks, point.axis.rows))
        tell("starts")
        starts = {}
        for point in points:
            if point.axis.name not in starts:
                starts[point.axis.name] = start(point, 3 * effort.rounds)
        # In turn, so that what else the machine does touches all sizes alike.
        for number in range(effort.rounds):
            tell(f"polls and scrapes, {number + 1} of {effort.rounds}")
            for point in points:
                # Little is measured least exactly, and costs least.
                for _ in range(5 if point.requests <= 200 else 1):
                    poll_and_scrape(point, starts[point.axis.name])
        for point in points:
            remember(point)
        for number in range(effort.rounds):
            tell(f"restarts, {number + 1} of {effort.rounds}")
            for point in points:
                for _ in range(5 if point.requests <= 200 else 1):
                    restart(point)
        tell("rest")
        rest(points, effort.windows)
    return points


def tell(what):
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def slope(sizes, values):
    """Of the line through the logarithms, least squares."""
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    return (sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys))
            / sum((x - mean_x) ** 2 for x in xs))


def summary(points, axes):
    """What is told of a run, ready for JSON."""
    for point in points:
        # What ending costs without a file is not the save's.
        base = statistics.median(point.figures["end"])
        point.figures["save"] = [cpu - base for cpu in point.figures["end_with_state"]]
    return {"machine": machine(), "held_to": MOST,
            "axes": [of_axis(axis, [p for p in points if p.axis is axis]) for axis in axes]}


def of_axis(axis, points):
    figures = []
    for figure in FIGURES:
        spreads = [point.figures[figure.name] for point in points]
        medians = [statistics.median(values) for values in spreads]
        # What is lost in the noise has no logarithm and no exponent.
        known = [(p.size, value) for p, value in zip(points, medians) if value > 0]
        whole = slope(*zip(*known)) if len(known) > 1 else None
        last = slope(*zip(*known[-2:])) if min(medians[-2:]) > 0 else None
        figures.append(figure._asdict() | {
            "median": medians, "least": list(map(min, spreads)), "most": list(map(max, spreads)),
            "runs": list(map(len, spreads)), "exponent": whole, "exponent_last_decade": last})
    return {"name": axis.name, "unit": axis.unit, "rows": axis.rows,
            "sizes": [point.size for point in points], "tasks": [point.tasks for point in points],
            "series": [point.series for point in points], "figures": figures}


def machine():
    cpus = pathlib.Path("/proc/cpuinfo").read_text()
    name = next((line.split(":")[1].strip() for line in cpus.splitlines()
                 if line.startswith("model name")), platform.machine())
    return {"date": time.strftime("%Y-%m-%d"), "cpu": name, "cpus": os.cpu_count(),
            "kernel": platform.release(), "load": os.getloadavg()[0]}


def table(axis):
    """Markdown, as docs/performance.md has it."""
    sizes = [f"{size:,}".replace(",", " ") for size in axis["sizes"]]
    tasks = "" if axis["unit"] == "tasks" else " (" + ", ".join(map(str, axis["tasks"])) + " tasks)"
    artifacts = f"{axis['rows']} artifact" + "s" * (axis["rows"] != 1)
    lines = [f"| tasks of {artifacts} each{tasks} | "
             + " | ".join(f"{size} {axis['unit']}" for size in sizes)
             + " | exponent | of the last decade |",
             "|" + "---|" * (len(sizes) + 3)]
    for figure in axis["figures"]:
        cells = [f"{digits(value)} {figure['unit']}" for value in figure["median"]]
        exponents = [exponent(figure[name]) for name in ("exponent", "exponent_last_decade")]
        lines.append("| " + " | ".join([figure["title"]] + cells + exponents) + " |")
    return "\n".join(lines)


def digits(value):
    """Two figures are what is meant."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def exponent(value):
    return "—" if value is None else f"{value:.2f}"


def verdict(result):
    """The sentences about what is held to proportion, and whether all is reached."""
    lines, reached = [], True
    for axis in result["axes"]:
        for figure in axis["figures"]:
            if not figure["held"]:
                continue
            worst = max(figure[name] or 0.0 for name in ("exponent", "exponent_last_decade"))
            good = worst <= MOST and figure["exponent"] is not None
            reached &= good
            lines.append(f"{'reached' if good else 'NOT REACHED'}: {figure['title']} with"
                         f" {axis['unit']}: exponent {exponent(figure['exponent'])}, of the last"
                         f" decade {exponent(figure['exponent_last_decade'])}, at most {MOST}")
    return lines, reached


def main():
    parser = argparse.ArgumentParser(prog="scale.sh")
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--draw", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.draw:
        result = json.loads(arguments.draw.read_text())
    elif arguments.binary:
        axes, effort = (QUICK, Effort(7, 1)) if arguments.quick else (AXES, Effort(11, 4))
        result = summary(measure(arguments.binary, axes, effort), axes)
    else:
        parser.error("BINARY or --draw is needed")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    # A quick look does not take the place of what the documents show.
    svg = arguments.svg or (None if arguments.quick else pathlib.Path("docs/scale.svg"))
    if svg:
        svg.write_text(scale_plot.draw(result))
    for axis in result["axes"]:
        print(table(axis), end="\n\n")
    lines, reached = verdict(result)
    print("\n".join(lines))
    if arguments.check and not reached:
        sys.exit(1)


if __name__ == "__main__":
    main()
