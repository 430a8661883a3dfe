"""P8 to P12: samples, against RocksDB, fjall and VictoriaMetrics; bytes on disk, write and space amplification."""

import gzip
import json
import shutil
import subprocess
from statistics import median
from urllib.parse import quote

from report import figure, missing, reached
from servers import CLIENT_CPU, SERVER_CPU, Failed, Tskv, Victoria, fresh

NETWORK = "tskv is fed and read over the network by one connection, the others by calls within their process"
RAW_BYTES = 32  # of an entry: 16 of the series, 8 of the time, 8 of the value


def feed(run, store, data, series, samples, interval_ms, gets=None, cpu=CLIENT_CPU):
    command = ["taskset", "-c", cpu, run.feed, store, data, series, samples, interval_ms]
    command += [gets] if gets else []
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip()[-300:])
    return json.loads(done.stdout)


def embedded(run, name, samples, series, gets):
    """RocksDB or fjall, in a process on the server's CPU."""
    directory = fresh(run.directory / name)
    directory.mkdir(parents=True)
    found = feed(run, f"{name}:{directory}", "walk", series, samples, 10_000, gets, cpu=SERVER_CPU)
    shutil.rmtree(directory)
    return found


def tskv(run, samples, series, gets):
    """The same entries and reads on tskv: the rate includes flushes and compactions as they come."""
    server = Tskv(run.tskv, fresh(run.directory / "tskv"), "--sync", "none")
    try:
        fed = feed(run, f"tskv:{server.address}", "walk", series, samples, 10_000)
        server.run("compact")
        reads = feed(run, f"tskv-reads:{server.address}", "walk", series, samples, 10_000, gets)
        return {**fed, **reads, "written_bytes": server.written_bytes(), "disk_bytes": server.table_bytes()}
    finally:
        server.stop()


def engines(run):
    """P8 and P9, in turns."""
    series, samples, gets = (1_000, 500_000, 20_000) if run.quick else (10_000, 10_000_000, 300_000)
    found = {"tskv": [], "rocksdb": [], "fjall": []}
    for _ in range(run.times):
        found["tskv"].append(tskv(run, samples, series, gets))
        for name in ("rocksdb", "fjall"):
            found[name].append(embedded(run, name, samples, series, gets))
    rate = {name: [each["samples"] / each["seconds"] for each in taken] for name, taken in found.items()}
    yield reached("P8 RocksDB", rate["tskv"], rate["rocksdb"], "entries/s", NETWORK)
    yield reached("P8 fjall", rate["tskv"], rate["fjall"], "entries/s")
    for goal, key, unit in [("P9 get", "gets_per_s", "gets/s"), ("P9 scan", "scanned_per_s", "points/s")]:
        yield reached(goal, *[[each[key] for each in found[name]] for name in ("tskv", "rocksdb")], unit)
    fjall = [each["gets_per_s"] for each in found["fjall"]]
    yield figure("P9", "cached point get, tskv / fjall", [each["gets_per_s"] for each in found["tskv"]], fjall,
                 "gets/s")


def amplification(run):
    """Write and space amplification on the same entries: bytes written, and bytes left, per byte of entry (32)."""
    series, samples = (1_000, 1_000_000) if run.quick else (10_000, 100_000_000)
    raw = samples * RAW_BYTES
    found = {"tskv": tskv(run, samples, series, 1_000)}
    for name in ("rocksdb", "fjall"):
        found[name] = embedded(run, name, samples, series, 1_000)
    for name in ("rocksdb", "fjall"):
        for what, key in [("write amplification", "written_bytes"), ("space amplification", "disk_bytes")]:
            yield figure("amplification", f"{what}, {samples / 1e6:g} M entries, tskv and {name}",
                         [found["tskv"][key] / raw], [found[name][key] / raw], "bytes per byte",
                         "log, flushes and merges included; an entry counts as 32 bytes")


def real_files(run):
    """The real files, unpacked, by name; bytes files are no numbers."""
    if not (run.data / "MANIFEST.json").exists():
        return {}
    unpacked = run.directory / "real"
    unpacked.mkdir(exist_ok=True)
    names = [entry["file"] for entry in json.loads((run.data / "MANIFEST.json").read_text())
             if entry["kind"] != "bytes"]
    for name in names:
        target = unpacked / name.removesuffix(".gz")
        if not target.exists():
            with gzip.open(run.data / name) as source, target.open("wb") as plain:
                shutil.copyfileobj(source, plain)
    return {name.removesuffix(".csv.gz"): str(unpacked / name.removesuffix(".gz")) for name in names}


