"""`compare.py scrape`: the page of 100 000 series by the daemon, nginx and
Prometheus' own clients."""
import contextlib
import getpass
import gzip
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from compare_table import Table, progress
from measuring import (PATIENCE, Process, answers, cloud, configuration, cpu, daemon, eventually,
                       free_port, ready, sample, task_ids)

PEERS = pathlib.Path(__file__).with_name("peers")
TASKS, ROWS, SERIES = 500, 90, 100_000
TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
# Prometheus' scrape interval, seconds; how far apart the two targets must be.
INTERVAL, APART = 2, 0.5
# Scrapes that make Prometheus' series.
FIRST = 2


class Client:
    """Scrapes over a connection that it keeps, reading as much as there is at a time."""

    def __init__(self, port, path="/metrics", accept=TEXT):
        self.port, self.path, self.accept = port, path, accept
        self.stream = None
        self.buffer = bytearray(64_000_000)

    def scrape(self, coding):
        """Asks and reads until the answer ends; keeps where it lies in the buffer."""
        if self.stream is None:
            self.stream = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.stream.sendall(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {self.accept}"
                            f"\r\nAccept-Encoding: {coding}\r\n\r\n".encode())
        end, self.start, length = 0, 0, None
        while not self._whole(end, length):
            if end == len(self.buffer):
                self.buffer.extend(bytes(end))
            with memoryview(self.buffer) as view:
                got = self.stream.recv_into(view[end:])
            end += got
            if not self.start and (head_end := self.buffer.find(b"\r\n\r\n", 0, end)) >= 0:
                self.start = head_end + 4
                self.head = self.buffer[:head_end].decode().lower()
                if not self.head.split(" ", 1)[1].startswith("200"):
                    sys.exit(f"port {self.port} answered: {self.head}")
                stated = re.search(r"\r\ncontent-length: *(\d+)", self.head)
                length = int(stated.group(1)) if stated else None
            if not got:
                if length is not None or self.chunked():
                    sys.exit(f"port {self.port} cut its answer off")
                break
        self.end = end
        if self.head.startswith("http/1.0") or "\r\nconnection: close" in self.head:
            self.close()
        return end - self.start

    def _whole(self, end, length):
        if not self.start:
            return False
        if length is not None:
            return end == self.start + length
        return self.chunked() and self.buffer.endswith(b"\r\n0\r\n\r\n", self.start, end)

    def chunked(self):
        return "\r\ntransfer-encoding: chunked" in self.head

    def body(self):
        """Of the last answer, as it was coded."""
        body = bytes(self.buffer[self.start:self.end])
        if not self.chunked():
            return body
        parts, at = [], 0
        while True:
            line = body.index(b"\r\n", at)
            size = int(body[at:line], 16)
            if size == 0:
                return b"".join(parts)
            parts.append(body[line + 2:line + 2 + size])
            at = line + 2 + size + 2

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class Contestant:
    def __init__(self, name, pid, port, batch):
        self.name, self.pid, self.batch = name, pid, batch
        self.client = Client(port)
        self.cpus, self.walls = [], []

    def sample(self, coding):
        before, began = cpu(self.pid), time.perf_counter()
        for _ in range(self.batch[coding]):
            self.client.scrape(coding)
        self.walls.append((time.perf_counter() - began) / self.batch[coding])
        self.cpus.append((cpu(self.pid) - before) / self.batch[coding])


def measure(options, folder):
    quick = options.quick
    with contextlib.ExitStack() as stack, Table("scrape of 100 000 series") as table:
        there = stack.enter_context(cloud(options.simulator, TASKS, ROWS))
        config = configuration(folder, there, {"tasks": task_ids(TASKS)},
                               poll={"interval": "2h", "finished_interval": "2h"})
        ours, port = stack.enter_context(daemon(options.binary, config))
        ready(port)
        pages = folder / "pages"
        openmetrics = save(port, pages)
        worker, nginx_port = stack.enter_context(nginx(pages, openmetrics))

        progress("the clients read the page")
        go_port, python_port = free_port(), free_port()
        go = stack.enter_context(Process(options.go, f"127.0.0.1:{go_port}", pages / "metrics"))
        python = stack.enter_context(Process(options.python, PEERS / "serve.py", str(python_port),
                                             pages / "metrics"))
        for process, peer_port in ((go, go_port), (python, python_port)):
            def shows(process=process, peer_port=peer_port):
                process.lives()
                return answers(peer_port, "/metrics")
            page = eventually("page of a peer", shows, 0.1)
            held = len(re.findall(rb"^aliyun_acr_subscription_", page, re.MULTILINE))
            if held != SERIES:
                sys.exit(f"{process.child.args} serves {held} series, not {SERIES}")

        often, once = {"gzip": 50, "identity": 10}, {"gzip": 1, "identity": 1}
        us = Contestant("daemon", ours.child.pid, port, often)
        floor = Contestant("nginx", worker, nginx_port, often)
        clients = [Contestant("Go", go.child.pid, go_port, once),
                   Contestant("Python", python.child.pid, python_port, once)]
        musts = {"gzip": {"nginx": {"ratio": (1.6, 1.2)}, "Go": {"less": (500, 1500)},
                          "Python": {"less": (1000, 3000)}},
                 "identity": {"nginx": {"ratio": (2, 1.5)}}}
        for coding in musts:
            name = "plain" if coding == "identity" else coding
            for peers, rounds in (([floor], 5 if quick else 21), (clients, 2 if quick else 7)):
                with apart([us, *peers]):
                    run([us, *peers], coding, rounds)
                for peer in peers:
                    table.add(f"CPU per scrape, {name}", us.cpus, peer.cpus, peer.name,
                              **musts[coding].get(peer.name, {}))
                    table.add(f"wall per scrape, {name}", us.walls, peer.walls, peer.name)
        for peer in (go, python):
            table.add("memory after these scrapes", ours.memory("VmRSS"), peer.memory("VmRSS"),
                      "Go" if peer is go else "Python", unit="MB")
        for process in (go, python):
            process.child.terminate()
            process.child.wait(PATIENCE)

        for prometheus in ["prometheus"] if quick else ["prometheus", options.prometheus3]:
            if prometheus == "prometheus" or pathlib.Path(prometheus).is_file():
                version, durations = scraped(prometheus, folder, {
                    "daemon": (port, "/metrics"), "nginx": (nginx_port, "/openmetrics")},
                    5 if quick else 32)
                table.add(f"scrape_duration_seconds of Prometheus {version}", durations["daemon"],
                          durations["nginx"], "nginx", ratio=(1.1, 1.03))


