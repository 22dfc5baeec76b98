"""What is measured. Each measure runs one worker once and returns its figures by name.

A throughput clock starts at the first finished task, and stops when nothing waits and nothing is held any more.
"""

import json
import subprocess
import time
from dataclasses import dataclass

from contenders import OURS
from server import message, wait_until

PATIENCE = 180


@dataclass(frozen=True)
class Figure:
    """One row of the report: what it is, in which unit, and which direction is better."""

    name: str
    unit: str
    better: str = "less"


class Drain:
    """How fast a full queue of tasks that do nothing is emptied, and what a task costs worker and server."""

    def __init__(self, key, title, results, options=(), only=None, database=0):
        self.key = key
        self.results = results
        self.database = database
        self.options = options
        self.only = only
        self.rate = Figure(title, "tasks/s", "more")
        self.worker_cost = Figure(f"{title}: CPU time of the worker", "µs/task")
        self.server_cost = Figure(f"{title}: CPU time of Redis", "µs/task")
        self.figures = [self.rate, self.worker_cost, self.server_cost]

    def wants(self, contender):
        if self.only and contender.name not in self.only:
            return False
        return contender.stores_results or not self.results

    def run(self, contender, server, scale):
        count = max(1000, int(contender.sizes.drain * scale))
        server.keep_results_in(self.database)
        server.push("bench.noop", count)
        with contender.start(server, self.results, self.options) as worker:
            return drain(self, worker, server, count)


def drain(measure, worker, server, count):
    """Times a worker from its first finished task to the last."""
    begins = (lambda: server.has_result(0)) if measure.results else (lambda: server.waiting() < count)
    wait_until(60, begins, pause=0.001)
    began, left = time.monotonic(), server.waiting()
    costs = Costs(worker, server)
    wait_until(PATIENCE, lambda: server.is_drained() and (not measure.results or server.results() >= count))
    seconds = time.monotonic() - began
    by_worker, by_server = costs.per_task(left)
    return {measure.rate: left / seconds, measure.worker_cost: by_worker, measure.server_cost: by_server}


class Costs:
    """CPU time from here on."""

    def __init__(self, worker, server):
        self.worker, self.server = worker, server
        self.before = self.now()

    def now(self):
        return self.worker.cpu_seconds(), self.server.cpu_seconds()

    def per_task(self, tasks):
        """Microseconds of worker and server; nothing of a worker that has ended meanwhile."""
        worker, server = (max(0.0, after - before) * 1e6 / tasks for before, after in zip(self.before, self.now()))
        return worker or None, server


class RoundTrip:
    """The time from sending one task to having its result, with nothing else going on."""

    key = "round-trip"

    def __init__(self, client):
        self.client = client
        self.p50 = Figure("round trip of add, p50", "ms")
        self.p99 = Figure("round trip of add, p99", "ms")
        self.figures = [self.p50, self.p99]

    def wants(self, contender):
        return contender.sizes.round_trips > 0

    def run(self, contender, server, scale):
        count = max(100, int(contender.sizes.round_trips * scale))
        with contender.start(server) as worker:
            ready(worker, server)
            found = client(self.client, server, "round-trip", "bench.add", [1, 2], "--count", count)
            return {self.p50: found["p50_ms"], self.p99: found["p99_ms"]}


class Rate:
    """The time from when a task was to be sent to its result, while tasks come at a fixed rate."""

    key = "rate"

    def __init__(self, client):
        self.client = client
        self.p50 = Figure("latency at a fixed rate (celeriac 5,000/s, Celery 500/s), p50", "ms")
        self.p99 = Figure("latency at a fixed rate (celeriac 5,000/s, Celery 500/s), p99", "ms")
        self.finished = Figure("finished within 5 s of the last one sent", "%", "more")
        self.figures = [self.p50, self.p99, self.finished]

    def wants(self, contender):
        return contender.sizes.rate > 0

    def run(self, contender, server, scale):
        options = ["--rate", contender.sizes.rate, "--seconds", max(2, 5 * scale)]
        with contender.start(server) as worker:
            ready(worker, server)
            found = client(self.client, server, "rate", "bench.noop", [], *options)
            return {
                self.p50: found["p50_ms"],
                self.p99: found["p99_ms"],
                self.finished: 100 * found["finished"] / found["sent"],
            }


class Sleep:
    """How many waiting tasks a worker has at a time: 2,000 of them, or fewer and the time in proportion."""

    key = "sleep"
    time = Figure("2,000 x sleep(0.1)", "s")
    figures = [time]

    def wants(self, contender):
        return contender.sizes.sleeps > 0

    def run(self, contender, server, scale):
        count = contender.sizes.sleeps
        with contender.start(server) as worker:
            ready(worker, server)
            before = server.results()
            began = time.monotonic()
            server.push("bench.sleep", count, [0.1])
            wait_until(PATIENCE, lambda: server.results() - before >= count and server.is_drained(), pause=0.002)
            return {self.time: (time.monotonic() - began) * 2_000 / count}


class Start:
    """From the start of the process to the first result, and what it holds when it then has nothing to do."""

    key = "start"
    first = Figure("start of the process to the first result", "ms")
    idle = Figure("memory when idle, PSS", "MiB")
    figures = [first, idle]

    def wants(self, contender):
        return contender.sizes.round_trips > 0

    def run(self, contender, server, scale):
        server.push("bench.noop", 1)
        with contender.start(server) as worker:
            wait_until(60, lambda: server.has_result(0), pause=0.001)
            first = (time.monotonic() - worker.started) * 1e3
            time.sleep(1)
            return {self.first: first, self.idle: worker.pss_mib()}


