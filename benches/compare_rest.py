"""`compare.py rest`: memory and CPU time of the daemon alone."""
import contextlib
import gzip
import sys
import time

from compare_scrape import Client
from compare_table import Table, progress
from measuring import cloud, configuration, daemon, get, ready, sample, task_ids

ROWS = 90
SCRAPE_EVERY = 15
# Polls a second of 10 000 tasks that are each polled once an hour.
HOURLY = 10_000 / 3600
MINUTES = 60


def measure(options, folder):
    with Table("memory") as table:
        grown(table, options, folder)
        large(table, options, folder)
    with Table("at rest: 10 000 finished tasks of one row, a gzip scrape each 15 s") as table:
        rest(table, options, folder)
    if options.hour:
        hour(options, folder)


def config(folder, there, tasks, interval, **more):
    """Tasks without an interval of their own are polled so often, finished or not."""
    return configuration(folder, there, {"tasks": tasks},
                         poll={"interval": interval, "finished_interval": interval}, **more)


def showing(client, series):
    """A scrape in gzip that must have so many series."""
    client.scrape("gzip")
    found = sample(gzip.decompress(client.body()), "aliyun_acr_exporter_series")
    if found != series:
        sys.exit(f"the daemon shows {found:.0f} series, not {series}")


def grown(table, options, folder):
    """100 000 series."""
    seconds = 5 if options.quick else 30
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(cloud(options.simulator, 500, ROWS))
        path = config(folder, there, task_ids(500), "2s")
        process, port = stack.enter_context(daemon(options.binary, path))
        ready(port)
        table.add("100 000 series, after the first poll", process.memory("VmRSS"), unit="MB")
        client, most = Client(port), 0.0
        showing(client, 100_000)
        polls = polled(port)
        for second in range(seconds):
            progress(f"memory while polled and scraped, {second + 1} of {seconds} s")
            time.sleep(1)
            client.scrape("gzip")
            most = max(most, process.memory("VmRSS"))
        polls = polled(port) - polls
        if polls < 500:
            sys.exit(f"{polls:.0f} polls in {seconds} s")
        table.add(f"100 000 series, {polls:.0f} polls, {seconds} gzip scrapes: highest between",
                  most, unit="MB", value=(20, 12))
        for coding in ("zstd", "identity"):
            for _ in range(20):
                client.scrape(coding)
        table.add("100 000 series, after 20 zstd and 20 plain scrapes more",
                  process.memory("VmRSS"), unit="MB")
        table.add("100 000 series, peak of all this", process.memory("VmHWM"), unit="MB")
        client.close()


def large(table, options, folder):
    """1 000 000 series."""
    progress("memory at 1 000 000 series")
    with cloud(options.simulator, 5000, ROWS) as there:
        path = config(folder, there, task_ids(5000), "2h", limits={"series": 1_000_000})
        with daemon(options.binary, path) as (process, port):
            ready(port, 0.25)
            table.add("1 000 000 series, after the first poll", process.memory("VmRSS"), unit="MB")
            client = Client(port)
            showing(client, 1_000_000)
            for _ in range(10):
                client.scrape("gzip")
            table.add("1 000 000 series, after 11 gzip scrapes", process.memory("VmRSS"),
                      unit="MB", value=(80, 50))
            table.add("1 000 000 series, peak of all this", process.memory("VmHWM"), unit="MB")
            client.close()


def polled(port):
    _, page = get(port, "/metrics?name[]=aliyun_acr_exporter_polls_total")
    return sample(page, "aliyun_acr_exporter_polls_total")


def staggered(shortest):
    """Tasks of which some have intervals from `shortest` to twice that, seconds, so
    many that they are polled as often as 10 000 hourly ones; the others rest."""
    tasks, rate = [], 0.0
    for number, task in enumerate(task_ids(10_000)):
        # A step that has no divisor in common with `shortest` goes through all of them.
        often = shortest + number * 7919 % shortest
        tasks.append({"id": task, "interval": f"{often}s" if rate < HOURLY else "2h"})
        rate += 1 / often if rate < HOURLY else 0
    return tasks


