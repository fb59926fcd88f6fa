#!/usr/bin/env python3
"""What whole-process.sh measures, and the table that it prints.

Started by it: whole_process.py BINARY [PYTHON]. Standard library alone. Every
wait is for a condition; a pause is only the time between two looks at it.
"""
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import measuring
from measuring import (INSTANCE, PATIENCE, Process, answers, eventually, free_port, get, ready, row,
                       sample, spread, task_ids, total)

ROWS = 90
PEER = pathlib.Path(__file__).with_name("peers") / "python_exporter.py"


class Bench:
    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = pathlib.Path(folder)

    def cloud(self, tasks, latency=0):
        return measuring.cloud(self.binary, tasks, ROWS, latency)

    def config(self, cloud, tasks, page_size):
        """Nothing is polled twice while it is measured."""
        return measuring.configuration(
            self.folder, cloud, {"tasks": task_ids(tasks)},
            poll={"interval": "1h", "finished_interval": "1h"}, api={"page_size": page_size})

    def daemon(self, config):
        return measuring.daemon(self.binary, config)


def poll(bench, page_size, latency, runs):
    """The first poll of 1 000 tasks, each run by a new daemon."""
    walls, cpus, requests = [], [], 0
    with bench.cloud(1000, latency) as cloud:
        one = bench.config(cloud, 1, page_size)
        starts = []
        for _ in range(runs):
            with bench.daemon(one) as (process, port):
                ready(port)
                starts.append(process.cpu())
        config = bench.config(cloud, 1000, page_size)
        for _ in range(runs):
            with bench.daemon(config) as (process, port):
                began = time.perf_counter()
                # Looking costs the daemon some CPU time too.
                ready(port, 0.25 if latency else 0.02)
                walls.append(time.perf_counter() - began)
                cpus.append(process.cpu() - statistics.median(starts))
                _, page = get(port, "/metrics")
                assert total(page, "aliyun_acr_exporter_api_request_errors_total") == 0
                requests = total(page, "aliyun_acr_exporter_api_requests_total")
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    row(f"poll, {requests:.0f} requests, page_size {page_size}, latency {latency} ms",
        f"{wall:.2f} s, {requests / wall:.0f} requests/s; daemon CPU {cpu * 1e3:.0f} ms"
        f" ({min(cpus) * 1e3:.0f} to {max(cpus) * 1e3:.0f}), {cpu / requests * 1e6:.0f} µs/request")


def peer(bench, python, page_size, runs):
    with bench.cloud(1000) as cloud:
        tasks = bench.folder / "tasks"
        tasks.write_text("\n".join(task_ids(1000)))
        keys = {"ALIBABA_CLOUD_ACCESS_KEY_ID": cloud.key,
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": cloud.secret}
        done = subprocess.run(
            [python, PEER, f"--instance-id={INSTANCE}", f"--tasks-file={tasks}",
             f"--endpoint={cloud.url.removeprefix('http://')}", "--protocol=HTTP",
             f"--page-size={page_size}", f"--once={runs}"],
            check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | keys)
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(one["rows"] == 1000 * ROWS and one["errors"] == 0 for one in rounds), done.stderr
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    requests = 1000 * -(-ROWS // page_size)
    row(f"Python peer, {requests} requests, page_size {page_size}, latency 0 ms",
        f"{middle['wall_s']:.2f} s, {requests / middle['wall_s']:.0f} requests/s; CPU"
        f" {middle['cpu_s'] * 1e3:.0f} ms, {middle['cpu_s'] / requests * 1e6:.0f} µs/request;"
        f" {max(one['rss_MB'] for one in rounds):.0f} MB;"
        f" page of {middle['rows']:.0f} series in {middle['render_ms']:.0f} ms")


def scrape(bench, runs):
    """500 tasks of 90 artifacts have 20 + 2 × 90 series each: 100 000."""
    with bench.cloud(500) as cloud, bench.daemon(bench.config(cloud, 500, 100)) as (process, port):
        ready(port)
        _, page = get(port, "/metrics")
        series = sample(page, "aliyun_acr_exporter_series")
        assert series == 100_000 and sample(page, "aliyun_acr_exporter_series_dropped") == 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for coding in ("identity", "gzip", "zstd"):
            walls, cpus = [], []
            for _ in range(runs + 1):
                cpu, began = process.cpu(), time.perf_counter()
                connection.request("GET", "/metrics", headers={"Accept-Encoding": coding})
                page = connection.getresponse().read()
                walls.append(time.perf_counter() - began)
                cpus.append(process.cpu() - cpu)
            # A coded page is made at the first scrape and kept.
            first, walls, cpus = (walls[0], cpus[0]), walls[1:], cpus[1:]
            wall, cpu = statistics.median(walls), statistics.median(cpus)
            row(f"scrape of {series:.0f} series, {coding}, {runs} times",
                f"{wall * 1e3:.2f} ms ({min(walls) * 1e3:.2f} to {max(walls) * 1e3:.2f}); daemon"
                f" CPU {cpu * 1e3:.2f} ms; the first {first[0] * 1e3:.1f} ms, CPU"
                f" {first[1] * 1e3:.1f} ms; {len(page) / 1e6:.2f} MB")
        connection.close()


def memory(bench):
    with bench.cloud(1000) as cloud, bench.daemon(bench.config(cloud, 1000, 30)) as (process, port):
        ready(port)
        polled = process.memory("VmRSS")
        row("resident memory, 1 000 tasks × 90 rows", f"{polled:.1f} MB polled")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for coding in ("identity", "gzip", "zstd"):
            for _ in range(20):
                connection.request("GET", "/metrics", headers={"Accept-Encoding": coding})
                page = connection.getresponse().read()
            row(f"the same after 20 scrapes more, {coding}, {len(page) / 1e6:.2f} MB each",
                f"{process.memory('VmRSS'):.1f} MB; peak so far {process.memory('VmHWM'):.1f} MB")
        connection.close()


def start(bench, runs):
    """Up to the first answer, with 1 000 tasks in the configuration."""
    times = []
    with bench.cloud(1000) as cloud:
        config = bench.config(cloud, 1000, 100)
        for _ in range(runs):
            port = free_port()
            with Process(bench.binary, "serve", f"--config.file={config}",
                         f"--web.listen-address=127.0.0.1:{port}") as process:
                eventually("healthy", lambda port=port: answers(port, "/-/healthy"), 0)
                times.append(time.perf_counter() - process.started)
    row(f"start to the first answer, {runs} times", spread(times))


def demo(bench, runs):
    times = []
    for _ in range(runs):
        port = free_port()
        with Process(bench.binary, "demo", f"--web.listen-address=127.0.0.1:{port}") as process:
            def shows(port=port):
                page = answers(port, "/metrics") or b""
                return True if b"aliyun_acr_subscription_artifact_status{" in page else None
            eventually("data", shows, 0.001)
            times.append(time.perf_counter() - process.started)
    row(f"demo from start to data, {runs} times", spread(times))


def main():
    binary, *rest = sys.argv[1:]
    print("Medians of this run (least to most). Times move with what else the machine does:\n"
          "compare rows of one run.\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(binary, folder)
        for page_size in (30, 100):
            poll(bench, page_size, 0, 5)
        poll(bench, 30, 50, 1)
        if rest:
            for page_size in (30, 100):
                peer(bench, rest[0], page_size, 3)
        else:
            row("Python peer", "left out: no PYTHON was given")
        scrape(bench, 25)
        memory(bench)
        start(bench, 10)
        demo(bench, 5)
        row("size of the binary", f"{os.path.getsize(binary) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
