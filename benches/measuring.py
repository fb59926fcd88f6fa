"""What the measuring scripts beside this file share: processes with their CPU
time and memory, the simulated cloud, the daemon's configuration, pages.

Standard library alone. Every wait is for a condition; a pause is only the time
between two looks at it.
"""
import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

PATIENCE = 120.0
INSTANCE = "cri-load000000000000"

Cloud = collections.namedtuple("Cloud", "url key secret")
Tls = collections.namedtuple("Tls", "certificate key authority")


def eventually(what, probe, pause=0.02, patience=PATIENCE):
    """Asks `probe` until it answers."""
    end = time.monotonic() + patience
    while (answer := probe()) is None:
        if time.monotonic() > end:
            sys.exit(f"never happened: {what}")
        time.sleep(pause)
    return answer


class Process:
    """A process of ours; its output is read all the time, so that it never waits for us."""

    def __init__(self, *command, environment=None):
        self.started = time.perf_counter()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      env=os.environ | (environment or {}))
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait(PATIENCE)
        self.reader.join(PATIENCE)

    def lives(self):
        if self.child.poll() is not None:
            sys.exit(f"{self.child.args} ended:\n{''.join(self.lines)}")

    def told(self, pattern, patience=PATIENCE):
        """Waits for output that matches; the first group."""
        def probe():
            found = re.search(pattern, "".join(self.lines))
            if found is None:
                self.lives()
            return found
        return eventually(pattern, probe, 0.001, patience).group(1)

    def cpu(self):
        return cpu(self.child.pid)

    def memory(self, name):
        return memory(self.child.pid, name)


def cpu(pid):
    """Seconds of all threads of a process, ended ones included, in nanoseconds'
    steps: clock_getcpuclockid(3). What /proc/PID/stat tells has steps of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid, name):
    """VmRSS or VmHWM, MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status).group(1)) * 1024 / 1e6


@contextlib.contextmanager
def cloud(binary, tasks, rows, latency=0, tls=None):
    """Over TLS with the certificate and key that `tls` names."""
    command = [binary, "simulate", "--listen=127.0.0.1:0", f"--tasks={tasks}", f"--rows={rows}",
               f"--latency={latency}"]
    if tls:
        command += [f"--tls-cert={tls.certificate}", f"--tls-key={tls.key}"]
    with Process(*command) as process:
        yield Cloud(process.told(r"endpoint:\s+(\S+)\n"),
                    process.told(r"access_key_id:\s+(\S+)\n"),
                    process.told(r"access_key_secret:\s+(\S+)\n"))


def certificate(folder):
    """For 127.0.0.1, by an authority of its own."""
    def openssl(command, *arguments):
        done = subprocess.run(["openssl", command, "-days", "2", *arguments], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(f"openssl {command}: {done.stdout}")

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority, request, extensions = (folder / name for name in ("ca.pem", "request", "extensions"))
    tls = Tls(folder / "cert.pem", folder / "key.pem", authority)
    openssl("req", "-x509", *key, "-subj", "/CN=benches", "-keyout", folder / "ca.key",
            "-out", authority)
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-new", *key, "-subj", "/CN=127.0.0.1", "-keyout", tls.key, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", folder / "ca.key",
            "-set_serial", "2", "-extfile", extensions, "-out", tls.certificate)
    return tls


def configuration(folder, there, instance, poll=None, api=None, **more):
    """The path of a configuration for one instance of the cloud `there`; a folder holds
    one. JSON is YAML. The rate is no limit, so that all is polled soon."""
    credentials = {"type": "access_key", "access_key_id": there.key,
                   "access_key_secret": there.secret}
    path = pathlib.Path(folder) / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({
        "poll": {"concurrency": 16} | (poll or {}),
        "api": {"requests_per_second": 1000, "burst": 10_000} | (api or {}),
        "credentials": {"bench": credentials},
        "instances": [{"id": INSTANCE, "region": "cn-hangzhou", "endpoint": there.url,
                       "credentials": "bench"} | instance],
    } | more))
    return path


@contextlib.contextmanager
def daemon(binary, config, environment=None):
    """The process and its port."""
    with Process(binary, "serve", f"--config.file={config}", "--web.listen-address=127.0.0.1:0",
                 environment=environment) as process:
        yield process, int(process.told(r"listening.*:(\d+)"))


def task_ids(tasks):
    return [f"crast-{number:015}" for number in range(tasks)]


def get(port, path):
    """One answer on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answers(port, path):
    """The body, or nothing while nobody listens."""
    try:
        return get(port, path)[1]
    except ConnectionError:
        return None


def ready(port, pause=0.02, patience=PATIENCE):
    eventually("ready", lambda: get(port, "/-/ready")[0] == 200 or None, pause, patience)


def sample(page, name):
    return float(re.search(rf"^{name} (\S+)$", page.decode(), re.MULTILINE).group(1))


def total(page, name):
    found = re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", page.decode(), re.MULTILINE)
    return sum(map(float, found))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def spread(times):
    return (f"{statistics.median(times) * 1e3:.0f} ms"
            f" ({min(times) * 1e3:.0f} to {max(times) * 1e3:.0f})")


def row(what, figures):
    print(f"{what:<62}{figures}", flush=True)
