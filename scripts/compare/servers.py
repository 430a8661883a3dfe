"""Starts and stops the servers that are compared, each on one CPU, and reads what they cost."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

SERVER_CPU, CLIENT_CPU = "0", "1"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A row could not be measured; the text says why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running process. `address` is where clients connect."""

    def __init__(self, name, command, directory, cpus=SERVER_CPU, environment=None, prefix=()):
        self.name, self.directory, self.address = name, Path(directory), None
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, "taskset", "-c", cpus, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def wait_for(self, is_ready, seconds=60):
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-500:]
                self.stop()
                raise Failed(f"{self.name} did not start: {end.strip()}")
            time.sleep(0.02)
        return self

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def written_bytes(self):
        text = Path(f"/proc/{self.process.pid}/io").read_text()
        return int(re.search(r"^write_bytes: (\d+)", text, re.M).group(1))

    def resident_bytes(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M).group(1)) * 1024

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Tskv(Server):
    def __init__(self, binary, directory, *flags, cpus=SERVER_CPU, name="tskv", prefix=()):
        command = [binary, "serve", "--data", Path(directory) / "data", "--listen", "127.0.0.1:0",
                   "--admin", "127.0.0.1:0", "--cores", f"cpu:{cpus}", *flags]
        log = Path(directory) / "server.log"
        begins = log.read_text(errors="replace").count("tskv ready") if log.exists() else 0
        super().__init__(name, [str(word) for word in command], directory, cpus, prefix=prefix)
        self.binary = binary
        found = []

        def ready():
            lines = re.findall(r"tskv ready listen=(\S+) admin=(\S+)", self.log.read_text(errors="replace"))
            found[:] = lines[begins:]
            return bool(found)

        self.wait_for(ready, seconds=300)
        self.address, self.admin = found[-1][0], found[-1][1]

    def metric(self, name):
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as page:
            text = page.read().decode()
        values = re.findall(rf"^tskv_{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        if not values:
            raise Failed(f"tskv has no metric {name}")
        return sum(map(float, values))

    def run(self, *words):
        subprocess.run([self.binary, *words, "--addr", self.address], check=True, stdout=subprocess.DEVNULL)

    def table_bytes(self):
        """Bytes of live tables; those that a merge replaced may still lie there for a moment."""
        return self.metric("sstable_bytes")


class Redis(Server):
    def __init__(self, directory, fsync):
        port = free_port()
        Path(directory).mkdir(parents=True, exist_ok=True)
        append = ["--appendonly", "yes", "--appendfsync", fsync] if fsync else ["--appendonly", "no"]
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
                   str(directory), "--maxclients", "2000", *append]
        super().__init__(f"redis {fsync or 'no AOF'}", command, directory)
        self.address = f"127.0.0.1:{port}"
        self.wait_for(lambda: accepts(port))


class Wall(Server):
    """Answers requests of a fixed size without looking at them; with `durable`, after a durable write."""

    def __init__(self, binary, directory, request_bytes, durable):
        Path(directory).mkdir(parents=True, exist_ok=True)
        port = free_port()
        file = [str(Path(directory) / "wall.log")] if durable else []
        super().__init__("durable wall" if durable else "wall",
                         [binary, "serve", str(port), str(request_bytes), *file], directory)
        self.address = f"127.0.0.1:{port}"
        self.wait_for(lambda: accepts(port))


class Victoria(Server):
    def __init__(self, directory):
        port = free_port()
        command = ["victoria-metrics", "-storageDataPath", str(Path(directory) / "data"), "-httpListenAddr",
                   f"127.0.0.1:{port}", "-retentionPeriod", "100y", "-search.disableCache",
                   "-search.maxPointsPerTimeseries", "1000000", "-search.maxSamplesPerQuery", "1000000000"]
        super().__init__("VictoriaMetrics", command, directory, environment={"GOMAXPROCS": "1"})
        self.address = f"127.0.0.1:{port}"
        self.wait_for(lambda: accepts(port))

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=300) as reply:
            return reply.read()

    def merged_bytes(self):
        """Flushes and merges, waits until the files rest; bytes of data files, the index of names apart."""
        self.get("/internal/force_flush")
        self.get("/internal/force_merge")
        before, rests = -1, 0
        while rests < 3:
            time.sleep(1)
            active = self.get("/metrics").decode()
            merging = sum(int(n) for n in re.findall(r'^vm_active_merges\{[^}]*\} (\d+)$', active, re.M))
            now = bytes_of((self.directory / "data" / "data").rglob("*"))
            rests = rests + 1 if now == before and merging == 0 else 0
            before = now
        return before


def bytes_of(paths):
    """Bytes of those that are files and still there: merges remove some meanwhile."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            pass
    return total


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    return directory