def rest(table, options, folder):
    shortest, window = (15, 30) if options.quick else (120, 300)
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(cloud(options.simulator, 10_000, 1))
        daemons = []
        for name, tasks, interval, must in (
                ("nothing due", task_ids(10_000), "2h", (0.1, 0.05)),
                ("hourly re-checks", staggered(shortest), f"{shortest}s", (0.6, 0.1))):
            path = config(folder / name, there, tasks, interval, limits={"series": 1_000_000})
            process, port = stack.enter_context(daemon(options.binary, path))
            daemons.append((name, process, port, Client(port), must))
        for _, _, port, client, _ in daemons:
            ready(port, 0.25)
            showing(client, 220_000)
        scraped_for(daemons, shortest, "the daemons settle")
        before = [(process.cpu(), polled(port)) for _, process, port, _, _ in daemons]
        began = time.monotonic()
        scraped_for(daemons, window, "at rest")
        seconds = time.monotonic() - began
        for (name, process, port, _, must), (cpu, polls) in zip(daemons, before):
            share = (process.cpu() - cpu) / seconds * 100
            table.add(f"{name}, {polled(port) - polls:.0f} polls in {seconds:.0f} s: CPU",
                      share, unit="%", value=must)
            table.add(f"{name}: memory", process.memory("VmRSS"), unit="MB")


def scraped_for(daemons, seconds, what):
    began = time.monotonic()
    for number in range(seconds // SCRAPE_EVERY):
        progress(f"{what}, {number * SCRAPE_EVERY} of {seconds} s")
        until(began + (number + 1) * SCRAPE_EVERY)
        scrape_all(daemons)


def scrape_all(daemons):
    for _, _, _, client, _ in daemons:
        client.scrape("gzip")


def until(moment):
    time.sleep(max(0.0, moment - time.monotonic()))


def hour(options, folder):
    """What takes an hour; both at once."""
    with contextlib.ExitStack() as stack, Table("an hour, a gzip scrape each 15 s") as table:
        dense = stack.enter_context(cloud(options.simulator, 500, ROWS))
        many = stack.enter_context(cloud(options.simulator, 10_000, 1))
        polling, port = stack.enter_context(daemon(
            options.binary, config(folder / "dense", dense, task_ids(500), "60s")))
        resting, other = stack.enter_context(daemon(
            options.binary, config(folder / "many", many, task_ids(10_000), "1h",
                                   limits={"series": 1_000_000})))
        daemons = []
        for process, at, series in ((polling, port, 100_000), (resting, other, 220_000)):
            ready(at, 0.25)
            client = Client(at)
            showing(client, series)
            daemons.append(("", process, at, client, None))
        cpu, polls = resting.cpu(), polled(other)
        looks, began = [polling.memory("VmRSS")], time.monotonic()
        for number in range(1, MINUTES * 60 // SCRAPE_EVERY + 1):
            until(began + number * SCRAPE_EVERY)
            scrape_all(daemons)
            looks.append(polling.memory("VmRSS"))
            if number % 4 == 0:
                progress(f"minute {number // 4}: {looks[-1]:.1f} MB")
        table.add(f"100 000 series polled each minute, {polled(port):.0f} polls: memory at the end",
                  looks[-1], unit="MB")
        table.add("the same: highest of all", max(looks), unit="MB", value=(20, 12))
        table.add("the same: peak", polling.memory("VmHWM"), unit="MB")
        table.add(f"10 000 tasks of one row, hourly, {polled(other) - polls:.0f} polls: CPU",
                  (resting.cpu() - cpu) / (time.monotonic() - began) * 100, unit="%",
                  value=(0.6, 0.1))
        print("\nmemory each minute, MB: " + " ".join(f"{look:.1f}" for look in looks[::4]))
