"""pytest plugin: Celery's integration suite against a worker that runs outside of the test process.

The suite's session fixture starts a worker in a thread; this one starts the program in SUITE_WORKER (a JSON list) with
`-n NODENAME`. What became of each case goes to the file SUITE_RESULTS, one JSON object a line.
"""
import json
import os
import subprocess
import time
import tomllib
from pathlib import Path

import celery.contrib.pytest
import pytest
import redis
from celery.result import allow_join_result
from celery.utils.nodenames import anon_nodename

START_DEADLINE = 60
STOP_DEADLINE = 15
PASSED = ("passed", "")
# How often a case that races in Celery itself is run again.
RERUNS = 3


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks):
    """The outside worker; the tasks are registered here too, so that tests can send them."""
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    celery_session_app.finalize()
    celery_session_app.set_current()
    celery_session_app.set_default()
    command = [*json.loads(os.environ["SUITE_WORKER"]), "-n", anon_nodename()]
    with open(os.environ["SUITE_WORKER_LOG"], "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        from celery.contrib.testing.tasks import ping

        with allow_join_result():
            assert ping.delay().get(timeout=START_DEADLINE) == "pong"
        yield process
        assert process.poll() is None, f"the worker ended by itself with status {process.returncode}"
    finally:
        stop(process)


def stop(process):
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# The suite's conftest imports its fixtures from there.
celery.contrib.pytest.celery_session_worker = celery_session_worker


@pytest.fixture(scope="session", autouse=True)
def worker_runs_from_the_start(celery_session_worker):
    """Some cases use the session's worker without naming it: they must not depend on which cases ran before."""


def pytest_collection_modifyitems(items):
    """Runs again only the cases that race in Celery itself; the suite would run nearly all of them up to six times."""
    races = racing_cases()
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [marker for marker in node.own_markers if marker.name != "flaky"]
        if item.nodeid.removeprefix("t/integration/") in races:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS, reruns_delay=1))


def racing_cases():
    path = Path(__file__).with_name("racing.toml")
    return {case["name"] for case in tomllib.loads(path.read_text()).get("case", [])}


class Recorder:
    """Notes each case's outcome, and why it was run again; of a case that is run again, the last run counts."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.outcomes = {}
        self.started = {}
        self.reruns = {}

    def pytest_runtest_logstart(self, nodeid):
        self.started.setdefault(nodeid, time.monotonic())

    def pytest_runtest_logreport(self, report):
        if report.outcome == "passed" and report.when == "setup":
            self.outcomes[report.nodeid] = PASSED
        elif report.outcome in ("failed", "rerun"):
            self.outcomes[report.nodeid] = ("failed", reason(report))
            keep_evidence(report.nodeid)
            if report.outcome == "rerun":
                self.reruns.setdefault(report.nodeid, []).append(reason(report))
        elif report.outcome == "skipped" and self.outcomes.get(report.nodeid, PASSED) == PASSED:
            outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"
            self.outcomes[report.nodeid] = (outcome, reason(report))

    def pytest_runtest_logfinish(self, nodeid):
        outcome, why = self.outcomes.get(nodeid, PASSED)
        seconds = round(time.monotonic() - self.started[nodeid], 1)
        line = {"case": nodeid, "outcome": outcome, "seconds": seconds, "reason": why}
        if nodeid in self.reruns:
            line["reruns"] = self.reruns[nodeid]
        self.file.write(json.dumps(line) + "\n")


def keep_evidence(case):
    """Appends all that Redis holds at the moment of a failure to the file SUITE_EVIDENCE."""
    client = redis.Redis(os.environ["REDIS_HOST"], int(os.environ["REDIS_PORT"]))
    readers = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, 99),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, 99, withscores=True),
    }
    with open(os.environ["SUITE_EVIDENCE"], "a") as file:
        print(f"== {case}", file=file)
        for key in sorted(client.scan_iter(count=1000)):
            read = readers.get(client.type(key), lambda key: None)
            print(key, read(key), file=file)


def reason(report):
    """The error in one line."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    return next((line for line in text.splitlines() if line.strip()), "")[:300]


def pytest_configure(config):
    if path := os.environ.get("SUITE_RESULTS"):
        config.pluginmanager.register(Recorder(path), "suite-recorder")
