"""`compare.py start`: from the start of the process to answers, and the binary's size."""
import contextlib
import gzip
import os
import subprocess
import time

from compare_table import Table, progress
from compare_scrape import Client
from measuring import (Process, answers, cloud, configuration, daemon, eventually, free_port, ready,
                       sample, task_ids)

ROWS = 100
# Task series stay whatever the limit; the page is whole once it has as many as it may.
DATA = b"\naliyun_acr_subscription_task_status{"


def measure(options, folder):
    runs = 3 if options.quick else 7
    with Table("start") as table:
        with cloud(options.simulator, 1000, ROWS) as there:
            config = configuration(folder, there, {"tasks": task_ids(1000)})
            healthy = []
            for _ in range(2 * runs):
                with started(options.binary, config) as (_, _, first):
                    healthy.append(first)
            table.add("first answer, 1 000 tasks configured", healthy, value=(0.1,))
        state(table, options, folder, 1000 if options.quick else 10_000, runs)
        stripped = folder / "stripped"
        subprocess.run(["strip", "-o", stripped, options.binary], check=True)
        table.add("size of the binary, stripped", os.path.getsize(stripped) / 1e6, unit="MB",
                  value=(10,))


@contextlib.contextmanager
def started(binary, config):
    """Process, port, and seconds up to the first answer."""
    port = free_port()
    with Process(binary, "serve", f"--config.file={config}",
                 f"--web.listen-address=127.0.0.1:{port}") as process:
        def healthy():
            process.lives()
            return answers(port, "/-/healthy")
        eventually("healthy", healthy, 0.0005)
        yield process, port, time.perf_counter() - process.started


def state(table, options, folder, tasks, runs):
    with cloud(options.simulator, tasks, ROWS) as there:
        def config(**more):
            return configuration(
                folder, there, {"tasks": task_ids(tasks)}, state={"path": str(folder / "state")},
                poll={"interval": "2h", "finished_interval": "2h"}, **more)
        progress("a run makes the state file")
        with daemon(options.binary, config()) as (_, port):
            ready(port, 0.25)
        size = os.path.getsize(folder / "state") / 1e6
        all_series = tasks * (20 + 2 * ROWS)
        for name, series, must in (
                ("under the default limit", min(all_series, 200_000), (1,)),
                (f"with all {all_series:,} series", all_series, None)):
            path = config(limits={"series": series})
            healthy, pages = [], []
            for run in range(runs):
                progress(f"starts with a state file, {name}, {run + 1} of {runs}")
                with started(options.binary, path) as (process, port, first):
                    client = Client(port)

                    def whole(client=client, process=process, series=series):
                        client.scrape("gzip")
                        seconds = time.perf_counter() - process.started
                        page = gzip.decompress(client.body())
                        there = DATA in page and sample(page, "aliyun_acr_exporter_series")
                        return seconds if there == series else None
                    pages.append(eventually("data", whole, 0.001))
                    healthy.append(first)
                    client.close()
            text = f"state file of {tasks * ROWS:,} rows ({size:.0f} MB), {name}"
            table.add(f"{text}: first answer", healthy, value=must)
            table.add(f"{text}: first page with data", pages, value=must)
