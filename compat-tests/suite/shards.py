"""Groups of cases that run side by side, each with its own Redis and worker."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time

# Ends a child with its parent, however that ends.
TIED = ["setpriv", "--pdeathsig", "KILL", "--"]
UNKNOWN_SECONDS = 3
# For cases that set no limit themselves.
LONGEST_CASE_SECONDS = 180
# Then a case hangs in a way that its limit does not end; longer than any limit.
LONGEST_SILENCE_SECONDS = 330


def split(cases, weights, count):
    """The cases in groups of about the same duration, each in the order of the suite."""
    groups = [[] for _ in range(min(count, len(cases)))]
    loads = [0.0] * len(groups)
    for case in sorted(cases, key=lambda case: -weights.get(case, UNKNOWN_SECONDS)):
        lightest = loads.index(min(loads))
        groups[lightest].append(case)
        loads[lightest] += weights.get(case, UNKNOWN_SECONDS) + 0.1
    position = {case: index for index, case in enumerate(cases)}
    return [sorted(group, key=position.get) for group in groups]


class Shard:
    """A private Redis and a pytest, which starts the worker; started again when a case hangs or ends it."""

    def __init__(self, place, cases, worker, python, suite, plugins, backend_database):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.place, self.cases, self.suite, self.python = place, cases, suite, python
        self.lost = []
        self.log = place / "results.jsonl"
        self.log.touch()
        port = free_port()
        self.redis = start_redis(port, place)
        self.environment = {
            **os.environ,
            "TEST_BROKER": f"redis://127.0.0.1:{port}/0",
            "TEST_BACKEND": f"redis://127.0.0.1:{port}/{backend_database}",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(port),
            "PYTHONPATH": f"{plugins}:{suite}",
            "PATH": f"{os.path.dirname(python)}:{os.environ['PATH']}",
            "C_FORCE_ROOT": "1",
            "SUITE_WORKER": json.dumps([*TIED, *worker]),
            "SUITE_WORKER_LOG": str(place / "worker.log"),
            "SUITE_RESULTS": str(self.log),
            "SUITE_EVIDENCE": str(place / "evidence.log"),
        }
        self.pytest = self.start(cases)

    def start(self, cases):
        self.started = time.time()
        (self.place / "cases").write_text("\n".join(cases) + "\n")
        plugins = ["-p", "outside_worker", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider"]
        flags = [*plugins, "--color=no", f"--timeout={LONGEST_CASE_SECONDS}", f"@{self.place / 'cases'}"]
        return subprocess.Popen(
            [*TIED, str(self.python), "-m", "pytest", *flags],
            cwd=self.suite,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=open(self.place / "pytest.log", "ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_running(self):
        if self.pytest.poll() is None:
            if time.time() - max(self.started, self.log.stat().st_mtime) < LONGEST_SILENCE_SECONDS:
                return True
            self.stop_pytest()
        # The first case without a result is the one that hung or ended the process.
        left = [case for case in self.cases if case not in self.recorded() and case not in self.lost]
        if left:
            self.lost.append(left[0])
            if left[1:]:
                self.pytest = self.start(left[1:])
                return True
        return False

    def recorded(self):
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return {line.pop("case"): line for line in lines}

    def done(self):
        return len(self.recorded()) + len(self.lost)

    def results(self):
        """What became of each case; `lost` when it hung, or the test process ended with it."""
        lost = {"outcome": "lost", "seconds": 0, "reason": f"the test process hung or ended; log: {self.place}"}
        return {**{case: lost for case in self.cases}, **self.recorded()}

    def stop(self):
        self.stop_pytest()
        self.redis.kill()
        self.redis.wait()

    def stop_pytest(self):
        if self.pytest.poll() is None:
            os.killpg(self.pytest.pid, signal.SIGKILL)
        self.pytest.wait()


def start_redis(port, place):
    """A redis-server that answers."""
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place)]
    log = open(place / "redis.log", "wb")
    server = subprocess.Popen([*TIED, "redis-server", *arguments], stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return server
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise SystemExit(f"redis-server does not start; its log: {place / 'redis.log'}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
