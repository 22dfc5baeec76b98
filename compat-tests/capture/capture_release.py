"""Records the keys that a release of celeriac leaves in Redis when its workers are killed, into ../vectors/releases/VERSION.

    python capture_release.py FAULTS-WORKER VERSION

FAULTS-WORKER is a debug build (it has the fail points) of that release's `faults-worker`. Needs redis-server, and Celery.
"""
import json, os, pathlib, signal, socket, subprocess, sys, tempfile, time

socket.gethostname = lambda: "host"

import redis
from celery import Celery, chain, chord, group

BINARY, VERSION = sys.argv[1:]
OUT = pathlib.Path(__file__).parent.parent / "vectors" / "releases" / VERSION


class Redis:
    def __init__(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", self.folder.name]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port, decode_responses=True)
        wait(lambda: answers(self.client))

    def url(self, database=0):
        return f"redis://127.0.0.1:{self.port}/{database}"

    def stop(self):
        self.process.kill()
        self.process.wait()


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def wait(condition):
    end = time.time() + 60
    while not condition():
        if time.time() > end:
            raise TimeoutError(condition)
        time.sleep(0.02)


def worker(server, record, results=0, **environment):
    settings = {"BROKER_URL": server.url(), "RESULT_BACKEND": server.url(results), "BROKER_TRANSPORT_OPTIONS": '{"visibility_timeout": 5}'}
    settings = {f"CELERY_{name}": value for name, value in settings.items()}
    command = [BINARY, "-n", "victim@host", "-c", "4", "-l", "info", "--without-mingle", "--without-gossip"]
    environment = {**os.environ, **settings, "FAULTS_RECORD_URL": record.url(), **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def client(server, results=0):
    app = Celery("capture", broker=server.url(), backend=server.url(results), set_as_current=False)
    app.conf.result_expires = None
    return app


def keys(server, database):
    client = redis.Redis(port=server.port, db=database, decode_responses=True)
    read = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "hash": client.hgetall,
        "set": lambda key: sorted(client.smembers(key)),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    found = {}
    for key in sorted(client.keys("*")):
        kind = client.type(key)
        found[key] = {"type": kind, "ttl": client.ttl(key), "value": read[kind](key)}
    return found


def ran(record):
    return {name: sorted(int(number) for number in record.client.lrange(name, 0, -1)) for name in ("done", "steps", "sums")}


def save(name, note, server, record, results=0, **more):
    databases = {str(database): keys(server, database) for database in sorted({0, results})}
    sample = {"note": note, "version": VERSION, "time": int(time.time()), "results": results, "ran": ran(record), **more, "databases": databases}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(sample, indent=1, ensure_ascii=False) + "\n")
    print(name, {database: len(found) for database, found in databases.items()})


def late(app, number, seconds=0.05, **options):
    return app.signature("faults.late", (number, seconds), **options)


def scenario(name, note, send, expected, end, results=0, **environment):
    """Sends tasks, lets a worker begin with them, and kills it when `end` says so, or at its fail point."""
    server, record = Redis(), Redis()
    try:
        more = send(client(server, results)) or {}
        victim = worker(server, record, results, **environment)
        if end is not None:
            wait(lambda: end(server.client, record.client))
            victim.kill()
        victim.wait(60)
        save(name, note, server, record, results, expected=expected, **more)
    finally:
        server.stop()
        record.stop()


def tasks(count, seconds=0.05):
    return lambda app: group(late(app, number, seconds) for number in range(count)).apply_async() and None


numbers = lambda count: {"done": list(range(count))}
scenario("in_flight", "killed with messages between queue and unacked (fetch.moved)", tasks(10), numbers(10), None,
         CELERIAC_FAILPOINTS="fetch.moved=kill")
scenario("unacked", "killed while late-acked tasks run", tasks(8, 1.0), numbers(8),
         lambda server, record: server.hlen("unacked") >= 8 and record.llen("started") >= 4)
scenario("parked", "killed with etas put aside at the broker",
         lambda app: [late(app, number, countdown=10).apply_async() for number in range(6)] and None, numbers(6),
         lambda server, record: server.zcard("celeriac.eta.celery") >= 5, CELERY_CELERIAC_MAX_SCHEDULED="1")
for name, point, database in [("chord_claimed", "chord.claimed", 0), ("chord_joined_two_databases", "chord.joined", 1),
                              ("chord_sent_two_databases", "chord.sent", 1)]:
    scenario(name, f"killed at {point} of a chord", lambda app: chord([late(app, number) for number in (1, 2, 3)], app.signature("faults.sum")).apply_async() and None,
             {"done": [1, 2, 3], "sums": [6]}, None, database, CELERIAC_FAILPOINTS=f"{point}=kill")
scenario("chain", "killed in the middle of chains",
         lambda app: [chain(app.signature("faults.step", (number,)), app.signature("faults.step"), app.signature("faults.step")).apply_async() for number in (100, 200)] and None,
         {"steps": [100, 101, 102, 200, 201, 202]}, None, CELERIAC_FAILPOINTS="run.before@3=kill")



server, record = Redis(), Redis()
app = client(server)
app.send_task("faults.late", (1, 3.0))
for _ in range(2):
    # The second start of a message is counted (celeriac.deliveries.*).
    victim = worker(server, record)
    started = record.client.llen("started")
    wait(lambda: record.client.llen("started") > started and server.client.hlen("unacked") == 1)
    time.sleep(0.2)
    victim.kill()
    victim.wait()
save("redelivered", "killed a second time with the same task", server, record, expected={"done": [1]})
server.stop(), record.stop()

server, record = Redis(), Redis()
app = client(server)
victim = worker(server, record, CELERY_CELERIAC_DEAD_LETTER_REJECTED="true")
app.send_task("faults.reject", (1,))
app.send_task("faults.unknown", (1,))
wait(lambda: server.client.llen("celeriac.dead") == 2)
app.send_task("faults.late", (7, 0.0), task_id="revoked-by-the-previous-release", countdown=10)
wait(lambda: server.client.hlen("unacked") == 1)
app.control.revoke("revoked-by-the-previous-release")
wait(lambda: server.client.zcard("celeriac.revoked") == 1)
victim.kill()
victim.wait()
save("dead_letters_and_revocations", "killed after it gave two messages up and heard of a revocation", server, record,
     expected={}, dead=["faults.reject", "faults.unknown"], revoked=["revoked-by-the-previous-release"])
server.stop(), record.stop()