def bytes_on_disk(run, data, series, samples, interval_ms):
    """Bytes per sample of tskv's tables after a compaction, and of VictoriaMetrics' parts after a forced merge."""
    server = Tskv(run.tskv, fresh(run.directory / "tskv"), "--sync", "none")
    try:
        fed = feed(run, f"tskv:{server.address}", data, series, samples, interval_ms)
        server.run("compact")
        ours = server.table_bytes()
    finally:
        server.stop()
    server = Victoria(fresh(run.directory / "victoria"))
    try:
        feed(run, f"victoria-json:{server.address}", data, series, samples, interval_ms)
        return fed["samples"], ours, server.merged_bytes()
    finally:
        server.stop()


def size(run):
    """P10, and what issue 5 asks beside it."""
    note = "tskv: whole tables with index and filter; VictoriaMetrics: data without its index of names"
    scale = 20 if run.quick else 1
    kinds = [("P10 walk", "walk", 100, 1_000_000), ("P10 gauss", "gauss", 100, 1_000_000),
             ("P10 TSBS int", "tsbs-int", 10_000, 21_600_000), (None, "tsbs-float", 10_000, 21_600_000),
             (None, "sparse", 8_000, 640_000)]
    for goal, data, series, samples in kinds:
        count, ours, peer = bytes_on_disk(run, data, max(50, series // scale), samples // scale, 10_000)
        if goal:
            yield reached(goal, [ours / count], [peer / count], "bytes", note)
        else:
            yield figure("P10", f"bytes per sample, {data}", [ours / count], [peer / count], "bytes")
    files = real_files(run)
    if not files:
        return (yield missing("P10 real", f"no data sets at {run.data}; give --data"))
    total_ours = total_peer = total_count = 0
    for name, file in files.items():
        count, ours, peer = bytes_on_disk(run, f"csv:{file}", 1, 1, 1)
        total_ours, total_peer, total_count = total_ours + ours, total_peer + peer, total_count + count
        yield figure("P10", f"bytes per sample, {name}", [ours / count], [peer / count], "bytes")
    yield reached("P10 real", [total_ours / total_count], [total_peer / total_count], "bytes",
                  "NaN and times before 1970 are left out: VictoriaMetrics stores neither")


def bulk(run):
    """P11: requests are encoded beforehand; one connection."""
    series, samples = (1_000, 500_000) if run.quick else (10_000, 10_000_000)
    rate = {"tskv": [], "victoria-influx": [], "victoria-json": []}
    for _ in range(run.times):
        for store, taken in rate.items():
            directory = fresh(run.directory / store)
            server = Tskv(run.tskv, directory) if store == "tskv" else Victoria(directory)
            try:
                fed = feed(run, f"{store}:{server.address}", "walk", series, samples, 10_000)
            finally:
                server.stop()
            taken.append(fed["samples"] / fed["seconds"])
    note = "tskv with --sync always, VictoriaMetrics as it comes (it syncs in the background)"
    yield reached("P11 Influx", rate["tskv"], rate["victoria-influx"], "samples/s", note)
    yield reached("P11 JSON", rate["tskv"], rate["victoria-json"], "samples/s")


def queries(run):
    """P12: the median of many, both after a merge."""
    series, per_series = 100, 1_000 if run.quick else 10_000
    times = 20 if run.quick else 200
    start_s = 1_451_606_400
    end_s = start_s + 10 * per_series
    ours = Tskv(run.tskv, fresh(run.directory / "tskv"))
    peer = Victoria(fresh(run.directory / "victoria"))
    try:
        for server, store in ((ours, "tskv"), (peer, "victoria-json")):
            feed(run, f"{store}:{server.address}", "walk", series, series * per_series, 10_000)
        ours.run("compact")
        peer.merged_bytes()

        def median_ms(*words):
            command = ["taskset", "-c", CLIENT_CPU, run.query, *words, times]
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(done.stderr.strip()[-300:])
            return json.loads(done.stdout)["median_ms"]

        def both(goal, bounds, step_s, path, note):
            figures = [(median_ms("tskv", ours.address, *bounds, step_s * 1000),
                        median_ms("http", peer.address, path)) for _ in range(run.times)]
            tskv_ms, victoria_ms = map(list, zip(*figures))
            return reached(goal, tskv_ms, victoria_ms, "ms", note, ratio=median(victoria_ms) / median(tskv_ms))

        one, all_of_them = ("series_000000042", "series_000000042\x01"), ("series_", "series`")
        span = f"start={start_s}&end={end_s}"
        yield both("P12 series", one, 0, "/api/v1/export?match[]=series_000000042&" + span, "samples as stored")
        for goal, step in [("P12 10 s", 10), ("P12 1 h", 3600)]:
            query = quote('avg({__name__=~"series_.*"})')
            path = f"/api/v1/query_range?query={query}&step={step}&{span}"
            yield both(goal, all_of_them, step, path, "tskv sends one average per series and bucket, which the client "
                       "still has to add up; VictoriaMetrics sends one row")
    finally:
        ours.stop()
        peer.stop()
