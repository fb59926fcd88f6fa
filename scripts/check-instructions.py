#!/usr/bin/env python3
"""Whether decoding, signing, scheduling or writing a page costs more instructions than it did.

usage: check-instructions.py [--write | --self-test]

Builds benches/instructions.rs as a release is built, counts under valgrind's callgrind and compares
with benches/instructions.json. Fails (exit 1) where a workload takes over 3 % more than its line
says, and where workload and line do not belong together. --write brings the lines up to date: a
change that costs more commits its line with the reason. Needs valgrind (without it nothing is
checked, which fails where REQUIRE_REAL_PARTS=1), cargo, and the standard library only.

A count is what one round takes more than none, divided by its repetitions: start and preparation
cancel out. It would repeat exactly, but hash tables have random seeds, select! asks its branches in
random order, malloc does more now and then for either, and the exporter reads its own /proc. Each
adds; so the least of three counts it is, which repeats to within 0.3 %. The load of the machine, its
clock and its number of cores have no influence. What has:

- The compiler and the C library (malloc, memcpy).
- valgrind shows the program a processor of its own, with cache sizes of its own, whatever the
  machine has; of the machine's it takes over only whether it has AVX2, AVX or neither. memchr,
  simd-adler32 and memcpy choose by that. There are no SHA instructions and no AVX-512: the hashes
  of `sign-*` are counted as plain code; a processor that has them executes far fewer.

So the file says what it was made with. Where any of that is another one here, the numbers cannot be
compared: they are printed, nothing fails, and --write makes them the new ones.
"""

import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent
LINES = PROJECT / "benches/instructions.json"
# Growth that fails, and shrinking that is worth a new line.
LIMIT = 0.03
# What differs by less is the same: --write leaves its line alone.
NOISE = 0.005
COUNTS = 3


def run(*command, **options):
    """Its standard output; ends with its messages if it fails."""
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}): {' '.join(command)}\n{done.stderr or ''}")
    return done.stdout


def made_with():
    """What numbers depend on beside the program."""
    rustc = run("rustc", "-vV")
    release, host = rustc.splitlines()[0], re.search(r"^host: (.*)$", rustc, re.M)[1]
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return {
        "rustc": f"{release} {host}",
        "libc": " ".join(platform.libc_ver()),
        "valgrind": run("valgrind", "--version").strip(),
        "cpu": next((flag for flag in ("avx2", "avx") if flag in flags), ""),
    }


def build():
    """The path of the program."""
    messages = run("cargo", "build", "--locked", "--release", "--bench", "instructions",
                   "--message-format=json-render-diagnostics")
    for line in messages.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["target"]["name"] == "instructions":
            return message["executable"]
    sys.exit("cargo did not tell where it put the bench instructions")


