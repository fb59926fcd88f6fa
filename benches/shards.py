#!/usr/bin/env python3
"""What shards.sh looks at: one simulated cloud, watched by one daemon with
everything, then by four that share the work.

Held: no series on two pages, the four pages together are the one page, the
requests add up to what check-config says and to what the cloud has counted, and
no daemon, nor all four, ever asked faster than its part of the rate allows.

Standard library alone.
"""
import argparse
import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import measuring
from measuring import get, sample, total

SHARDS = 4
ROWS = 2
RATE = 1000
# Beyond what is asked for, so that no series is left out.
LIMITS = {"series": 10_000_000, "artifacts_per_task": 500}
PAGE = 100
PATIENCE = 600.0
# What depends on when a daemon asked, not on what it was told.
WHEN = re.compile(r"_last_(successful_)?poll_timestamp_seconds\{")
LISTS = ["ListArtifactSubscriptionRule", "ListArtifactSubscriptionTask"]

failures = []


def hold(what, good, but=""):
    verdict = "holds" if good else "DOES NOT HOLD"
    print(f"  {verdict}: {what}{'' if good else f': {but}'}", flush=True)
    if not good:
        failures.append(what)


class Daemon:
    """One of them, and what it told when it had asked for everything."""

    def __init__(self, process, port, total_):
        self.process = process
        self.port = port
        self.rate = RATE / total_
        self.burst = None
        self.too_fast = None

    def look(self):
        """Requests so far, held to the rate limit: a full bucket at its start,
        and `rate` a second since."""
        page = get(self.port, "/metrics?name[]=aliyun_acr_exporter_api_requests_total"
                              "&name[]=aliyun_acr_exporter_api_requests_in_flight")[1]
        asked = by_action(page)
        number = sum(asked.values())
        since = time.perf_counter() - self.process.started
        if number > self.burst + self.rate * since:
            self.too_fast = f"{number:.0f} requests in {since:.1f} s"
        return asked, sample(page, "aliyun_acr_exporter_api_requests_in_flight")


def by_action(page):
    found = re.findall(
        r'^aliyun_acr_exporter_api_requests_total\{action="(\w+)",[^}]*\} (\S+)$',
        page.decode(), re.MULTILINE)
    return {action: float(value) for action, value in found if float(value)}


def configuration(folder, there, followed, tasks):
    """Nothing is due twice while it is looked at."""
    instance = {"tasks": measuring.task_ids(tasks)}
    if followed:
        instance = {"follow": {"interval": "1h", "max_tasks": tasks, "artifacts": "all"}}
    return measuring.configuration(
        folder, there, instance, {"interval": "1h", "finished_interval": "1h"},
        api={"requests_per_second": RATE, "burst": tasks // 4, "page_size": PAGE,
             "max_pages": 1000}, limits=LIMITS)


@contextlib.contextmanager
def daemons(binary, config, shards):
    with contextlib.ExitStack() as stack:
        running = []
        for index in range(shards):
            flags = [f"--shard.index={index}", f"--shard.total={shards}"] if shards > 1 else []
            process = stack.enter_context(measuring.Process(
                binary, "serve", f"--config.file={config}",
                "--web.listen-address=127.0.0.1:0", *flags))
            running.append(Daemon(process, int(process.told(r"listening.*:(\d+)")), shards))
        yield running


