"""`compare.py poll`: 1 000 tasks of 90 rows, by the daemon and by an exporter over
the vendor's SDK."""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

from compare_table import Table, progress
from measuring import (INSTANCE, certificate, cloud, configuration, daemon, eventually, get, ready,
                       task_ids, total)

PEER = pathlib.Path(__file__).with_name("peers") / "python_exporter.py"
ROWS, PAGE_SIZE = 90, 30
OWN = "/metrics?" + "&".join(f"name[]=aliyun_acr_exporter_{name}" for name in (
    "api_requests_total", "api_request_errors_total", "api_rate_limit_wait_seconds_total"))


class Polls:
    """Samples of one way to speak with the cloud."""

    def __init__(self, options, folder, there, environment, latency, tasks):
        self.binary, self.python = options.binary, options.python
        self.folder, self.there, self.environment = folder, there, environment
        self.latency, self.tasks, self.pages = latency, tasks, tasks * ROWS // PAGE_SIZE
        self.walls, self.cpus, self.per_request, self.later, self.later_walls = [], [], [], [], []
        self.memory, self.rounds, self.paced = [], [], []

    def daemon(self, tasks, interval):
        path = configuration(self.folder, self.there, {"tasks": task_ids(tasks)},
                             poll={"interval": interval, "finished_interval": interval},
                             api={"page_size": PAGE_SIZE})
        return daemon(self.binary, path, self.environment)

    def ready(self, port):
        # Looking costs the daemon some CPU time too.
        ready(port, 0.25 if self.latency else 0.02)

    def start(self):
        """CPU time of a daemon that polls one task."""
        with self.daemon(1, "1h") as (process, port):
            self.ready(port)
            return process.cpu()

    def first(self, start):
        with self.daemon(self.tasks, "1h") as (process, port):
            began = time.perf_counter()
            self.ready(port)
            self.walls.append(time.perf_counter() - began)
            self.cpus.append(process.cpu() - start)
            self.memory.append(process.memory("VmRSS"))
            requests, _ = sent(process, port)
            if requests < self.pages:
                sys.exit(f"the daemon sent {requests:.0f} requests")
            self.per_request.append(self.cpus[-1] / requests)

    def again(self):
        """All tasks at once: they fall due while the daemon is held."""
        interval = 4
        with self.daemon(self.tasks, f"{interval}s") as (process, port):
            self.ready(port)
            before, _ = sent(process, port)
            process.child.send_signal(signal.SIGSTOP)
            time.sleep(interval)
            cpu, began = process.cpu(), time.perf_counter()
            process.child.send_signal(signal.SIGCONT)
            # Asking it how far it is would cost CPU time; it is done when it uses none.
            now = last = ended = None

            def rests():
                nonlocal now, last, ended
                last, now = now, process.cpu()
                if last is None or now - last > 0.0005 or now - cpu < 0.01:
                    ended = time.perf_counter()
                return True if time.perf_counter() - ended > 0.2 else None
            eventually("rest after polls", rests, 0.01)
            requests = sent(process, port)[0] - before
            if requests < self.pages:
                sys.exit(f"the daemon sent {requests:.0f} requests after its first poll")
            self.later.append((now - cpu) / requests)
            self.later_walls.append((ended - began) / requests * self.pages)

    def spread(self):
        """Each task every second, at a time of its own."""
        # With the first poll's 4 000 fewer than the 10 000 that the rate limit's burst allows.
        least = self.tasks if self.latency else 4000
        with self.daemon(self.tasks, "1s") as (process, port):
            self.ready(port)
            before, waited = sent(process, port)
            cpu, began = process.cpu(), time.perf_counter()

            def enough():
                requests, _ = sent(process, port)
                return requests - before if requests >= before + least else None
            requests = eventually("polls", enough, 0.2)
            self.paced.append((process.cpu() - cpu) / requests)
            if self.latency:
                self.later.append(self.paced[-1])
                self.later_walls.append((time.perf_counter() - began) / requests * self.pages)
            if sent(process, port)[1] - waited > 0.5:
                sys.exit("the rate limit held the polls up")

    def peer(self, rounds):
        tasks = self.folder / "tasks"
        tasks.write_text("\n".join(task_ids(self.tasks)))
        scheme, _, address = self.there.url.partition("://")
        command = [self.python, PEER, f"--instance-id={INSTANCE}", f"--tasks-file={tasks}",
                   f"--endpoint={address}", f"--protocol={scheme.upper()}",
                   f"--page-size={PAGE_SIZE}", f"--once={rounds}"]
        if scheme == "https":
            command.append(f"--ca={self.environment['SSL_CERT_FILE']}")
        done = subprocess.run(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"ALIBABA_CLOUD_ACCESS_KEY_ID": self.there.key,
                              "ALIBABA_CLOUD_ACCESS_KEY_SECRET": self.there.secret})
        told = [json.loads(line) for line in done.stdout.splitlines()]
        bad = any(one["rows"] != self.tasks * ROWS or one["errors"] for one in told)
        if done.returncode or bad:
            sys.exit(f"{PEER.name}: {done.stdout}{done.stderr[-2000:]}")
        self.rounds += told

    def of_peer(self, name, later):
        return [one[name] for one in self.rounds if (one["round"] > 0) == later]


def sent(process, port):
    """Requests so far, and seconds that they waited for the rate limit."""
    _, page = get(port, OWN)
    if total(page, "aliyun_acr_exporter_api_request_errors_total"):
        sys.exit(f"requests of the daemon failed:\n{''.join(process.lines[-5:])}")
    return (total(page, "aliyun_acr_exporter_api_requests_total"),
            total(page, "aliyun_acr_exporter_api_rate_limit_wait_seconds_total"))


def measure(options, folder):
    tls = certificate(folder)
    with Table("polls of 1 000 tasks × 90 rows, 30 a page, 16 in flight") as table:
        rows(table, options, folder, "plain")
        rows(table, options, folder, "TLS", tls)
        rows(table, options, folder, "TLS, 50 ms", tls, latency=50)


def rows(table, options, folder, name, tls=None, latency=0):
    tasks = 250 if options.quick and latency else 1000
    environment = {"SSL_CERT_FILE": str(tls.authority)} if tls else {}
    with cloud(options.simulator, tasks, ROWS, latency, tls) as there:
        polls = Polls(options, folder, there, environment, latency, tasks)
        starts = statistics.median(polls.start() for _ in range(3))
        runs = 1 if options.quick or latency else 3
        for run in range(runs):
            progress(f"polls, {name}, {run + 1} of {runs}")
            polls.first(starts)
            polls.spread()
            if not latency:
                polls.again()
            polls.peer(2)

    def row(what, ours, peer=None, **more):
        table.add(f"{name}: {what}", ours, peer, "SDK", **more)

    def by_page(later):
        return [cpu / polls.pages for cpu in polls.of_peer("cpu_s", later)]
    promised = tls and not latency
    row("first poll, wall", polls.walls, polls.of_peer("wall_s", False))
    row("first poll, CPU", polls.cpus, polls.of_peer("cpu_s", False))
    row("first poll, CPU per request", polls.per_request, by_page(False))
    row(f"later polls, wall per {polls.pages:,} requests", polls.later_walls,
        polls.of_peer("wall_s", True))
    row("later polls, CPU per page", polls.later, by_page(True),
        less=(12, 20) if promised else None)
    if not latency:
        row("polls spread over each second, CPU per page", polls.paced)
    row("memory", polls.memory, max(polls.of_peer("rss_MB", True), default=None), unit="MB")
