"""P1 to P7 and P13: requests over the network, `tskv bench` as the client."""

import itertools
import json
import socket
import subprocess
from statistics import median

from report import figure, reached
from servers import CLIENT_CPU, Failed, Redis, Tskv, Wall, fresh

KEYS, VALUE_BYTES = 1_000_000, 64
# *3 SET of a key of 20 bytes and a value of 64, as the generator sends it.
SET_BYTES = len(b"*3\r\n$3\r\nSET\r\n$20\r\nbench:s:000000000000\r\n$64\r\n" + bytes(64) + b"\r\n")


class Sample:
    """What one run of the client saw."""

    def __init__(self, document, cpu_seconds):
        operation = next(iter(document["ops"].values()))
        self.rate = operation["ops_per_s"]
        self.errors = operation["errors"]
        times = operation["response_us"] or operation["service_us"]
        self.p99_us, self.p999_us = times["p99"], times["p999"]
        self.cpu_us = cpu_seconds * 1e6 / max(1, operation["count"])
        self.generator_limited = document["verdict"]["generator_limited"]


def bench(run, server, test, clients, pipeline, seconds, *more):
    """Runs the client once and gives a `Sample`."""
    file = run.directory / "bench.json"
    command = ["taskset", "-c", CLIENT_CPU, run.tskv, "bench", "-q", "--addr", server.address, "--protocol", "resp",
               "--workload", "kv", "--test", test, "--keys", KEYS, "--value-size", VALUE_BYTES, "-c", clients,
               "-d", f"{seconds}s", "--warmup", "0s", "--json", file, "--max-errors", 1000]
    command += ["-P", pipeline] if pipeline else []
    before = server.cpu_seconds()
    subprocess.run([str(word) for word in [*command, *more]], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    cpu_seconds = server.cpu_seconds() - before
    return Sample(json.loads(file.read_text()), cpu_seconds)


def load(run, *servers):
    """Every key once, so that reads find them and writes replace."""
    count = 100_000 if run.quick else KEYS
    for server in servers:
        command = [run.tskv, "bench", "-q", "--addr", server.address, "--protocol", "resp", "--workload", "kv",
                   "--test", "put", "--keys", KEYS, "--key-pattern", "S", "--value-size", VALUE_BYTES, "-c", 50,
                   "-P", 64, "-n", count]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def alternate(run, servers, test, clients, pipeline, *more):
    """Each server in turn, over and over; a list of samples for each."""
    samples = [[] for _ in servers]
    for server, taken in itertools.islice(itertools.cycle(zip(servers, samples)), run.times * len(servers)):
        taken.append(bench(run, server, test, clients, pipeline, run.seconds, *more))
    return samples


def rates(samples):
    return [sample.rate for sample in samples]


def note_of(*lists):
    limited = sum(sample.generator_limited for samples in lists for sample in samples)
    failed = sum(sample.errors for samples in lists for sample in samples)
    notes = [f"the generator was the limit in {limited} runs: the server can do more"] if limited else []
    return "; ".join(notes + ([f"{failed} requests failed"] if failed else []))


def durable(run):
    """P1, P4 and half of P6: the same runs of tskv, redis and the durable wall."""
    root = fresh(run.directory / "durable")
    servers = [Tskv(run.tskv, root / "tskv", "--sync", "always"), Redis(root / "redis", "always"),
               Wall(run.wall, root / "wall", SET_BYTES, durable=True)]
    try:
        load(run, *servers[:2])
        for clients, pipeline, name in [(50, 1, "P1"), (50, 16, "P16"), (50, 64, "P64"), (256, 1, "c256"),
                                        (1, 1, "c1")]:
            has_wall = clients == 50
            taken = alternate(run, servers[:3 if has_wall else 2], "put", clients, pipeline)
            tskv, redis = taken[:2]
            yield reached(f"P1 {name}", rates(tskv), rates(redis), "PUT/s", note_of(tskv, redis))
            if has_wall:
                yield reached(f"P4 {name}", rates(tskv), rates(taken[2]), "PUT/s", note_of(taken[2]))
            if name == "P16":
                yield reached("P6 PUT", [s.cpu_us for s in tskv], [s.cpu_us for s in redis], "µs")
        for server in servers[:2]:
            yield figure("P1", f"bytes written by {server.name}, log and tables", [server.written_bytes() / 2**20],
                         [], "MiB")
    finally:
        [server.stop() for server in servers]


def interval(run):
    """P2."""
    root = fresh(run.directory / "interval")
    servers = [Tskv(run.tskv, root / "tskv", "--sync", "interval=1s"), Redis(root / "redis", "everysec")]
    try:
        load(run, *servers)
        for pipeline in (1, 16, 64):
            tskv, redis = alternate(run, servers, "put", 50, pipeline)
            yield reached(f"P2 P{pipeline}", rates(tskv), rates(redis), "PUT/s", note_of(tskv, redis))
    finally:
        [server.stop() for server in servers]


def memory(run):
    """P3 and the other half of P6."""
    root = fresh(run.directory / "memory")
    servers = [Tskv(run.tskv, root / "tskv", "--sync", "none"), Redis(root / "redis", None),
               Wall(run.wall, root / "wall", SET_BYTES, durable=False)]
    try:
        load(run, *servers[:2])
        for test, pipeline in itertools.product(("put", "get"), (1, 16, 64)):
            taken = alternate(run, servers[:3 if test == "put" else 2], test, 50, pipeline)
            tskv, redis = taken[:2]
            yield reached(f"P3 {test.upper()} P{pipeline}", rates(tskv), rates(redis), f"{test.upper()}/s",
                          note_of(tskv, redis))
            if test == "put":
                yield figure("P3", f"+OK without parsing, c50 P{pipeline}", rates(tskv), rates(taken[2]), "PUT/s")
            if test == "get" and pipeline == 16:
                yield reached("P6 GET", [s.cpu_us for s in tskv], [s.cpu_us for s in redis], "µs")
    finally:
        [server.stop() for server in servers]


def latency(run):
    """P5: both at 70 % of what redis can do, from the time at which each request was due."""
    root = fresh(run.directory / "latency")
    servers = [Tskv(run.tskv, root / "tskv", "--sync", "always"), Redis(root / "redis", "always")]
    try:
        load(run, *servers)
        maximum = median(rates(bench(run, servers[1], "put", 50, 1, run.seconds) for _ in range(3)))
        tskv, redis = alternate(run, servers, "put", 50, None, "-R", int(0.7 * maximum))
        yield reached("P5", [s.p99_us for s in tskv], [s.p99_us for s in redis], "µs", note_of(tskv, redis))
    finally:
        [server.stop() for server in servers]


def backends(run):
    """P7."""
    for goal, sync, pipeline in [("P7 sockets", "none", 1), ("P7 durable", "always", 16)]:
        root = fresh(run.directory / "backends")
        servers = [Tskv(run.tskv, root / name, "--sync", sync, "--backend", name) for name in ("io_uring", "epoll")]
        try:
            load(run, *servers)
            uring, epoll = alternate(run, servers, "put", 50, pipeline)
            yield reached(goal, rates(uring), rates(epoll), "PUT/s", note_of(uring, epoll))
        finally:
            [server.stop() for server in servers]


def two_shards(run):
    """P13: the client shares a CPU with one of the cores, so only CPU per operation counts."""
    root = fresh(run.directory / "shards")
    middle = f"bench:s:{KEYS // 2:012}"
    servers = [Tskv(run.tskv, root / "one", "--sync", "none"),
               Tskv(run.tskv, root / "two", "--sync", "none", "--rebalance", "off", "--split-at", middle, cpus="0,1")]
    one, two = servers
    try:
        load(run, *servers)
        before = two.metric("forwarded_total"), two.metric("put_total")
        single, forwarded = alternate(run, [one, two], "put", 50, 16)
        share = (two.metric("forwarded_total") - before[0]) / max(1, two.metric("put_total") - before[1])
        yield reached("P13 forwarded", [s.cpu_us for s in forwarded], [s.cpu_us for s in single], "µs",
                      f"{share:.0%} of the requests were forwarded")
    finally:
        [server.stop() for server in servers]
    # All keys belong to the first core, and all connections come to its own port.
    port = free_ports(2)
    two = Tskv(run.tskv, fresh(root / "local"), "--sync", "none", "--rebalance", "off", "--split-at", "~",
               "--core-port-base", str(port), cpus="0,1")
    one = Tskv(run.tskv, fresh(root / "alone"), "--sync", "none")
    two.address = f"127.0.0.1:{port}"
    try:
        load(run, one, two)
        before = two.metric("forwarded_total")
        single, local = alternate(run, [one, two], "put", 50, 16)
        if two.metric("forwarded_total") != before:
            raise Failed("requests were forwarded, though all came to the core that owns the keys")
        yield reached("P13 local", [s.cpu_us for s in local], [s.cpu_us for s in single], "µs",
                      "all connections on the port of the core that owns all keys")
    finally:
        [server.stop() for server in (one, two)]


def free_ports(count):
    """The first of so many neighbouring ports on which nobody listens."""
    for first in range(20_000, 60_000, 101):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, listener in enumerate(sockets):
                listener.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            [listener.close() for listener in sockets]
    raise Failed("no free ports")
