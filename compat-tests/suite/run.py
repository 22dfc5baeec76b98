#!/usr/bin/env python3
"""Runs Celery's own integration suite against a worker outside of the test process, in shards side by side.

  run.py                          ours: target/debug/conformance-worker; compares with the control group's result
  run.py --control                Celery's own worker, the control group; writes control-VERSION.json

Cases that the control group does not pass cannot be held against us and are left out, unless --all is given. Exit
status 0 when each case that the control group passes is passed or stands in allowed.toml, and nothing there is passed.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from shards import Shard, split
from sources import python_with, suite_of, undocumented_here

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODULES = ["tasks", "canvas", "inspect", "group_chains", "redis_backend", "worker", "serialization"]
MODULES += ["connection_recovery"]
GOOD = {"passed", "skipped", "xfailed"}
# Celery skips them itself as broken since 5.5; before, they hang for half an hour.
BROKEN = ("test_multiprocess_producer", "test_multithread_producer")


def main():
    options = arguments()
    folder = TARGET / "suite"
    suite = suite_of(options.celery, folder)
    if unknown := undocumented_here(suite):
        sys.exit(f"Celery {options.celery} documents settings that celeriac does not know: {', '.join(unknown)}")
    python = python_with(options.celery, folder)
    control = load_control(options.celery)
    cases = select(collect(python, suite, options.modules), control, options)
    worker = control_worker(python) if options.control else our_worker(options)
    started = time.monotonic()
    results = run(cases, control, worker, python, suite, folder, options)
    wall = time.monotonic() - started

    name = "Celery's worker" if options.control else "ours"
    print(f"\n{name}, Celery {options.celery}: {counts(results)} in {wall:.0f} s")
    if options.control:
        if cases_are_all(options):
            save_control(options.celery, results)
        report(results, lambda result: result["outcome"] not in GOOD)
        return 0
    report_reruns(results)
    return compare(results, control, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", default=TARGET / "debug/conformance-worker", help="the worker to test")
    parser.add_argument("--worker-arguments", default="", help="more arguments for it")
    parser.add_argument("--control", action="store_true", help="test Celery's own worker instead")
    parser.add_argument("--celery", default="5.7.0", metavar="VERSION", help="version of Celery and of its suite")
    parser.add_argument("--shards", type=int, default=8, help="how many groups of cases run side by side")
    parser.add_argument("--modules", nargs="*", default=MODULES, help="modules of t/integration, without `test_`")
    parser.add_argument("-k", dest="keyword", default="", help="only cases whose name contains this")
    parser.add_argument("--all", action="store_true", help="also the cases that the control group does not pass")
    parser.add_argument("--backend-database", type=int, default=0, help="Redis database of results; the broker's is 0")
    return parser.parse_args()


def cases_are_all(options):
    return options.modules == MODULES and not options.keyword


def collect(python, suite, modules):
    """The names of all cases, in the order of the suite; older suites lack some of the modules."""
    paths = [path for module in modules if (suite / (path := f"t/integration/test_{module}.py")).exists()]
    plugins = ["-p", "celery.contrib.pytest", "-p", "no:cacheprovider"]
    command = [python, "-m", "pytest", "--collect-only", "-q", *plugins, *paths]
    finished = subprocess.run(command, cwd=suite, capture_output=True, text=True)
    cases = [line for line in finished.stdout.splitlines() if "::" in line]
    if finished.returncode or not cases:
        sys.exit(f"the suite cannot be collected:\n{finished.stdout}{finished.stderr}")
    return cases


def select(cases, control, options):
    cases = [case for case in cases if options.keyword in case and not case.endswith(BROKEN)]
    if options.control or options.all or not control:
        return cases
    return [case for case in cases if control.get(case, {}).get("outcome") == "passed"]


def our_worker(options):
    worker = Path(options.worker).resolve()
    if not worker.exists():
        sys.exit(f"{worker} is missing\nhint: cargo build --package compat-workers --bin conformance-worker")
    return [str(worker), *shlex.split(options.worker_arguments)]


def control_worker(python):
    celery = str(Path(python).with_name("celery"))
    flags = ["-c", "1", "-P", "prefork", "-l", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [celery, "-A", "control_app", "worker", *flags]


def run(cases, control, worker, python, suite, folder, options):
    """Runs the cases in shards; returns what became of each case."""
    weights = {case: known["seconds"] for case, known in control.items()}
    database = options.backend_database
    place = folder / f"{'control' if options.control else 'ours'}-{options.celery}-{database}"
    shards = []
    try:
        for number, part in enumerate(split(cases, weights, options.shards)):
            shards.append(Shard(place / str(number), part, worker, python, suite, HERE, database))
        print(f"{len(cases)} cases in {len(shards)} shards, logs in {place}", flush=True)
        results = {}
        while any([shard.is_running() for shard in shards]):
            time.sleep(0.5)
            done = sum(shard.done() for shard in shards)
            if sys.stderr.isatty():
                print(f"\r{done}/{len(cases)} ", end="", file=sys.stderr, flush=True)
        for shard in shards:
            results.update(shard.results())
    finally:
        for shard in shards:
            shard.stop()
    return {case: results[case] for case in cases}


def load_control(version):
    path = HERE / f"control-{version}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save_control(version, results):
    path = HERE / f"control-{version}.json"
    lines = (f"  {json.dumps(case)}: {json.dumps(result)}" for case, result in results.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def compare(results, control, options):
    """Prints every difference from the control group; the exit status."""
    allowed = tomllib.loads((HERE / "allowed.toml").read_text())
    known = {case: control.get(case, {}).get("outcome", "not run") for case in results}
    group = {case: control[case] for case in results if case in control}
    print(f"Celery's worker, same cases: {counts(group)}\n")
    bad = lambda case: results[case]["outcome"] not in GOOD
    rows, failures = [], 0
    for case, result in results.items():
        reason = next((entry["reason"] for entry in allowed.get("case", []) if entry["name"] == short(case)), None)
        if bad(case) and known[case] == "passed" and reason:
            rows.append((short(case), "passed", result["outcome"], f"allowed: {reason}"))
        elif bad(case) and known[case] == "passed":
            failures += 1
            rows.append((short(case), "passed", result["outcome"], result["reason"]))
        elif not bad(case) and reason:
            failures += 1
            rows.append((short(case), known[case], result["outcome"], "passes: take it out of allowed.toml"))
        elif known[case] != result["outcome"]:
            rows.append((short(case), known[case], result["outcome"], result["reason"]))
    table(("case", "Celery's", "ours", "why"), rows)
    print(f"{len(rows)} differences, {failures} of them not allowed")
    good = sum(not bad(case) for case in results)
    print(f"{good} passed, {failures} failed, {len(results) - good - failures} skipped")
    return 1 if failures else 0


def report_reruns(results):
    """Names the cases that were run again, with what Celery races in and what came of it."""
    races = {entry["name"]: entry["reason"] for entry in tomllib.loads((HERE / "racing.toml").read_text()).get("case", [])}
    again = {case: result for case, result in results.items() if result.get("reruns")}
    rows = []
    for case, result in again.items():
        why = f"{races.get(short(case), '')}; seen: {result['reruns'][-1]}"
        rows.append((short(case), f"{len(result['reruns'])} time(s)", result["outcome"], why))
    table(("run again", "how often", "in the end", "why"), rows)
    print(f"{len(again)} case(s) run again, of {len(races)} that race in Celery itself")


def report(results, wanted):
    rows = [(short(case), found["outcome"], found["reason"]) for case, found in results.items() if wanted(found)]
    table(("case", "outcome", "why"), rows)


def table(head, rows):
    if not rows:
        return
    rows = [head, *(tuple(cell.replace("\n", " ") for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1][:160]]))
    print()


def short(case):
    return case.removeprefix("t/integration/")


def counts(results):
    outcomes = [result["outcome"] for result in results.values()]
    kinds = ["passed", "failed", "lost", "skipped", "xfailed"]
    return ", ".join(f"{outcomes.count(kind)} {kind}" for kind in kinds if kind in outcomes)


if __name__ == "__main__":
    sys.exit(main())
