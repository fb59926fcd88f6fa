#!/usr/bin/env python3
"""The daemon beside what one would run instead: compare.sh starts this.

All figures of one table come from one run on one machine, the contestants in
turn (A B C A B C ...), so that ratios hold where times do not. A cell is the
median, with least and most of the samples. CPU is that of the contestant's
process alone, user and system, of all its threads; MB are 10^6 bytes, of
resident memory. "ratio" is the daemon's figure by the peer's, or 1 : N where the
peer's is N times the daemon's. "must" is what was promised; "reached" says
whether it was, or even the hoped for "stretch".

scrape   500 tasks of 90 artifacts, 100 000 series and the daemon's own on top;
         nothing is polled meanwhile, so that the page of the tasks does not
         change, while the daemon's own metrics are fresh in each answer (this is
         checked). A client on the same machine reads over one connection that it
         keeps, as Prometheus does, as much at a time as there is. It has a core for
         itself and the contestants have the others: where both share one the same
         scrape costs a third less, and left alone they do so or not by chance.
  CPU per scrape, gzip/plain   against one nginx worker that serves the saved
         answer with read and write (sendfile off), and against Prometheus' Go
         and Python clients that hold the same 100 000 gauges in their registries
         and write, and with gzip compress, them for each scrape, as they do. Of
         daemon and nginx a sample is a batch of scrapes, of the clients it is
         one. Before the first sample each answered once.
  wall per scrape   what the client waited, of the same scrapes.
  memory after them   of daemon, Go and Python client.
  Prometheus' scrape_duration_seconds   Prometheus scrapes daemon and nginx in turn,
         as far from one another as half the interval allows; nginx serves the
         daemon's own OpenMetrics answer. Most of it is Prometheus' own work. The
         first scrapes, which make the series, are left out.
poll     1 000 tasks of 90 rows, 30 a page, 16 requests in flight, against
         peers/python_exporter.py, which uses the vendor's SDK. The rate limit is
         out of the way. Over plain HTTP, over TLS, over TLS with answers after
         50 ms. The SDK speaks HTTP/1.1; the daemon speaks what it agrees upon
         with the simulated cloud, and "HTTP/1.1" where the cloud offers that alone.
  first poll   by a new process: connections are opened, and the daemon asks for
         each task itself too, 4 000 requests for 3 000 of the SDK. The CPU time
         of a daemon that polls one task is taken off, being the start's. Of
         the SDK the first round, without its imports.
  later polls  connections are warm, 3 000 requests, all of them pages. All tasks
         at once, as the SDK polls them in its later rounds: their interval passes
         while the daemon is stopped by a signal. With latency each task again every
         second, which keeps all 16 requests in flight.
  polls spread over each second   the same with an interval of one second, about
         3 000 requests a second: a request that follows a pause costs more.
  memory       the daemon's after its first poll, the SDK's highest.
rest     the daemon alone.
  memory   100 000 series: after the first poll, after scrapes in each coding, and
         while tasks are polled every 2 s and scraped in gzip after each second, so
         that each scrape makes its page anew. 1 000 000 series (5 000 tasks of 90
         artifacts): after the first poll and after scrapes in gzip.
  CPU at rest   10 000 finished tasks of one row; a scrape in gzip each 15 s.
         "nothing due": the next poll is an hour away. "hourly re-checks": as many
         polls a second as 10 000 tasks make that are polled hourly, made by
         tasks with shorter intervals, since the hour itself would have to
         be waited for; the figure's name tells how many there were. Each makes
         the kept page old, so that each scrape makes it anew.
  --hour   adds an hour: 100 000 series polled every minute and scraped in gzip each
         15 s, its memory told every minute; and beside it 10 000 tasks of one row
         with an interval of one hour, until each was polled a second time.
start    from the start of the process.
  first answer   of /-/healthy, with 1 000 tasks configured.
  state file     of 1 000 000 rows (10 000 tasks of 100), kept by the run before:
         the first answer of /-/healthy, and the first whole gzip answer of
         /metrics that has the data, under the default limit of 200 000 series and
         with all 2 200 000.
  size           of the binary, stripped.
all      all of these.

--quick takes fewer and shorter samples, a quarter of the tasks for polls with
latency, a tenth of the rows of the state file, and leaves out Prometheus 3 and
HTTP/1.1.

compare.py --binary FILE --python FILE --go FILE [--prometheus3 FILE] [--simulator FILE] COMMAND
"""
import argparse
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

import compare_poll
import compare_rest
import compare_scrape
import compare_start
from compare_table import Table

PARTS = {"scrape": compare_scrape, "poll": compare_poll, "start": compare_start,
         "rest": compare_rest}


def output(*command):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.splitlines()[0] if done.stdout else ""


def machine(binary):
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    rustc = output("rustc", "--version") if shutil.which("rustc") else "no rustc"
    load = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, Linux"
            f" {platform.release()}, {rustc}, {output(binary, '--version')},"
            f" {time.strftime('%Y-%m-%d %H:%M')}, load average {load}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the daemon")
    parser.add_argument("--simulator", help="what simulates the cloud; left out, the same binary")
    parser.add_argument("--python", required=True, help="has the SDK and prometheus-client")
    parser.add_argument("--go", required=True, help="peers/go, built")
    parser.add_argument("--prometheus3", default="", help="measured too where it is there")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hour", action="store_true", help="with rest: an hour more")
    parser.add_argument("command", choices=[*PARTS, "all"], nargs="?", default="all")
    options = parser.parse_args()
    options.simulator = options.simulator or options.binary
    return options


def main():
    options = arguments()
    print(machine(options.binary), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # All figures are of one binary, whatever is built meanwhile.
        for role in ("binary", "simulator"):
            setattr(options, role, shutil.copy2(getattr(options, role), folder / role))
        for name, part in PARTS.items():
            if options.command in (name, "all"):
                (folder / name).mkdir()
                part.measure(options, folder / name)
    counts = Table.reached
    print(f"\nOf {sum(counts.values())} musts {counts['NO']} are not reached, {counts['stretch']}"
          f" are more than reached. Load average at the end: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    sys.exit(main())
