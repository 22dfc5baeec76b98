"""Measures beat on a private Redis server: what large schedules cost, how fast it catches up, how late runs are.

    python compat-tests/bench/beat.py target/release/celeriac          everything (about two minutes)
    python compat-tests/bench/beat.py PROGRAM --only steady --seconds 60

Lateness is taken from outside: when a message can be read from the queue, less the time at which its entry was due. It ends
with status 1 when a figure misses its target.
"""

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path

from processes import Processes, status_kib
from server import Server, wait_until

ENTRIES, OVERDUE, PER_SECOND = 100_000, 20_000, 100
# Each of the entries is due once in so many seconds.
ROUND = ENTRIES // PER_SECOND


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the program celeriac")
    parser.add_argument("--only", choices=["start", "overdue", "steady", "file"], action="append")
    parser.add_argument("--seconds", type=float, default=30, help="how long the steady load is measured")
    arguments = parser.parse_args()
    wanted = arguments.only or ["start", "overdue", "steady", "file"]
    figures = Figures()
    for name, measure in (("start", start), ("overdue", overdue), ("steady", steady), ("file", file)):
        if name in wanted:
            with Server() as server, tempfile.TemporaryDirectory() as folder:
                measure(Beat(arguments.program.resolve(), server, Path(folder)), figures, arguments.seconds)
    sys.exit(1 if figures.missed else 0)


class Figures:
    missed = 0

    def add(self, name, value, unit, target=None, least=None):
        met = (target is None or value < target) and (least is None or value >= least)
        goal = f"target < {target} {unit}" if target is not None else f"target >= {least} {unit}" if least is not None else ""
        print(f"{name:<58} {value:>9.2f} {unit:<4} {goal:<20} {'' if not goal else 'ok' if met else 'MISSED'}", flush=True)
        self.missed += not met


class Beat:
    """The program on a server, with its files in a folder."""

    def __init__(self, program, server, folder):
        self.program, self.server, self.folder = program, server, folder
        self.log = folder / "beat.log"

    def write(self, count, every):
        lines = (f"[beat_schedule.e{n}]\ntask = 'proj.tick'\nschedule = {every}\nargs = [{n}]\noptions = {{ queue = 'ticks' }}\n"
                 for n in range(count))
        (self.folder / "schedule.toml").write_text("".join(lines))

    def run(self, *options):
        self.log.write_text("")
        command = [self.program, "-b", self.server.url, "beat", "-l", "INFO", "-f", self.log, "--entries", "schedule.toml", *options]
        return Processes([[str(part) for part in command]], {}, self.folder)

    def sends(self):
        return "this beat sends" in self.log.read_text()

    def lost_lock(self):
        return self.log.read_text().count(" is lost: ")


def start(beat, figures, _):
    """A hundred thousand configured entries, new ones and stored ones."""
    beat.write(ENTRIES, 86_400)
    for what in ("new", "stored"):
        with beat.run() as process:
            wait_until(600, beat.sends)
            figures.add(f"start with {ENTRIES:,} {what} entries", time.monotonic() - process.started, "s", 3)
            time.sleep(2)
            pid = process.pids()[-1]
            figures.add("  memory (PSS)", process.pss_mib(), "MiB", 60)
            figures.add("  memory at most (RSS)", status_kib(pid, "VmHWM:") / 1024, "MiB")
            before, began = process.cpu_seconds(), time.monotonic()
            time.sleep(5)
            figures.add("  processor while nothing is due", percent(process, before, began), "%")


def overdue(beat, figures, _):
    """All entries of a schedule are overdue when beat comes back."""
    every = 20
    beat.write(OVERDUE, every)
    with beat.run():
        wait_until(600, beat.sends)
        written = time.monotonic()
    time.sleep(max(0, written + every + 1 - time.monotonic()))
    beat.server.client.delete("ticks")
    with beat.run() as process:
        wait_until(600, lambda: beat.server.client.llen("ticks"))
        first = time.monotonic()
        wait_until(600, lambda: beat.server.client.llen("ticks") >= OVERDUE)
        last = time.monotonic()
        figures.add(f"{OVERDUE:,} overdue entries, from the first message to the last", last - first, "s", 2)
        figures.add("  from the start of the process", last - process.started, "s")
        figures.add("  times that the lock was lost", beat.lost_lock(), "", 1)


def steady(beat, figures, seconds):
    """A hundred of a hundred thousand entries are due each second; the schedule is in Redis."""
    beat.write(ENTRIES, ROUND)
    due = due_times(seconds)
    pipe = beat.server.client.pipeline(transaction=False)
    for number, time_due in enumerate(due):
        pipe.hset(f"redbeat:e{number}", "meta", json.dumps({"last_run_at": redbeat_time(time_due - ROUND)}))
    pipe.execute()
    with beat.run() as process:
        load(beat, process, due, figures, seconds, "Redis", processor=3, lateness=20)
        figures.add("  times that the lock was lost", beat.lost_lock(), "", 1)


def file(beat, figures, seconds):
    """The same, with the schedule in a file."""
    beat.write(ENTRIES, ROUND)
    due = due_times(seconds)
    stamp = lambda at: datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat()
    entries = {f"e{n}": {"last_run_at": stamp(at - ROUND), "total_run_count": 0} for n, at in enumerate(due)}
    (beat.folder / "state.json").write_text(json.dumps({"entries": entries}))
    with beat.run("-S", "celery.beat:PersistentScheduler", "-s", "state.json") as process:
        load(beat, process, due, figures, seconds, "a file")


def due_times(seconds):
    """When each entry is due: one every hundredth of a second, from when beat has started."""
    first = time.time() + 15
    return [first + number / PER_SECOND for number in range(ENTRIES)]


def load(beat, process, due, figures, seconds, place, processor=None, lateness=None):
    wait_until(600, beat.sends)
    late, ids, client = [], set(), beat.server.client
    if time.time() > due[0]:
        print("beat took longer to start than it was given; runs of that time are late", file=sys.stderr)
    # What is overdue since the start does not count.
    began = max(due[0], time.time()) + 2
    time.sleep(max(0, began - time.time()))
    before, clock = process.cpu_seconds(), time.monotonic()
    client.delete("ticks")
    began = time.time()
    while time.time() < began + seconds:
        popped = client.brpop("ticks", 1)
        now = time.time()
        if popped:
            headers = json.loads(popped[1])["headers"]
            late.append(now - due[int(headers["argsrepr"].strip("(,)"))])
            ids.add(headers["id"])
    cpu = percent(process, before, clock)
    late.sort()
    figures.add(f"{PER_SECOND} of {ENTRIES:,} entries due a second, in {place}: sent", len(late) / seconds, "/s", least=PER_SECOND * 0.98)
    figures.add("  processor", cpu, "%", processor)
    figures.add("  lateness, median", late[len(late) // 2] * 1000, "ms")
    figures.add("  lateness, 99th percentile", late[len(late) * 99 // 100] * 1000, "ms", lateness)
    figures.add("  lateness, most", late[-1] * 1000, "ms")
    figures.add("  sent twice", len(late) - len(ids), "", 1)


def percent(process, cpu_before, clock_before):
    return (process.cpu_seconds() - cpu_before) / (time.monotonic() - clock_before) * 100


def redbeat_time(timestamp):
    time_due = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    parts = {part: getattr(time_due, part) for part in ("year", "month", "day", "hour", "minute", "second", "microsecond")}
    return {"__type__": "datetime", **parts, "timezone": "UTC"}


if __name__ == "__main__":
    main()
