#!/usr/bin/env python3
"""What at-rest.sh measures: a daemon that knows 10 000 finished tasks of 30 rows
each, and has nothing to do but what time brings.

Started by it: at_rest.py BINARY. Standard library alone.
"""
import gzip
import http.client
import pathlib
import sys
import tempfile
import time

from measuring import (PATIENCE, cloud, configuration, daemon, get, ready, row, sample, task_ids,
                       total)

TASKS = 10_000
ROWS = 30
# One listing of the default `follow.interval` falls into it, wherever it begins.
WINDOW = 300
SCRAPES = 8
SCRAPE_EVERY = 15


def measure(binary, name, config):
    with daemon(binary, config) as (process, port):
        ready(port, 0.5)
        warm = process.cpu()
        polled = process.memory("VmRSS")
        time.sleep(WINDOW)
        rest = process.cpu() - warm
        resting = process.memory("VmRSS")
        highest = process.memory("VmHWM")

        _, page = get(port, "/metrics")
        before = requests(page)
        whole = len(page)
        cpu, began = process.cpu(), time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for number in range(SCRAPES):
            time.sleep(max(0.0, began + (number + 1) * SCRAPE_EVERY - time.monotonic()))
            connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            coded = connection.getresponse().read()
        connection.close()
        scraped = process.cpu() - cpu
        page = gzip.decompress(coded)
        row(f"{name}: polled", f"{polled:.0f} MB resident, CPU {warm:.2f} s")
        row(f"{name}: {WINDOW} s without a scrape",
            f"{resting:.0f} MB resident, {highest:.0f} MB at most; CPU {rest:.2f} s;"
            f" {before:.0f} requests since the start")
        row(f"{name}: {SCRAPES} gzip scrapes in {SCRAPES * SCRAPE_EVERY} s",
            f"{process.memory('VmRSS'):.0f} MB resident, {process.memory('VmHWM'):.0f} MB at most;"
            f" CPU {scraped:.2f} s; {requests(page) - before:.0f} requests;"
            f" {sample(page, 'aliyun_acr_exporter_series'):.0f} series, {whole / 1e6:.0f} MB,"
            f" {len(coded) / 1e6:.1f} MB coded")


def requests(page):
    assert total(page, "aliyun_acr_exporter_api_request_errors_total") == 0
    return total(page, "aliyun_acr_exporter_api_requests_total")


def main():
    binary = sys.argv[1]
    print(f"{TASKS} finished tasks of {ROWS} rows, CPU and memory of the daemon alone.\n",
          flush=True)
    with tempfile.TemporaryDirectory() as folder, cloud(binary, TASKS, ROWS) as there:
        follow = {"follow": {"max_tasks": TASKS}}
        measure(binary, "followed", configuration(folder, there, follow))
        state = {"path": str(pathlib.Path(folder) / "state")}
        measure(binary, "followed, with a state file",
                configuration(folder, there, follow, state=state))
        # Each artifact has its series; the next poll is an hour away.
        measure(binary, "configured, all artifacts", configuration(
            folder, there, {"tasks": task_ids(TASKS)}, limits={"series": 1_000_000},
            poll={"interval": "1h", "finished_interval": "1h"}))


if __name__ == "__main__":
    main()
