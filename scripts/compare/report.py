"""The goals, what was measured of them, and how it is written down."""

import json
import os
import platform
import re
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

# Goal -> must, after, and whether the ratio has to be at least or at most that. The rows of ../shared/PERFORMANCE.md;
# where several stand in one row, by a suffix.
AT_LEAST, AT_MOST = "≥", "≤"
GOALS = {
    "P1 P1": ("PUT always / redis always, c50 P1", AT_LEAST, 1.3, 1.45),
    "P1 P16": ("PUT always / redis always, c50 P16", AT_LEAST, 3, 4.5),
    "P1 P64": ("PUT always / redis always, c50 P64", AT_LEAST, 4, 10),
    "P1 c256": ("PUT always / redis always, c256 P1", AT_LEAST, 1.5, 1.8),
    "P1 c1": ("PUT always / redis always, c1 P1", AT_LEAST, 1.6, 1.8),
    "P2 P1": ("PUT interval / redis everysec, c50 P1", AT_LEAST, 1.5, 1.75),
    "P2 P16": ("PUT interval / redis everysec, c50 P16", AT_LEAST, 4, 7),
    "P2 P64": ("PUT interval / redis everysec, c50 P64", AT_LEAST, 6, 16),
    "P3 PUT P1": ("PUT none / redis without AOF, c50 P1", AT_LEAST, 1.25, 1.5),
    "P3 PUT P16": ("PUT none / redis without AOF, c50 P16", AT_LEAST, 2.5, 4.2),
    "P3 PUT P64": ("PUT none / redis without AOF, c50 P64", AT_LEAST, 3.5, 10),
    "P3 GET P1": ("GET / redis GET, c50 P1", AT_LEAST, 1.25, 1.5),
    "P3 GET P16": ("GET / redis GET, c50 P16", AT_LEAST, 2.5, 4.2),
    "P3 GET P64": ("GET / redis GET, c50 P64", AT_LEAST, 3.5, 10),
    "P4 P1": ("durable PUT / durable wall, c50 P1", AT_LEAST, 0.85, 0.95),
    "P4 P16": ("durable PUT / durable wall, c50 P16", AT_LEAST, 0.7, 0.95),
    "P4 P64": ("durable PUT / durable wall, c50 P64", AT_LEAST, 0.5, 0.95),
    "P5": ("p99 of durable PUT at 70 % of redis's maximum, tskv / redis", AT_MOST, 0.5, 0.3),
    "P6 PUT": ("CPU per PUT always P16, tskv / redis", AT_MOST, 0.4, 0.25),
    "P6 GET": ("CPU per GET P16, tskv / redis", AT_MOST, 0.45, 0.25),
    "P7 sockets": ("io_uring / epoll, PUT none c50 P1", AT_LEAST, 0.95, 1.15),
    "P7 durable": ("io_uring / epoll, PUT always c50 P16", AT_LEAST, 1.1, 1.3),
    "P8 RocksDB": ("ingest tick by tick, tskv / RocksDB in batches of 100", AT_LEAST, 10, 30),
    "P8 fjall": ("ingest tick by tick, tskv / fjall", AT_LEAST, 6, 20),
    "P9 get": ("cached point get, tskv / RocksDB", AT_LEAST, 1.5, 3),
    "P9 scan": ("range scan, points/s, tskv / RocksDB", AT_LEAST, 5, 20),
    "P10 walk": ("bytes per sample, tskv / VictoriaMetrics, decimal walk", AT_MOST, 1.0, 0.95),
    "P10 gauss": ("bytes per sample, tskv / VictoriaMetrics, gaussian doubles", AT_MOST, 0.9, 0.86),
    "P10 TSBS int": ("bytes per sample, tskv / VictoriaMetrics, TSBS cpu-only int", AT_MOST, 1.0, 0.8),
    "P10 real": ("bytes per sample, tskv / VictoriaMetrics, the real files in sum", AT_MOST, 0.9, 0.7),
    "P11 Influx": ("bulk ingest, tskv / VictoriaMetrics Influx lines", AT_LEAST, 2.5, 4),
    "P11 JSON": ("bulk ingest, tskv / VictoriaMetrics JSON import", AT_LEAST, 1.2, 2),
    "P12 series": ("one series of 10,000 points, VictoriaMetrics' time / tskv's", AT_LEAST, 4, 8),
    "P12 10 s": ("avg over 100 series, 10 s step, VictoriaMetrics' time / tskv's", AT_LEAST, 2, 4),
    "P12 1 h": ("avg over 100 series, 1 h step, VictoriaMetrics' time / tskv's", AT_LEAST, 5, 20),
    "P13 local": ("CPU per PUT P16, two shards / one, all local", AT_MOST, 1.1, 1.0),
    "P13 forwarded": ("CPU per PUT P16, two shards / one, half forwarded", AT_MOST, 1.5, 1.25),
    "P14 PUT": ("p99.9 of PUT during a compaction / without", AT_MOST, 2, 1.2),
    "P14 GET": ("p99.9 of GET during a compaction / without", AT_MOST, 2, 1.2),
    "P15 memory": ("resident bytes per point in the memtable", AT_MOST, 40, 20),
    "P15 recovery": ("seconds of recovery per GiB of log", AT_MOST, 5, 2),
}


