"""Runs the rows of the goals' table and writes what came out; see scripts/compare.sh."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
import rows_engine
import rows_requests
import rows_store
from servers import Failed

# What runs together, and which rows it is for.
GROUPS = [
    ("wall", rows_store.device), ("P1 P4 P6", rows_requests.durable), ("P2", rows_requests.interval),
    ("P3 P6", rows_requests.memory), ("P5", rows_requests.latency), ("P7", rows_requests.backends),
    ("P8 P9", rows_engine.engines), ("P10", rows_engine.size), ("P11", rows_engine.bulk),
    ("P12", rows_engine.queries), ("P13", rows_requests.two_shards), ("P14", rows_store.compaction),
    ("P15", rows_store.memtable), ("amplification", rows_engine.amplification),
]


class Run:
    """What every row is given."""

    def __init__(self, options, directory):
        here = Path(__file__).resolve().parent
        self.repository = here.parent.parent
        self.tskv = str(options.tskv.resolve())
        programs = here / "target" / "release"
        self.feed, self.wall, self.query = (str(programs / name) for name in ("feed", "wall", "query"))
        self.data, self.directory, self.quick = options.data, directory, options.quick
        self.times = options.times or (1 if options.quick else 5)
        self.seconds = options.seconds or (1 if options.quick else 12)


def rows_of(name):
    return name.split()


def parse():
    parser = argparse.ArgumentParser(prog="scripts/compare.sh", description="Measures tskv against its peers.")
    known = sorted({row for name, _ in GROUPS for row in rows_of(name)}, key=lambda row: (len(row), row))
    parser.add_argument("--only", metavar="ROW,ROW", help="of " + " ".join(known))
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works, not how fast")
    parser.add_argument("--times", type=int, help="runs of each, in turns [5; quick: 1]")
    parser.add_argument("--seconds", type=float, help="length of a run over the network [12; quick: 1]")
    parser.add_argument("--tskv", type=Path, default=Path("target/release/tskv"), help="the binary to measure")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the real data sets")
    parser.add_argument("--dir", type=Path, help="where stores may lie, on the disk to be measured [temporary]")
    parser.add_argument("--out", type=Path, default=Path("target/compare"), help="where compare.md and compare.json go")
    options = parser.parse_args()
    options.rows = options.only.split(",") if options.only else known
    unknown = set(options.rows) - set(known)
    if unknown:
        parser.error(f"no such row: {' '.join(sorted(unknown))}; there are {' '.join(known)}")
    return options


def measure(run, wanted):
    """All results of the wanted rows; a row that fails is told as not measured."""
    results = []
    for name, rows in GROUPS:
        if not set(rows_of(name)) & set(wanted):
            continue
        began = time.monotonic()
        found, failure = [], None
        try:
            for result in rows(run):
                found.append(result)
                print(f"  {result.goal or result.row}: {result.what}: "
                      f"{result.not_measured or report.shown(result.ours)}", flush=True)
        except Failed as error:
            failure = " ".join(str(error).split())
        except subprocess.CalledProcessError as error:
            failure = f"`{' '.join(map(str, error.cmd))}` ended with status {error.returncode}"
        except Exception as error:  # whatever it was: the other rows are still worth having
            failure = f"{type(error).__name__}: {error}"
        if failure:
            print(f"  {name}: {failure}", flush=True)
            reached = {result.goal for result in found}
            shared = {row for other, _ in GROUPS if other != name for row in rows_of(other)}
            goals = [goal for goal in report.GOALS if goal.split()[0] in rows_of(name) and goal not in reached
                     and goal.split()[0] not in shared]
            found += [report.missing(goal, failure) for goal in goals]
        results += [result for result in found if result.row in wanted]
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    order = list(report.GOALS)
    return sorted(results, key=lambda result: order.index(result.goal) if result.goal else len(order))


def main():
    options = parse()
    if not options.tskv.exists():
        sys.exit(f"{options.tskv} is not there: cargo build --release")
    directory = Path(tempfile.mkdtemp(prefix="tskv-compare-", dir=options.dir))
    try:
        run = Run(options, directory)
        facts = report.machine(run.repository, run.tskv)
        results = measure(run, options.rows)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    how = (f"Each server on CPU 0, the client on CPU 1, in turns, {run.times} × {run.seconds:g} s; median (range). "
           "P1 to P7 and P13: 1 M keys, values of 64 bytes, `tskv bench`.")
    if options.quick:
        how += " **Quick: small and short, good for seeing that it works and for nothing else.**"
    print("\n" + report.write(options.out, facts, results, how))
    print(f"written: {options.out}/compare.md and compare.json")


if __name__ == "__main__":
    main()