@contextlib.contextmanager
def apart(contestants):
    """The client on one core, the contestants on the others. Left alone, the system
    puts a contestant now on the client's core, now on another, which costs the same
    scrape half as much again: a ratio would tell who was where."""
    cores = os.sched_getaffinity(0)
    mine = {min(cores)}

    def place(of_client, of_contestants):
        os.sched_setaffinity(0, of_client)
        for one in contestants:
            for thread in os.listdir(f"/proc/{one.pid}/task"):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), of_contestants)
    place(mine, cores - mine or cores)
    try:
        yield
    finally:
        place(cores, cores)


def run(contestants, coding, rounds):
    for one in contestants:
        one.client.scrape(coding)
        one.cpus, one.walls = [], []
    for number in range(rounds):
        progress(f"scrapes, {coding}, {number + 1} of {rounds}")
        for one in contestants:
            one.sample(coding)
    # The daemon's own metrics are not kept with the page: each answer has counted the one before.
    client, counts = contestants[0].client, []
    for _ in range(2):
        client.scrape(coding)
        page = gzip.decompress(client.body()) if coding == "gzip" else client.body()
        counts.append(sample(page, re.escape(
            'aliyun_acr_exporter_http_requests_total{code="200",path="/metrics"}')))
        if sample(page, "aliyun_acr_exporter_series") != SERIES:
            sys.exit("the daemon does not show what it should")
    if counts[1] != counts[0] + 1:
        sys.exit(f"the daemon's own metrics are not fresh: {counts}")


def save(port, pages):
    """The daemon's answers as files; the content type of OpenMetrics."""
    pages.mkdir()
    for name, accept in (("metrics", TEXT), ("openmetrics", OPENMETRICS)):
        client = Client(port, accept=accept)
        for coding, file in (("identity", name), ("gzip", f"{name}.gz")):
            client.scrape(coding)
            (pages / file).write_bytes(client.body())
        client.close()
    return re.search(r"\r\ncontent-type: ([^\r]*)", client.head).group(1)


@contextlib.contextmanager
def nginx(pages, openmetrics):
    """The worker's process id, and the port."""
    port = free_port()
    text = (PEERS / "nginx.conf").read_text()
    for word, value in (("USER", getpass.getuser()), ("FOLDER", str(pages)), ("PORT", str(port)),
                        ("OPENMETRICS", openmetrics)):
        text = text.replace(f"@{word}@", value)
    config = pages / "nginx.conf"
    config.write_text(text)
    with Process("nginx", "-p", pages, "-c", config, "-e", "stderr") as process:
        def listens():
            process.lives()
            try:
                return socket.create_connection(("127.0.0.1", port))
            except ConnectionError:
                return None
        eventually("nginx listens", listens).close()
        yield eventually("nginx's worker", lambda: child_of(process.child.pid)), port


def child_of(parent):
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            return int(stat.parent.name)
    return None


def scraped(binary, folder, targets, pairs):
    """Version, and what scrapes of the targets took; by name."""
    told = subprocess.run([binary, "--version"], text=True, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout
    version = re.search(r"version ([0-9.]+)", told).group(1)
    # A target's place within the interval follows from a hash of its labels.
    for attempt in range(20):
        progress(f"Prometheus {version}, {pairs} pairs of scrapes")
        found = scraped_once(binary, folder / f"tsdb-{version}-{attempt}", targets, pairs, attempt)
        if found:
            return version, found
    sys.exit("Prometheus never scraped the targets far enough from one another")


def scraped_once(binary, folder, targets, pairs, attempt):
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({
        "global": {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s"},
        "scrape_configs": [
            {"job_name": name, "metrics_path": path, "static_configs": [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"attempt": str(attempt)}}]}
            for name, (port, path) in targets.items()]}))
    port = free_port()
    with Process(binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn") as process:
        def values(query, least):
            def probe():
                process.lives()
                try:
                    found = ask(port, query)
                except OSError:
                    return None
                return found if len(found) == 2 and min(map(len, found.values())) >= least else None
            return eventually(query, probe, 0.5, (least + 10) * INTERVAL + PATIENCE)

        first = values("scrape_duration_seconds[10m]", 1)
        times = [found[0][0] for found in first.values()]
        apart = abs(times[0] - times[1]) % INTERVAL
        if min(apart, INTERVAL - apart) < APART:
            return None
        found = values("scrape_duration_seconds[10m]", pairs + FIRST)
        if any(up != "1" for series in ask(port, "up[10m]").values() for _, up in series):
            sys.exit("a scrape of Prometheus failed")
        return {name: [float(value) for _, value in series[FIRST:FIRST + pairs]]
                for name, series in found.items()}


def ask(port, query):
    """Times and values by job."""
    address = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        result = json.load(answer)["data"]["result"]
    return {series["metric"]["job"]: series["values"] for series in result}