@dataclass
class Result:
    """One line of a row: a goal, or for `goal` None a figure beside them."""
    row: str
    goal: str | None
    what: str
    ours: list = field(default_factory=list)
    peer: list = field(default_factory=list)
    unit: str = ""
    ratio: float | None = None
    not_measured: str | None = None
    note: str = ""

    def met(self):
        """`must`, `after`, `no`; None for a figure without a goal."""
        if self.goal is None:
            return None
        _, direction, must, after = GOALS[self.goal]
        if self.ratio is None:
            return "no"
        reaches = (lambda limit: self.ratio >= limit) if direction == AT_LEAST else (lambda limit: self.ratio <= limit)
        return "after" if reaches(after) else "must" if reaches(must) else "no"


def reached(goal, ours, peer, unit, note="", ratio=None):
    """A measured goal: raw figures of ours and the peer's, and the ratio of their medians unless given."""
    ratio = ratio if ratio is not None else median(ours) / median(peer)
    return Result(goal.split()[0], goal, GOALS[goal][0], ours, peer, unit, ratio, note=note)


def missing(goal, why):
    return Result(goal.split()[0], goal, GOALS[goal][0], not_measured=why)


def figure(row, what, ours, peer, unit, note=""):
    return Result(row, None, what, ours, peer, unit, median(ours) / median(peer) if peer else None, note=note)


def machine(repository, tskv):
    """What the figures were made on."""
    def output(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.M)
    memory_kib = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M).group(1))
    dirty = output("git", "-C", str(repository), "status", "--porcelain", "--untracked-files=no")
    packages = ["redis-server", "victoria-metrics", "librocksdb-dev"]
    versions = {name: output("dpkg-query", "-W", "-f", "${Version}", name) for name in packages}
    lock = (Path(__file__).parent / "Cargo.lock").read_text()
    versions["fjall"] = re.search(r'name = "fjall"\nversion = "([^"]+)"', lock).group(1)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": output("git", "-C", str(repository), "rev-parse", "HEAD") + (" and changes" if dirty else ""),
        "tskv": output(str(tskv), "--version"),
        "cpu": model.group(1) if model else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "file_system": output("stat", "-f", "-c", "%T", str(repository)),
        "load_before": os.getloadavg()[0],
        "peers": versions,
    }


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def shown(figures):
    """Median, and the range where there is one."""
    if not figures:
        return "–"
    text = number(median(figures))
    return f"{text} ({number(min(figures))}…{number(max(figures))})" if len(figures) > 1 else text


MET = {"after": "yes, and what we are after", "must": "yes", "no": "**no**", None: ""}


def markdown(facts, results, how):
    goals = [result for result in results if result.goal]
    met = sum(result.met() != "no" for result in goals)
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    lines = [
        f"# tskv compared, {facts['time']}", "",
        f"{facts['tskv']}, commit {facts['commit']}; {facts['cpus']} × {facts['cpu']}, {facts['memory_gib']} GiB, "
        f"Linux {facts['kernel']}, {facts['file_system']}; load before {facts['load_before']:.2f}. {peers}.", "",
        how, "", f"**{met} of {len(goals)} goals met.**", "",
        "| # | what | tskv | peer | ratio | must | after | met |", "|---|---|---|---|---|---|---|---|",
    ]
    for result in goals:
        what, direction, must, after = GOALS[result.goal]
        if result.not_measured:
            cells = ["–", "–", f"not measured: {result.not_measured}"]
        else:
            cells = [f"{shown(result.ours)} {result.unit}", shown(result.peer), f"{result.ratio:.2f}"]
        lines.append("| " + " | ".join([result.goal, what, *cells, f"{direction} {must}", f"{direction} {after}",
                                        MET[result.met()]]) + " |")
    others = [result for result in results if not result.goal]
    if others:
        lines += ["", "| # | beside the goals | tskv | peer | ratio |", "|---|---|---|---|---|"]
        for result in others:
            ratio = f"{result.ratio:.2f}" if result.ratio is not None else "–"
            lines.append(f"| {result.row} | {result.what} | {shown(result.ours)} {result.unit} | "
                         f"{shown(result.peer)} | {ratio} |")
    notes = [f"- {result.goal or result.row}: {result.note}" for result in results if result.note]
    return "\n".join(lines + (["", *dict.fromkeys(notes)] if notes else [])) + "\n"


def write(directory, facts, results, how):
    """Writes compare.md and compare.json; gives the text of the first."""
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(facts, results, how)
    (directory / "compare.md").write_text(text)
    rows = [{**asdict(result), "goal_text": GOALS[result.goal][1:] if result.goal else None, "met": result.met()}
            for result in results]
    (directory / "compare.json").write_text(json.dumps({"machine": facts, "how": how, "results": rows}, indent=1))
    return text
