"""A private Redis server, and task messages in it."""

import base64
import contextlib
import json
import socket
import statistics
import subprocess
import time

import redis

ID = "@ID@"
# One script call puts that many messages, or bytes, into the queue: the server is not kept from others for long.
CHUNK = 5_000
CHUNK_BYTES = 20_000_000
# Fills a queue without carrying each message over the wire: they differ in what stands between the pieces of a template.
FILL = """
local pieces = {unpack(ARGV, 3)}
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
    local id = string.format('00000000-0000-4000-8000-%012d', number)
    redis.call('LPUSH', KEYS[1], table.concat(pieces, id))
end"""


def task_id(number):
    return f"00000000-0000-4000-8000-{number:012d}"


class Server:
    """A private server without persistence; ends with its block."""

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, socket_timeout=60)
        self.keep_results_in(0)
        self.fill = self.client.register_script(FILL)
        self.pushed = 0
        wait_until(10, self.answers)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def answers(self):
        with contextlib.suppress(redis.RedisError):
            return self.client.ping()
        return False

    def keep_results_in(self, database):
        """Lets workers that start from now on keep results in that database."""
        self.result_url = f"redis://127.0.0.1:{self.port}/{database}"
        self.result_client = redis.Redis(port=self.port, db=database, socket_timeout=60)

    def ping_ms(self, count=2_000):
        """The median time of a PING over a plain socket: what an exchange between two processes costs here."""
        times = []
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            for _ in range(count):
                begin = time.perf_counter()
                plain.sendall(b"PING\r\n")
                plain.recv(7)
                times.append(time.perf_counter() - begin)
        return statistics.median(times) * 1000

    def push(self, task, count, args=(), queue="celery"):
        """Adds messages to a queue; their ids are numbers that go on from call to call."""
        template = message(task, args)
        end, chunk = self.pushed + count, min(CHUNK, CHUNK_BYTES // len(template))
        for first in range(self.pushed, end, chunk):
            self.fill(keys=[queue], args=[first, min(first + chunk, end), *template.split(ID)])
        self.pushed = end

    def cpu_seconds(self):
        """User and system time of the server so far."""
        info = self.client.info("cpu")
        return info["used_cpu_user"] + info["used_cpu_sys"]

    def waiting(self):
        return self.client.llen("celery")

    def has_result(self, number):
        return self.result_client.exists(f"celery-task-meta-{task_id(number)}")

    def results(self):
        """How many results are stored, give or take the few keys that workers keep for themselves."""
        return self.result_client.dbsize()

    def is_drained(self):
        """Whether nothing waits, and nothing is held by a worker of Celery, rusty-celery or celeriac.

        Asked all the time: `KEYS` over the results would take the server's time from the worker.
        """
        pipe = self.client.pipeline(transaction=False)
        pipe.llen("celery")
        pipe.hlen("unacked")
        pipe.hlen("_celery.celery_process_map")
        pipe.zrange("celeriac.inflight", 0, -1)
        *held, workers = pipe.execute()
        if any(held):
            return False
        lists = [f"celeriac.inflight.{worker.decode()}.{slot}" for worker in workers for slot in range(16)]
        return not lists or self.client.exists(*lists) == 0


def message(task, args=()):
    """A task message as Celery's client writes it, with a mark where its id is to stand."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers = {
        "lang": "py", "task": task, "id": ID, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": ID, "parent_id": None,
        "argsrepr": repr(tuple(args))[:1024], "kwargsrepr": "{}", "origin": "gen1@bench", "ignore_result": False,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }
    properties = {
        "correlation_id": ID, "reply_to": "7d3e0dd2-3c1c-3a3c-8f4e-2f7b5b1d1c55", "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "body_encoding": "base64",
        "delivery_tag": ID,
    }
    body = base64.b64encode(json.dumps([list(args), {}, embed]).encode()).decode()
    envelope = {"body": body, "content-encoding": "utf-8", "content-type": "application/json"}
    return json.dumps({**envelope, "headers": headers, "properties": properties})


def wait_until(seconds, condition, pause=0.005):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up after {seconds} s")
        time.sleep(pause)
