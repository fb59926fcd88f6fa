#!/usr/bin/env python3
"""How long scrapes take while a crowd is slow on purpose.

Usage: crowd.py BINARY [SECONDS]. Standard library alone. 200 connections send
half a head and then a byte each second, 200 ask for the plain page and read a
byte each second; whoever is cut off comes back. Meanwhile one client scrapes
four times a second, otherwise as Prometheus does: OpenMetrics in gzip on a
connection that it keeps. Once without the crowd, once with it.
"""
import gzip
import http.client
import math
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse

from measuring import PATIENCE, ready, row
from whole_process import Bench

SLOW = 200
TASKS = 150
HEAD = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n"


def connect(port, first):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(first)
    stream.setblocking(False)
    return stream


def send_byte(stream):
    stream.send(b"a")
    return True


def read_byte(stream):
    return stream.recv(1) != b""


def crowd(port, first, goes_on, there, stop):
    streams = [connect(port, first) for _ in range(SLOW)]
    there.wait()
    while not stop.wait(1):
        for place, stream in enumerate(streams):
            try:
                if goes_on(stream):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            stream.close()
            streams[place] = connect(port, first)
    for stream in streams:
        stream.close()


def scrapes(port, seconds):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        page = answer.read()
        times.append(time.perf_counter() - began)
        assert answer.status == 200 and page, answer.status
        time.sleep(max(0.0, 0.25 - times[-1]))
    connection.close()
    return times


def told(what, times):
    times.sort()
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    row(what, f"{len(times)} scrapes, p50 {statistics.median(times) * 1e3:.1f} ms,"
        f" p99 {p99 * 1e3:.1f} ms, longest {times[-1] * 1e3:.1f} ms")


def main():
    binary, *rest = sys.argv[1:]
    seconds = float(rest[0]) if rest else 60
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(binary, folder)
        with bench.cloud(TASKS) as cloud, \
                bench.daemon(bench.config(cloud, TASKS, 100)) as (process, port):
            ready(port)
            told("nobody else", scrapes(port, seconds))
            stop = threading.Event()
            there = threading.Barrier(3, timeout=PATIENCE)
            threads = [threading.Thread(target=crowd, args=(port, first, goes_on, there, stop))
                       for first, goes_on in ((HEAD + b"X-Slow: ", send_byte),
                                              (HEAD + b"\r\n", read_byte))]
            for thread in threads:
                thread.start()
            there.wait()
            cpu, began = process.cpu(), time.perf_counter()
            times = scrapes(port, seconds)
            share = (process.cpu() - cpu) / (time.perf_counter() - began)
            told("200 that send and 200 that read slowly", times)
            row("the daemon meanwhile", f"{share * 100:.0f} % of a core,"
                f" {process.memory('VmHWM'):.0f} MB at most")
            names = urllib.parse.quote("name[]=aliyun_acr_exporter_http_requests_total", "=")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("GET", f"/metrics?{names}", headers={"Accept-Encoding": "gzip"})
            page = gzip.decompress(connection.getresponse().read())
            refused = re.search(rb'_total\{code="503",path="/metrics"\} (\d+)', page)
            row("slow readers that got 503", refused.group(1).decode())
            connection.close()
            stop.set()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    main()
