#!/usr/bin/env python3
"""What at-rest.sh measures: a daemon that knows 10 000 finished tasks of 30 rows
each, and has nothing to do but what time brings.

Started by it: at_rest.py BINARY. Standard library alone.
"""
import contextlib
import gzip
import http.client
import json
import pathlib
import sys
import tempfile
import time

from whole_process import INSTANCE, PATIENCE, Process, get, ready, row, sample, task_ids, total

TASKS = 10_000
ROWS = 30
# One listing of the default `follow.interval` falls into it, wherever it begins.
WINDOW = 300
SCRAPES = 8
SCRAPE_EVERY = 15


@contextlib.contextmanager
def cloud(binary):
    with Process(binary, "simulate", "--listen=127.0.0.1:0", f"--tasks={TASKS}",
                 f"--rows={ROWS}") as process:
        yield (process.told(r"endpoint:\s+(\S+)\n"), process.told(r"access_key_id:\s+(\S+)\n"),
               process.told(r"access_key_secret:\s+(\S+)\n"))


def config(cloud, instance, **more):
    """JSON is YAML. The rate is no limit, so that all is polled soon."""
    url, key, secret = cloud
    credentials = {"type": "access_key", "access_key_id": key, "access_key_secret": secret}
    return json.dumps({
        "poll": {"concurrency": 16},
        "api": {"requests_per_second": 1000, "burst": 10_000},
        "credentials": {"bench": credentials},
        "instances": [{"id": INSTANCE, "region": "cn-hangzhou", "endpoint": url,
                       "credentials": "bench"} | instance],
    } | more)


def measure(binary, folder, name, text):
    path = folder / "config.yaml"
    path.write_text(text)
    with Process(binary, "serve", f"--config.file={path}",
                 "--web.listen-address=127.0.0.1:0") as process:
        port = int(process.told(r"listening.*:(\d+)"))
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
    print(f"{TASKS} finished tasks of {ROWS} rows, CPU and memory of the daemon alone.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder, cloud(binary) as there:
        folder = pathlib.Path(folder)
        follow = {"follow": {"max_tasks": TASKS}}
        measure(binary, folder, "followed", config(there, follow))
        state = {"path": str(folder / "state")}
        measure(binary, folder, "followed, with a state file", config(there, follow, state=state))
        # Each artifact has its series; the next poll is an hour away.
        measure(binary, folder, "configured, all artifacts", config(
            there, {"tasks": task_ids(TASKS)}, limits={"series": 1_000_000},
            poll={"concurrency": 16, "interval": "1h", "finished_interval": "1h"}))


if __name__ == "__main__":
    main()