def counted(binary, name, rounds):
    """Instructions and repetitions of so many rounds, the start included."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, "--count", name, str(rounds)],
        capture_output=True, text=True, check=False, env={"PATH": os.environ.get("PATH", "")})
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or collected is None:
        sys.exit(f"{name} failed ({done.returncode}):\n{done.stderr}")
    return int(collected[1]), int(done.stdout)


def count(binary):
    """Instructions of one repetition of each workload."""
    listed = run(binary, "--list")
    names = [line.partition(":")[0] for line in listed.splitlines()]
    found = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {name: [[pool.submit(counted, binary, name, rounds) for _ in range(COUNTS)] for rounds in (0, 1)]
                for name in names}
        for name, (without, one) in runs.items():
            start = min(run.result()[0] for run in without)
            whole, times = min(run.result() for run in one)
            found[name] = round((whole - start) / times)
    return found


def compare(before, now):
    """What to tell, and what of it fails. Both are what the file holds."""
    told, failed = [], []
    other = [key for key in now["made_with"] if now["made_with"][key] != before["made_with"].get(key)]
    for key in other:
        told.append(f"{key} is {now['made_with'][key]}; the lines were made with {before['made_with'].get(key)}")
    if other:
        told.append("the numbers cannot be compared, so growth is not judged; --write makes these the new lines")
    old, new = before["instructions"], now["instructions"]
    for name in new:
        if name not in old:
            failed.append(f"{name} has no line in {LINES.name}: scripts/check-instructions.py --write makes one")
            continue
        change = new[name] / old[name] - 1
        told.append(f"{name:20} {old[name]:>13,} before {new[name]:>13,} now {change:>+8.2%}")
        if other:
            continue
        if change > LIMIT:
            failed.append(
                f"{name} takes {change:.1%} more instructions: {old[name]:,} before, {new[name]:,} now. If it must, "
                f"run scripts/check-instructions.py --write and commit its line of {LINES.name} with the reason")
        elif change < -LIMIT:
            told.append(f"{name} takes {-change:.1%} less: scripts/check-instructions.py --write lowers its line, "
                        "so that it stays so")
    for name in old:
        if name not in new:
            failed.append(f"{name} has a line in {LINES.name} and is no workload of benches/instructions.rs: "
                          "scripts/check-instructions.py --write removes it")
    return told, failed


def merged(before, now):
    """What --write writes: lines that are as good as the same stay, if they can be compared."""
    kept = dict(now["instructions"])
    if now["made_with"] == before["made_with"]:
        for name, old in before["instructions"].items():
            if name in kept and abs(kept[name] / old - 1) <= NOISE:
                kept[name] = old
    return {"made_with": now["made_with"], "instructions": kept}


def self_test():
    with_it = {"rustc": "rustc 1.0.0 (abc 2026-01-01) x86_64-unknown-linux-gnu", "libc": "glibc 2.36"}

    def held(instructions, **other):
        return {"made_with": {**with_it, **other}, "instructions": instructions}

    def expect(what, found, expected):
        if found != expected:
            sys.exit(f"self-test: {what}: {found}, not {expected}")

    def judged(before, now):
        told, failed = compare(before, now)
        return " ".join(told), " ".join(failed)

    before = held({"decode": 1000, "sign": 2000})
    told, failed = judged(before, held({"decode": 1031, "sign": 2000}))
    expect("3.1 % more fails", failed.startswith("decode takes 3.1% more"), True)
    expect("both numbers are told", "1,000 before, 1,031 now" in failed, True)
    expect("what has not grown does not fail", "sign" in failed, False)
    expect("2.9 % more passes", compare(before, held({"decode": 1029, "sign": 2058}))[1], [])
    told, failed = judged(before, held({"decode": 960, "sign": 2000}))
    expect("4 % less is told", "decode takes 4.0% less" in told, True)
    expect("4 % less passes", failed, "")
    for key, value in (("rustc", "rustc 1.0.1"), ("libc", "glibc 2.41")):
        told, failed = judged(before, held({"decode": 5000, "sign": 1}, **{key: value}))
        expect(f"another {key} passes", failed, "")
        expect(f"another {key} is told", f"{key} is {value}; the lines were made with {with_it[key]}" in told, True)
        expect("the new numbers are told", "5,000 now" in told, True)
    told, failed = judged(before, held({"decode": 1000, "render": 1}))
    expect("a workload without a line fails", "render has no line" in failed, True)
    expect("a line without a workload fails", "sign has a line" in failed, True)
    told, failed = judged(before, held({"decode": 1000, "render": 1}, rustc="rustc 1.0.1"))
    expect("so they do with another compiler", "render has no line" in failed and "sign has a line" in failed, True)
    expect("noise leaves its line, growth does not, lines come and go",
           merged(before, held({"decode": 1004, "render": 7})), held({"decode": 1000, "render": 7}))
    expect("--write takes growth", merged(before, held({"decode": 1031, "sign": 2000})),
           held({"decode": 1031, "sign": 2000}))
    another = held({"decode": 1001, "sign": 2001}, rustc="rustc 1.0.1")
    expect("another compiler makes every line anew", merged(before, another), another)


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    if shutil.which("valgrind") is None:
        if os.environ.get("REQUIRE_REAL_PARTS") == "1":
            sys.exit("valgrind is missing, and instructions must be counted here")
        print("valgrind is missing: instructions were NOT counted")
        return
    now = {"made_with": made_with(), "instructions": count(build())}
    if LINES.is_file():
        before = json.loads(LINES.read_text(encoding="utf-8"))
    else:
        before = {"made_with": now["made_with"], "instructions": {}}
    told, failed = compare(before, now)
    print("\n".join(told))
    if sys.argv[1:] == ["--write"]:
        LINES.write_text(json.dumps(merged(before, now), indent=2) + "\n", encoding="utf-8")
        print(f"{LINES} is up to date")
        return
    if failed:
        sys.exit("\n".join(failed))
    print("no workload takes over 3 % more instructions than its line says")


if __name__ == "__main__":
    main()
