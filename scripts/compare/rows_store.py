"""P14 and P15: a compaction under load, memory of the memtable, recovery; and the device itself."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from report import figure, missing, reached
from rows_engine import feed
from servers import CLIENT_CPU, Tskv, fresh

GIB = 1 << 30


def device(run):
    """The wall of the device: durable writes of 4 KiB, one after the other."""
    file = run.directory / "device"
    found = []
    for _ in range(run.times):
        done = subprocess.run([run.wall, "device", str(file), "1" if run.quick else "3"], check=True,
                              capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    file.unlink()
    yield figure("wall", "durable writes of 4 KiB, one in flight (no tskv)", [each["writes_per_s"] for each in found],
                 [], "writes/s")
    yield figure("wall", "p50 of them (no tskv)", [each["p50_us"] for each in found], [], "µs")


def memory_cgroup(bytes_max):
    """A memory cgroup with a limit, or None where there is none to be had: (directory, command prefix)."""
    for root, limit in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]:
        group = Path(root) / f"tskv-compare-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(bytes_max))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        return group, ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    return None, ()


def compaction(run):
    """P14: reads and writes before and while everything is merged."""
    keys, value_bytes, seconds = (60_000, 1024, 3) if run.quick else (3_000_000, 1024, 15)
    group, prefix = memory_cgroup(GIB)
    try:
        server = Tskv(run.tskv, fresh(run.directory / "compaction"), prefix=prefix)
        try:
            yield from compaction_on(run, server, keys, value_bytes, seconds, group)
        finally:
            server.stop()
    finally:
        if group:
            group.rmdir()


def compaction_on(run, server, keys, value_bytes, seconds, group):
    common = [run.tskv, "bench", "-q", "--addr", server.address, "--protocol", "resp", "--workload", "kv", "--keys", keys,
              "--value-size", value_bytes]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(test, length, file):
        command = ["taskset", "-c", CLIENT_CPU, *common, "-c", 4, "-d", f"{length}s", "--test", test, "--json", file]
        return subprocess.Popen([str(word) for word in command], **quiet)

    def p999_us(length):
        files = {test: run.directory / f"{test}.json" for test in ("put", "get")}
        for client in [start(test, length, file) for test, file in files.items()]:
            client.wait()
        found = {}
        for test, file in files.items():
            operation = next(iter(json.loads(file.read_text())["ops"].values()))
            found[test] = operation["service_us"]["p999"] or operation["service_us"]["max"]
        return found

    fill = [*common, "-c", 16, "-P", 16, "-n", keys * 4 // 3, "--test", "put"]
    subprocess.run([str(word) for word in fill], check=True, **quiet)
    server.run("flush")
    deadline = time.monotonic() + (5 if run.quick else 60)
    while server.metric("compaction_debt_bytes") > 0 and time.monotonic() < deadline:
        time.sleep(0.5)
    try:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("1")
        dropped = "after dropping caches"
    except OSError:
        dropped = "caches could not be dropped"
    before = p999_us(seconds)
    merged_before = server.metric("compaction_read_bytes_total")
    compact = subprocess.Popen([run.tskv, "compact", "--addr", server.address], **quiet)
    during = p999_us(seconds)
    still_running = compact.poll() is None
    compact.wait()
    merged_gib = (server.metric("compaction_read_bytes_total") - merged_before) / GIB
    limit = "in a memory cgroup of 1 GiB" if group else "without a memory cgroup: none may be made here"
    end = "" if still_running else "; it ended before the clients did"
    note = f"{merged_gib:.2f} GiB were merged, {dropped}, {limit}{end}"
    for test in ("put", "get"):
        yield reached(f"P14 {test.upper()}", [during[test]], [before[test]], "µs", note)


def memtable(run):
    """P15: what a point costs in memory, and how fast the log is read back."""
    series, samples = (1_000, 500_000) if run.quick else (10_000, 30_000_000)
    flags = ["--memtable-bytes", "4GiB", "--wal-segment-bytes", "256MiB", "--sync", "none"]
    server = Tskv(run.tskv, fresh(run.directory / "memtable"), *flags)
    try:
        empty = server.resident_bytes()
        feed(run, f"tskv:{server.address}", "walk", series, samples, 10_000)
        time.sleep(1)  # a core leaves its counters four times a second
        entries, log_bytes = server.metric("memtable_entries"), server.metric("wal_written_bytes_total")
        if entries < samples:
            yield missing("P15 memory", f"only {entries:.0f} of {samples} points were still in the memtable")
        else:
            each = (server.resident_bytes() - empty) / samples
            yield reached("P15 memory", [each], [], "bytes", "what the process grew by: buffers are in it", ratio=each)
        server.stop(signal.SIGKILL)
        server = Tskv(run.tskv, run.directory / "memtable", *flags)
        records, seconds = server.metric("recovery_records"), server.metric("recovery_seconds")
        per_gib = seconds * GIB / log_bytes
        yield reached("P15 recovery", [per_gib], [], "s", f"{records:.0f} records, {log_bytes / GIB:.2f} GiB of log, in "
                      f"{seconds:.2f} s", ratio=per_gib)
    finally:
        server.stop()
