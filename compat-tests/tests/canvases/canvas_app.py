"""The tasks of canvas-worker for Celery's own worker, and generated canvases for both.

  canvas_app.py compare SEED COUNT FILE   sends COUNT canvases, says so, waits until a worker is through with all of
                                          them, and writes to FILE all that it stored and published, without ids
  canvas_app.py mixed SEED COUNT          sends canvases to whichever workers there are and checks each result
"""
import json
import os
import random
import re
import sys
import threading
import time

from celery import Celery, chain, chord, group
from celery.exceptions import TimeoutError

app = Celery("canvas")
app.conf.update(
    broker_url=os.environ["CELERY_BROKER_URL"],
    result_backend=os.environ["CELERY_RESULT_BACKEND"],
    broker_connection_retry_on_startup=True,
    result_extended=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    broker_transport_options=json.loads(os.environ.get("CELERY_BROKER_TRANSPORT_OPTIONS", "{}")),
)


@app.task(name="canvas.wrap")
def wrap(before, tag):
    return [tag, before]


@app.task(name="canvas.wrap_late", acks_late=True)
def wrap_late(before, tag):
    return [tag, before]


@app.task(name="canvas.double")
def double(x):
    return 2 * x


@app.task(name="canvas.add")
def add(x, y):
    return x + y


@app.task(name="canvas.flaky", bind=True)
def flaky(self, before, tag):
    if self.request.retries == 0:
        raise self.retry(exc=KeyError(tag), countdown=0)
    return [tag, before]


@app.task(name="canvas.fail")
def fail(before, tag):
    raise ValueError(tag)


@app.task(name="canvas.swap", bind=True)
def swap(self, before, tag):
    raise self.replace(wrap.s(before, tag))


@app.task(name="canvas.swap_chain", bind=True)
def swap_chain(self, before, tag):
    raise self.replace(chain(wrap.s(before, tag), wrap.s(tag + "'")))


@app.task(name="canvas.swap_group", bind=True)
def swap_group(self, before, tag):
    raise self.replace(group(wrap.s(before, tag), wrap.s(before, tag + "'")))


@app.task(name="canvas.spawn", bind=True)
def spawn(self, before, tag):
    wrap.delay(None, tag + "*")
    return [tag, before]


@app.task(name="canvas.errback")
def errback(task_id):
    return "told"


@app.task(name="canvas.part", bind=True, acks_late=True)
def part(self, n):
    if n % 100 == 7 and self.request.retries == 0:
        raise self.retry(countdown=0)
    time.sleep(0.005)
    return n


@app.task(name="canvas.fail_part", acks_late=True)
def fail_part(n):
    if n == 13:
        raise ValueError("unlucky")
    return n


@app.task(name="canvas.collect")
def collect(parts):
    app.backend.client.rpush("bodies", len(parts))
    return parts


@app.task(name="canvas.note")
def note(task_id):
    app.backend.client.rpush("errbacks", 1)


class Made:
    """A signature, and what it makes of the value that comes before it."""

    def __init__(self, signature, value, many=False):
        self.signature, self.value = signature, value
        # Whether it ends with a group.
        self.many = many


