"""The workers that are measured side by side.

Each is started with the settings that its users start with, except "tuned", which has what makes Celery fastest on small
tasks without changing what it promises.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from processes import Processes

HERE = Path(__file__).resolve().parent
OURS = "celeriac"


@dataclass
class Sizes:
    """How much of each measure a worker gets, so that each runs for some seconds."""

    drain: int
    round_trips: int
    rate: int
    sleeps: int
    memory: int


class Celeriac:
    name = OURS
    stores_results = True
    sizes = Sizes(drain=100_000, round_trips=2_000, rate=5_000, sleeps=2_000, memory=200_000)

    def __init__(self, path):
        self.path = path

    def start(self, server, results=True, options=()):
        env = {"BENCH_BROKER_URL": server.url, "BENCH_BACKEND_URL": server.result_url if results else "disabled://", "BENCH_QUEUE": "celery"}
        return Processes([[self.path, *options]], env, HERE)


class Celery:
    stores_results = True

    def __init__(self, name, pool, concurrency, sizes, processes=1, tuned=False):
        self.name = name
        self.sizes = sizes
        self.processes = processes
        self.options = ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "CRITICAL"]
        self.env = {}
        if tuned:
            self.options += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier", "256"]
            self.env["BENCH_TUNED"] = "1"

    def start(self, server, results=True, options=()):
        command = [sys.executable, "-m", "celery", "-A", "bench_app", "worker", *self.options, *options]
        commands = [[*command, "--hostname", f"{number}@bench"] for number in range(self.processes)]
        env = {**self.env, "BENCH_BROKER_URL": server.url, "BENCH_BACKEND_URL": server.result_url if results else ""}
        return Processes(commands, env, HERE)


class RustyCelery:
    """A worker made with the crate `celery`; it stores no results."""

    name = "rusty-celery 0.5.5"
    stores_results = False
    sizes = Sizes(drain=10_000, round_trips=0, rate=0, sleeps=0, memory=20_000)

    def __init__(self, path):
        self.path = path

    def start(self, server, results=False, options=()):
        env = {"BENCH_BROKER_URL": server.url, "BENCH_QUEUE": "celery"}
        return Processes([[self.path]], env, HERE)


class Bare:
    """Moves messages through kombu's keys and runs nothing: the upper bound, in one of the designs of docs/adr/0002."""

    stores_results = True
    sizes = Sizes(drain=100_000, round_trips=0, rate=0, sleeps=0, memory=0)

    def __init__(self, name, path, design):
        self.name = name
        self.path = path
        self.design = design

    def start(self, server, results=True, options=()):
        command = [self.path, "drain", "--design", self.design, *(["--results"] if results else [])]
        return Processes([command], {"BENCH_BROKER_URL": server.url}, HERE)


def celery_workers():
    return [
        Celery("prefork -c 2", "prefork", 2, Sizes(3_000, 300, 500, 40, 20_000)),
        Celery("solo", "solo", 1, Sizes(3_000, 300, 500, 20, 20_000)),
        Celery("tuned solo x 2", "solo", 1, Sizes(5_000, 300, 500, 40, 20_000), processes=2, tuned=True),
        Celery("threads -c 20", "threads", 20, Sizes(3_000, 300, 500, 400, 20_000)),
        Celery("gevent -c 200", "gevent", 200, Sizes(3_000, 300, 500, 2_000, 20_000)),
    ]
