"""Measures workers side by side, in one run on one private Redis each, and prints ratios.

Every figure is the median of the repetitions, with minimum and maximum. A throughput clock starts at the first finished
task and stops when nothing is left in the queue, in `unacked` or in flight. Memory is PSS over the process tree.
"""

import argparse
import base64
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main():
    arguments = read_arguments()
    contenders = {
        "celeriac": Celeriac(arguments.worker),
        "celery prefork -c 2": Celery("prefork", 2),
        "celery solo": Celery("solo", 1),
        "celery threads -c 20": Celery("threads", 20),
    }
    measures = [Drain(results=False), Drain(results=True), RoundTrip(), Sleep(), Start(), Memory()]
    report = {"machine": describe_machine(), "repetitions": arguments.repetitions, "measures": {}}
    for measure in measures:
        rows = {}
        for _ in range(arguments.repetitions):
            for name, contender in contenders.items():
                with Redis() as server:
                    rows.setdefault(name, []).append(measure.run(contender, server))
        report["measures"][measure.name] = {"unit": measure.unit, "rows": rows}
        show(measure, rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.svg:
        arguments.svg.write_text(chart(report))


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", required=True, help="the release build of bench-worker")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    return parser.parse_args()


def describe_machine():
    versions = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "redis": next(word[2:] for word in versions if word.startswith("v=")),
    }


class Redis:
    """A private server without persistence."""

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        wait_until(10, self.answers)
        return self

    def answers(self):
        with contextlib.suppress(redis.RedisError):
            return self.client.ping()
        return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def is_drained(self):
        pipe = self.client.pipeline(transaction=False)
        pipe.llen("celery")
        pipe.hlen("unacked")
        waiting, held = pipe.execute()
        return waiting == 0 and held == 0 and not self.client.keys("celeriac.inflight.*.[0-9]*")

    def push(self, task, count, args=()):
        pipe = self.client.pipeline(transaction=False)
        for number in range(count):
            pipe.lpush("celery", message(task, args))
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()


def message(task, args):
    """A task message as Celery's client writes it."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    task_id = str(uuid.uuid4())
    headers = {
        "lang": "py", "task": task, "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": task_id, "parent_id": None,
        "argsrepr": repr(tuple(args)), "kwargsrepr": "{}", "origin": "gen1@bench", "ignore_result": False,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }
    properties = {
        "correlation_id": task_id, "reply_to": str(uuid.uuid4()), "delivery_mode": 2, "priority": 0,
        "delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    body = base64.b64encode(json.dumps([list(args), {}, embed]).encode()).decode()
    envelope = {"body": body, "content-encoding": "utf-8", "content-type": "application/json"}
    return json.dumps({**envelope, "headers": headers, "properties": properties})


class Worker:
    """A running worker of some kind; ends with its block."""

    def __init__(self, command, env):
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            env={**os.environ, **env}, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def pss_kib(self):
        return sum(pss_kib(pid) for pid in process_tree(self.process.pid))


class Celeriac:
    scale = 100_000

    def __init__(self, path):
        self.path = path

    def start(self, server, results=True):
        env = {"BENCH_BROKER_URL": server.url, "BENCH_QUEUE": "celery"}
        if results:
            env["BENCH_BACKEND_URL"] = server.url
        return Worker([self.path], env)


class Celery:
    scale = 3_000

    def __init__(self, pool, concurrency):
        self.options = ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "CRITICAL"]

    def start(self, server, results=True):
        env = {"BENCH_BROKER_URL": server.url, "BENCH_BACKEND_URL": server.url if results else ""}
        return Worker([sys.executable, "-m", "celery", "-A", "bench_app", "worker", *self.options], env)


class Drain:
    unit = "tasks/s"
    better = "more"

    def __init__(self, results):
        self.results = results
        self.name = "drain of no-op tasks, with results" if results else "drain of no-op tasks"

    def run(self, contender, server):
        count = contender.scale
        server.push("bench.noop", count)
        with contender.start(server, self.results):
            wait_until(60, lambda: server.client.llen("celery") < count)
            began, left = time.monotonic(), server.client.llen("celery")
            wait_until(120, server.is_drained)
            return left / (time.monotonic() - began)


class RoundTrip:
    name = "round trip of add, median of 200"
    unit = "ms"
    better = "less"

    def run(self, contender, server):
        from celery import Celery as App

        app = App("client", broker=server.url, backend=server.url)
        with contender.start(server):
            app.send_task("bench.add", (1, 1)).get(timeout=60)
            times = []
            for number in range(200):
                began = time.perf_counter()
                assert app.send_task("bench.add", (number, 1)).get(timeout=10) == number + 1
                times.append((time.perf_counter() - began) * 1e3)
            return statistics.median(times)


class Sleep:
    name = "100 x sleep(0.1)"
    unit = "s"
    better = "less"

    def run(self, contender, server):
        with contender.start(server) as worker:
            ready(worker, server)
            began = time.monotonic()
            server.push("bench.sleep", 100, [0.1])
            wait_until(60, lambda: len(server.client.keys("celery-task-meta-*")) >= 101)
            return time.monotonic() - began


class Start:
    name = "start of the process to the first result"
    unit = "ms"
    better = "less"

    def run(self, contender, server):
        server.push("bench.noop", 1)
        with contender.start(server) as worker:
            wait_until(60, lambda: server.client.keys("celery-task-meta-*"), pause=0.002)
            return (time.monotonic() - worker.started) * 1e3


class Memory:
    name = "memory when idle"
    unit = "MiB"
    better = "less"

    def run(self, contender, server):
        with contender.start(server) as worker:
            ready(worker, server)
            return worker.pss_kib() / 1024


def ready(worker, server):
    server.push("bench.noop", 1)
    wait_until(60, lambda: server.client.keys("celery-task-meta-*"))


def wait_until(seconds, condition, pause=0.01):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up after {seconds} s")
        time.sleep(pause)


def process_tree(pid):
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def pss_kib(pid):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def show(measure, rows):
    print(f"\n{measure.name} ({measure.unit})")
    ours = statistics.median(rows["celeriac"])
    for name, values in rows.items():
        median = statistics.median(values)
        ratio = ours / median if measure.better == "more" else median / ours
        spread = f"{min(values):,.1f} to {max(values):,.1f}"
        print(f"  {name:<22} {median:>12,.1f}   ({spread})" + ("" if name == "celeriac" else f"   celeriac is {ratio:.1f}x"))
    sys.stdout.flush()


def chart(report):
    """Horizontal bars of all medians, on a scale of its own for each measure."""
    lines, y = [], 20
    for name, measure in report["measures"].items():
        lines.append(f'<text x="10" y="{y}" font-weight="bold">{name} ({measure["unit"]})</text>')
        medians = {row: statistics.median(values) for row, values in measure["rows"].items()}
        for row, median in medians.items():
            y += 20
            width = 400 * median / max(medians.values())
            colour = "#2a9d8f" if row == "celeriac" else "#9aa5b1"
            lines.append(f'<text x="10" y="{y + 12}">{row}</text>')
            lines.append(f'<rect x="190" y="{y}" width="{width:.1f}" height="15" fill="{colour}"/>')
            lines.append(f'<text x="{195 + width:.1f}" y="{y + 12}">{median:,.1f}</text>')
        y += 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="720" height="{y}" fill="white"/>', *lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