class Memory:
    """What a worker holds after many tasks: 200,000, of Celery 20,000."""

    key = "memory"
    repetitions = 1
    after = Figure("memory after 200,000 tasks (Celery: 20,000), PSS", "MiB")
    figures = [after]

    def wants(self, contender):
        return contender.sizes.memory > 0

    def run(self, contender, server, scale):
        count = int(contender.sizes.memory * scale)
        server.push("bench.noop", count)
        with contender.start(server, contender.stores_results) as worker:
            wait_until(60, lambda: server.waiting() < count)
            wait_until(2 * PATIENCE, server.is_drained)
            time.sleep(1)
            return {self.after: worker.pss_mib()}


class Flat:
    """What a task costs while 1,000, 100,000 and 1,000,000 messages wait."""

    key = "flat"
    few, some, many = 1_000, 100_000, 1_000_000
    rounds = 100

    def __init__(self):
        self.worker = {size: Figure(f"{size:,} messages waiting: CPU time of the worker", "µs/task") for size in (self.few, self.some, self.many)}
        self.server = {size: Figure(f"{size:,} messages waiting: CPU time of Redis", "µs/task") for size in (self.few, self.some, self.many)}
        self.figures = [*self.worker.values(), *self.server.values()]

    def wants(self, contender):
        return contender.name == OURS

    def run(self, contender, server, scale):
        found = {}
        # Lists that take the queue's place one after the other: filling them is not part of the cost.
        for number in range(self.rounds):
            server.push("bench.noop", self.few, queue=f"waiting.{number}")
        with contender.start(server, results=False) as worker:
            wait_until(60, lambda: server.client.zcard("celeriac.inflight"))
            costs = Costs(worker, server)
            for number in range(self.rounds):
                server.client.rename(f"waiting.{number}", "celery")
                wait_until(60, server.is_drained, pause=0.001)
            found[self.worker[self.few]], found[self.server[self.few]] = costs.per_task(self.few * self.rounds)
        for size in (self.some, self.many):
            server.client.flushall()
            server.push("bench.noop", size)
            with contender.start(server, results=False) as worker:
                wait_until(60, lambda: server.waiting() < size, pause=0.001)
                costs, left = Costs(worker, server), server.waiting()
                wait_until(PATIENCE, lambda: server.waiting() <= size - 90_000, pause=0.001)
                done = left - server.waiting()
                found[self.worker[size]], found[self.server[size]] = costs.per_task(done)
        return found


class Payload:
    """Tasks with large arguments: how fast, and how much the worker holds at most."""

    def __init__(self, kilobytes, count):
        self.key = f"payload-{kilobytes}k"
        self.kilobytes, self.count = kilobytes, count
        self.rate = Figure(f"echo of {kilobytes} KB, without results", "tasks/s", "more")
        self.peak = Figure(f"echo of {kilobytes} KB: highest memory on the way, PSS", "MiB")
        self.figures = [self.rate, self.peak]

    def wants(self, contender):
        return contender.name in (OURS, "prefork -c 2")

    def run(self, contender, server, scale):
        count = self.count if contender.name == OURS else self.count // 10
        server.push("bench.echo", count, ["x" * 1024 * self.kilobytes])
        peak = 0
        with contender.start(server, results=False) as worker:
            wait_until(60, lambda: server.waiting() < count, pause=0.001)
            began, left = time.monotonic(), server.waiting()
            while not server.is_drained():
                peak = max(peak, worker.pss_mib())
                time.sleep(0.01)
            return {self.rate: left / (time.monotonic() - began), self.peak: peak}


class Neighbour:
    """What a queue that the server refuses costs the healthy one beside it: two workers drain side by side on one server, one
    of which is also to consume from a key that is no list."""

    key = "neighbour"
    ratio = Figure("rate of a healthy queue beside a refused one, of that beside a good one", "%", "more")
    figures = [ratio]

    def wants(self, contender):
        return contender.name == OURS

    def run(self, contender, server, scale):
        count = max(50_000, int(3 * contender.sizes.drain * scale))
        server.client.set("refused", "no list")
        healthy = ("beside", "alone")
        for queue in healthy:
            server.push("bench.noop", count, queue=queue)
        waiting = lambda: [server.client.llen(queue) for queue in healthy]
        beside = contender.start(server, results=False, options=["-n", "beside@bench", "-Q", "beside,refused"])
        alone = contender.start(server, results=False, options=["-n", "alone@bench", "-Q", "alone,empty"])
        with beside, alone:
            # What they fetch ahead at once is no rate.
            wait_until(60, lambda: max(waiting()) < 0.9 * count, pause=0.001)
            before = waiting()
            wait_until(PATIENCE, lambda: min(waiting()) < 0.2 * count, pause=0.001)
            done = [were - are for were, are in zip(before, waiting())]
            return {self.ratio: 100 * done[0] / done[1]}


def ready(worker, server):
    """Waits until a worker has run a first task; its number is far from all others, since no success is stored twice."""
    number = server.pushed = 10**9
    server.push("bench.noop", 1)
    wait_until(60, lambda: server.has_result(number))


def client(path, server, command, task, args, *options):
    """Runs the client, which numbers its tasks from nought, and returns what it found."""
    template = message(task, args)
    command = [path, "--broker", server.url, command, "--template", template, *map(str, options)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(run.stdout)