class Generator:
    """Random canvases; the same ones for the same seed."""

    def __init__(self, seed, harmless=False):
        self.random = random.Random(seed)
        self.harmless = harmless
        self.case = 0

    def canvas(self):
        self.case += 1
        self.count = 0
        made = self.any(depth=3, first=True)
        if not self.harmless and self.random.random() < 0.15:
            made.signature.stamp(case=self.case)
        return made

    def tag(self):
        self.count += 1
        return f"{self.case}.{self.count}"

    def any(self, depth, first=False):
        kinds = ["task"] if depth == 0 else ["task", "chain", "chain", "group", "chord", "chord"]
        if first and depth == 3:
            kinds = ["chain", "group", "chord", "task"]
        return getattr(self, self.random.choice(kinds))(depth, first)

    def task(self, depth, first):
        random_, tag = self.random, self.tag()
        kinds = {"wrap": 8, "wrap_late": 3, "flaky": 2, "swap": 1, "swap_chain": 1, "spawn": 1, "map": 1}
        if not self.harmless:
            kinds |= {"fail": 1, "swap_group": 1}
        kind = random_.choices(list(kinds), list(kinds.values()))[0]
        if kind == "map":
            return self.map(first)
        task = app.tasks["canvas." + kind]
        if not first and random_.random() < 0.1:
            made = Made(task.si("fixed", tag), self.value_of(kind, tag, "fixed"))
        else:
            made = Made(task.s("start", tag) if first else task.s(tag), self.value_of(kind, tag, "start" if first else None))
        if random_.random() < 0.1:
            made.signature.link(wrap.s(self.tag()))
        if not self.harmless and random_.random() < 0.15:
            made.signature.link_error(errback.s())
        return made

    @staticmethod
    def value_of(kind, tag, fixed):
        def value(before):
            before = before if fixed is None else fixed
            if kind == "swap_chain":
                return [tag + "'", [tag, before]]
            return [tag, before]

        return value

    def map(self, first):
        numbers = [self.random.randrange(100) for _ in range(self.random.randint(1, 4))]
        kind = self.random.choice(["map", "starmap", "chunks"])
        if kind == "map":
            signature, value = double.map(numbers), [2 * x for x in numbers]
        elif kind == "starmap":
            signature, value = add.starmap([[x, 1] for x in numbers]), [x + 1 for x in numbers]
        elif not first or self.harmless:
            signature, value = double.map(numbers), [2 * x for x in numbers]
        else:
            signature = add.chunks([(x, 1) for x in numbers], 2).group()
            value = None
        if not first:
            signature.set(immutable=True)
        return Made(signature, lambda before: value)

    def members(self, depth, first, least=1):
        members = [self.any(depth - 1, first) for _ in range(self.random.randint(least, 3))]
        if self.harmless:
            # The results of a group within a group come flat, in the order in which they end.
            members = [self.task(0, first) if member.many else member for member in members]
        return members

    def chain(self, depth, first):
        members = [self.any(depth - 1, first)]
        for _ in range(self.random.randint(1, 3)):
            # Celery runs a group after a group that ends a chord once for each of its members, in any order.
            members.append(self.task(0, False) if members[-1].many else self.any(depth - 1))

        def value(before):
            for member in members:
                before = member.value(before)
            return before

        return Made(chain(*(member.signature for member in members)), value, members[-1].many)

    def group(self, depth, first):
        members = self.members(depth, first, least=2)
        return Made(
            group(member.signature for member in members),
            lambda before: [member.value(before) for member in members],
            many=True,
        )

    def chord(self, depth, first):
        members, body = self.members(depth, first, least=2), self.task(0, False)
        signature = chord([member.signature for member in members], body.signature)
        return Made(signature, lambda before: body.value([member.value(before) for member in members]))


def compare(seed, count, path):
    events = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        ready = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: ready.set()
        threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True).start()
        ready.wait(20)
        generator = Generator(seed)
        roots = [generator.canvas().signature.apply_async() for _ in range(count)]
        print("sent", flush=True)
        wait_until_quiet()
        wrap.apply_async(("end", "end"), task_id="end").get(timeout=60)
        wait_for(lambda: any(event["type"] == "task-succeeded" and event["uuid"] == "end" for event in events), "end")
        metas = [json.loads(app.backend.client.get(key)) for key in app.backend.client.keys("celery-task-meta-*")]
    results = [shape(root) for root in roots]
    with open(path, "w") as file:
        json.dump(described(metas, list(events), results), file)


def shape(result):
    """The ids of a result."""
    if getattr(result, "results", None) is not None:
        return [shape(member) for member in result.results]
    return result.id


def wait_for(condition, what, deadline=240):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not in time: {what}")
        time.sleep(0.2)


def wait_until_quiet():
    redis = app.backend.client

    def asked(command):
        answers = app.control.broadcast(command, reply=True, limit=1, timeout=30) or [{"": ["nobody"]}]
        return any(list(answer.values())[0] for answer in answers)

    def is_quiet():
        if redis.llen("celery") or redis.hlen("unacked"):
            return False
        return not any(asked(command) for command in ("active", "reserved", "scheduled"))

    wait_for(lambda: is_quiet() and is_quiet(), "an idle worker")


# What differs from run to run, or from program to program.
VOLATILE = {"date_done", "worker", "hostname", "pid", "clock", "timestamp", "local_received", "utcoffset", "runtime"}


UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def described(metas, events, results):
    """Everything in lines that are the same for equal runs: ids give way to the name and arguments of their task."""
    labels = {}
    for event in events:
        if event["type"] == "task-sent":
            labels.setdefault(event["uuid"], event["name"] + event["args"])
    ran = {event["uuid"] for event in events if event["type"].startswith("task-")}
    for meta in metas:
        if meta.get("name") and meta["task_id"] in ran:
            labels.setdefault(meta["task_id"], meta["name"] + repr(meta["args"]))

    # A chord's body has parent and root of whichever part ended last, which is chance.
    children = {meta["task_id"]: set(UUID.findall(json.dumps(meta.get("children"))))
                for meta in metas if meta.get("group_id")}
    starts = {}
    for event in events:
        if event["type"] == "task-sent" and event["root_id"] == event["uuid"]:
            canvas = re.search(r"'(\d+)\.", event["args"])
            starts.setdefault(canvas and canvas[1], set()).add(event["uuid"])
    chance = {id: f"a start of {canvas}" for canvas, ids in starts.items() if len(ids) > 1 for id in ids}

    def label(id):
        """Groups, and tasks that are never sent, have none; errbacks have the id of the failed task in theirs."""
        return UUID.sub(lambda other: f"<{labels.get(other[0], 'some')}>", labels.get(id, "some"))

    def named(value):
        if isinstance(value, str):
            return UUID.sub(lambda id: f"<{label(id[0])}>", value)
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items() if key not in VOLATILE}
        return value

    def tidy(record):
        root, parent, own = record.get("root_id"), record.get("parent_id"), record.get("uuid") or record.get("task_id")
        record = named(record)
        if parent in children and own not in children[parent]:
            record["parent_id"] = "a part of its header"
        if root in chance and root != own:
            record["root_id"] = chance[root]
        if record.get("task_id") == "<some>":
            # Celery notes here the children of whichever task the chord failed with.
            del record["children"]
        if record.get("traceback"):
            record["traceback"] = record["traceback"].strip().splitlines()[-1]
        return record

    lines = [("stored " if meta["task_id"] in ran else "never ran ") + json.dumps(tidy(meta), sort_keys=True)
             for meta in metas]
    by_task = {}
    for event in events:
        if event["type"].startswith("task-"):
            by_task.setdefault(event["uuid"], []).append(tidy(event))
    for stream in by_task.values():
        # Whether a sender tells of a task before its worker does, and a worker of a retry before it has it, is chance.
        stream.sort(key=lambda event: (["task-sent", "task-received"] + [event["type"]]).index(event["type"]))
        lines.append("events " + json.dumps(stream, sort_keys=True))
    by_id = {meta["task_id"]: meta for meta in metas}

    def outcome(ids):
        if isinstance(ids, list):
            return [outcome(id) for id in ids]
        return [by_id[ids]["status"], named(by_id[ids]["result"])] if ids in by_id else "PENDING"

    lines += [f"result {number} {json.dumps(outcome(ids))}" for number, ids in enumerate(results, 1)]
    return sorted(lines)


def unfinished():
    """What Redis holds besides results."""
    client = app.backend.client
    readers = {b"list": lambda key: client.lrange(key, 0, 9), b"hash": client.hgetall, b"string": client.get,
               b"zset": lambda key: client.zrange(key, 0, 9, withscores=True), b"set": client.smembers}
    keys = [key for key in client.scan_iter(count=1000) if not key.startswith((b"celery-task-meta-", b"_kombu"))]
    found = {key: readers[client.type(key)](key) for key in sorted(keys)}
    return {key: value for key, value in found.items() if value != b"done"}


def stored(result):
    """What is stored of a result and of those before it."""
    shown = [result.id, app.backend.client.get(app.backend.get_key_for_task(result.id))]
    if children := getattr(result, "results", None):
        shown.append([stored(child) for child in children])
    return [*shown, stored(result.parent)] if result.parent else shown


def mixed(seed, count):
    generator = Generator(seed, harmless=True)
    sent = []
    for _ in range(count):
        made = generator.canvas()
        sent.append((made, made.signature.apply_async()))
    wait_for(lambda: len(app.backend.client.keys("celery-task-meta-*")) > 30, "Celery's worker to have its share")
    print("sent", flush=True)
    wrong = []
    for number, (made, result) in enumerate(sent, 1):
        expected = made.value(None)
        try:
            found = result.get(timeout=60 if not wrong else 5)
        except TimeoutError:
            wrong.append(f"{number}: {made.signature!r}\n  hangs: {stored(result)}\n  Redis: {unfinished()}")
            continue
        if found != expected:
            wrong.append(f"{number}: {made.signature!r}\n  expected {expected}\n  found    {found}")
    ran = {node: sum(stats["total"].values()) for node, stats in app.control.inspect(timeout=5).stats().items()}
    print(json.dumps({"wrong": wrong, "ran": ran}))


if __name__ == "__main__":
    arguments = sys.argv[2:]
    {"compare": lambda: compare(int(arguments[0]), int(arguments[1]), arguments[2]),
     "mixed": lambda: mixed(int(arguments[0]), int(arguments[1]))}[sys.argv[1]]()