def planned(binary, config, index, shards):
    """Calls at the start and at worst a day that check-config prints for a
    shard, the latter for all of them too."""
    flags = [f"--shard.index={index}", f"--shard.total={shards}"] if shards > 1 else []
    text = subprocess.run([binary, "check-config", f"--config.file={config}", *flags],
                          check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout
    start, worst = re.search(r"calls: (\d+) at start, \d+ a day steady, (\d+) a day at worst",
                             text).groups()
    rate = re.search(r"at most ([\d.]+) requests a second", text).group(1)
    every = re.search(r"all \d+ shards together.*at worst (\d+) a day", text)
    return {"start": int(start), "worst": int(worst), "rate": float(rate),
            "worst_of_all": int(every.group(1)) if every else int(worst)}


def counted(there):
    """Requests at the cloud, by operation."""
    with urllib.request.urlopen(f"{there.url}/_sim/requests") as answer:
        return {action: float(n) for action, n in json.load(answer)["counts"].items()}


def forget(there):
    request = urllib.request.Request(f"{there.url}/_sim/requests", method="DELETE")
    urllib.request.urlopen(request).close()


def series_of(page):
    """Name and labels, and value, of each line that is not the exporter's own."""
    own = (b"#", b"aliyun_acr_exporter_", b"process_")
    for line in io.BytesIO(page):
        if not line.startswith(own):
            name, _, value = line.decode().rstrip("\n").rpartition(" ")
            yield name, value


def asked_everything(there, running, expected):
    """Waits until the cloud has counted so many requests; those of each daemon by
    operation. The daemons themselves are seldom looked at: the first scrape after
    a change costs them a walk over all they know."""
    looks = 0

    def probe():
        nonlocal looks
        for daemon in running:
            daemon.process.lives()
        done = sum(counted(there).values()) >= expected
        looks += 1
        if not done and looks % 10:
            return None
        seen = [daemon.look() for daemon in running]
        return [asked for asked, _ in seen] if done and not any(n for _, n in seen) else None
    return measuring.eventually(f"{expected} requests", probe, 1, PATIENCE)


def lists(followed, tasks):
    """Pages of both, of rules and of tasks."""
    return 2 * -(-tasks // PAGE) if followed else 0


def run(binary, there, config, followed, tasks, shards):
    """One arrangement: what was asked, planned, shown and spent."""
    forget(there)
    plans = [planned(binary, config, index, shards) for index in range(shards)]
    burst = tasks // 4
    began = time.perf_counter()
    with daemons(binary, config, shards) as running:
        for daemon in running:
            daemon.burst = max(burst // shards, 1)
        expected = (1 if followed else 2) * tasks + shards * lists(followed, tasks)
        asked = asked_everything(there, running, expected)
        wall = time.perf_counter() - began
        at_cloud = counted(there)
        result = {"plans": plans, "asked": asked, "at_cloud": at_cloud, "wall": wall,
                  "polled": [d.process.memory("VmRSS") for d in running],
                  "cpu": [d.process.cpu() for d in running], "rates": [], "tasks": [],
                  "series": [], "bytes": [], "scrape": [], "scraped": [], "dropped": 0,
                  "pages": []}
        for daemon in running:
            before = daemon.process.cpu()
            page = get(daemon.port, "/metrics")[1]
            result["scrape"].append((daemon.process.cpu() - before) * 1e3)
            result["scraped"].append(daemon.process.memory("VmRSS"))
            result["bytes"].append(len(page) / 1e6)
            result["rates"].append(sum(map(float, re.findall(
                rb"^aliyun_acr_exporter_api_rate_limit\{[^}]*\} (\S+)$", page, re.MULTILINE))))
            result["tasks"].append(sample(page, "aliyun_acr_exporter_tasks"))
            result["series"].append(sample(page, "aliyun_acr_exporter_series"))
            result["dropped"] += sample(page, "aliyun_acr_exporter_series_dropped")
            result["dropped"] += total(page, "aliyun_acr_exporter_api_request_errors_total")
            result["pages"].append(page)
        name = "the whole" if shards == 1 else f"each of {shards} shards"
        hold(f"{name}: nothing left out, no request failed", result["dropped"] == 0)
        hold(f"{name}: its rate is {RATE} / {shards} requests a second, on its page and by"
             " check-config",
             all(rate == RATE / shards for rate in result["rates"])
             and all(plan["rate"] == RATE / shards for plan in plans),
             f"{result['rates']}, {[plan['rate'] for plan in plans]}")
        late = [daemon.too_fast for daemon in running if daemon.too_fast]
        hold(f"{name}: never more requests than its burst and its rate allow", not late, late)
        waits = sum(sum(one.values()) for one in asked) - burst
        hold(f"{name}: and the limit was felt", waits > 0 and wall >= waits / RATE,
             f"{wall:.1f} s for {waits} requests beyond the burst")
        told = {}
        for one in asked:
            for action, number in one.items():
                told[action] = told.get(action, 0) + number
        hold(f"{name}: the cloud has counted what is told, operation by operation",
             at_cloud == told, f"{at_cloud} and {told}")
        result["told"] = told
    return result


def compare(whole, four, followed, tasks, lists_at_worst):
    """The pages, then the requests."""
    left = {}
    for name, value in series_of(whole["pages"].pop()):
        if name in left:
            hold("no series twice on the whole's page", False, name)
        left[name] = value
    number = len(left)
    kinds = sorted({name.split("{")[0].split("_")[3] for name in left})
    twice, strange, other = [], [], []
    seen = set()
    for at in range(SHARDS):
        for name, value in series_of(four["pages"][at]):
            if name in left:
                expected = left.pop(name)
                seen.add(hash(name))
                if value != expected and not WHEN.search(name):
                    other.append(f"{name}: {value}, not {expected}")
            elif hash(name) in seen:
                twice.append(name)
            else:
                strange.append(name)
        four["pages"][at] = b""
    print(f"  {number} series in {len(kinds)} kinds ({', '.join(kinds)}),"
          f" {' + '.join(f'{n:.0f}' for n in four['series'])} of the shards")
    hold("no series on two pages", not twice, twice[:3])
    hold("no series that the whole has not", not strange, strange[:3])
    hold("none of the whole's missing", not left, list(left)[:3])
    hold("each with the whole's value, times of asking aside", not other, other[:3])
    hold("tasks and series add up, as the daemons count them",
         sum(four["tasks"]) == whole["tasks"][0] == tasks
         and sum(four["series"]) == whole["series"][0] == number,
         f"{four['tasks']}, {whole['tasks']}; {four['series']}, {whole['series']}, {number}")

    pages = lists(followed, tasks)
    each = 1 if followed else 2
    one, all_ = sum(whole["told"].values()), sum(four["told"].values())
    print(f"  requests: {one:.0f} of the whole,"
          f" {' + '.join(f'{sum(asked.values()):.0f}' for asked in four['asked'])} ="
          f" {all_:.0f} of the shards")
    hold(f"the whole asks {each} × {tasks} + {pages} pages of lists",
         one == each * tasks + pages, one)
    hold(f"the shards ask {each} × {tasks} + {SHARDS} × {pages}: lists each for itself",
         all_ == each * tasks + SHARDS * pages, all_)
    hold("each shard's lists have all pages",
         all(sum(asked.get(action, 0) for action in LISTS) == pages for asked in four["asked"]))
    hold("check-config says the whole's start", whole["plans"][0]["start"] == one,
         whole["plans"][0]["start"])
    starts = [plan["start"] for plan in four["plans"]]
    hold("check-config's starts of the shards add up", sum(starts) == all_, starts)
    if not followed:
        hold("and of configured tasks each shard's is exact",
             starts == [sum(asked.values()) for asked in four["asked"]], starts)
    # Both polls of an empty task each hour, and the lists.
    by_hand = 2 * 24 * tasks + lists_at_worst
    hold(f"check-config's worst of the whole is {by_hand} a day, as by hand",
         whole["plans"][0]["worst"] == by_hand, whole["plans"][0]["worst"])
    others = (SHARDS - 1) * lists_at_worst
    expected = whole["plans"][0]["worst"] + others
    hold(f"check-config's worst of all is the whole's and {others} for the other shards' lists",
         all(plan["worst_of_all"] == expected for plan in four["plans"])
         and sum(plan["worst"] for plan in four["plans"]) == expected,
         f"{four['plans']}, not {expected}")


def row(name, result):
    def each(values, unit, digits=0):
        return " + ".join(f"{value:.{digits}f}" for value in values) + f" {unit}"
    return (f"| {name} | {result['wall']:.0f} s | {each(result['cpu'], 's', 2)} |"
            f" {each(result['polled'], 'MB')} | {each(result['scraped'], 'MB')} |"
            f" {each(result['scrape'], 'ms')} | {each(result['bytes'], 'MB')} |")


def main():
    parser = argparse.ArgumentParser(prog="shards.sh")
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    binary, tasks = arguments.binary, 4000 if arguments.quick else 40_000
    print(f"{tasks} tasks of {ROWS} artifacts, {SHARDS} shards; {RATE} requests a second,"
          f" burst {tasks // 4}; limits.series {LIMITS['series']}, artifacts_per_task"
          f" {LIMITS['artifacts_per_task']}, api.max_pages 1000, follow.max_tasks {tasks}")
    rows = []
    with (tempfile.TemporaryDirectory() as folder,
          measuring.cloud(binary, tasks, ROWS) as there):
        for followed in (False, True):
            kind = "followed" if followed else "configured"
            config = configuration(pathlib.Path(folder), there, followed, tasks)
            print(f"\n{kind}:", flush=True)
            whole = run(binary, there, config, followed, tasks, 1)
            four = run(binary, there, config, followed, tasks, SHARDS)
            # Two lists of 1000 pages at most, each hour.
            compare(whole, four, followed, tasks, 24 * 2 * 1000 if followed else 0)
            rows += [row(f"{kind}, one daemon", whole), row(f"{kind}, {SHARDS} shards", four)]
    print("\n| | all asked after | CPU | memory, polled | memory, one plain scrape | its CPU |"
          " page |\n"
          "|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    if failures:
        sys.exit(f"{len(failures)} of it did not hold")


if __name__ == "__main__":
    main()
