"""The tasks of semantics-worker for Celery's own worker, and what a client sees of them.

  semantics_app.py SCENARIO...   prints what was observed in each, as JSON
"""
import base64
import json
import os
import re
import sys
import threading
import time
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from celery import Celery, chain, chord, group
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu import Exchange, Queue
from kombu.common import Broadcast

app = Celery("semantics")
app.conf.update(
    broker_url=os.environ["CELERY_BROKER_URL"],
    result_backend=os.environ["CELERY_RESULT_BACKEND"],
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
    task_queues=[
        Queue("celery", Exchange("celery"), "celery"),
        Queue("everything", Exchange("media", "topic"), "media.#"),
        Queue("videos", Exchange("media", "topic"), "media.*.video"),
        Queue("keyed", Exchange("shop"), "orders"),
        Broadcast("news"),
    ],
    accept_content=["json", "msgpack", "yaml"],
    task_routes={"sem.told": {"queue": "news", "exchange": "news"}},
)
app.conf.update(json.loads(os.environ.get("SEMANTICS_SETTINGS", "{}")))
redis = app.backend.client


@app.task(name="sem.add")
def add(x, y):
    return x + y


@app.task(name="sem.echo")
def echo(value):
    return value


@app.task(name="sem.give_up", acks_late=True, acks_on_failure_or_timeout=False)
def give_up():
    raise ValueError("no")


@app.task(name="sem.slow_once", bind=True, acks_late=True, acks_on_failure_or_timeout=False, time_limit=1)
def slow_once(self):
    if self.request.delivery_info["redelivered"]:
        return "second time"
    time.sleep(60)


@app.task(name="sem.tidies", soft_time_limit=1)
def tidies():
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "tidied"


@app.task(name="sem.tidies_blocking", soft_time_limit=1)
def tidies_blocking():
    return tidies()


@app.task(name="sem.retry", bind=True, max_retries=3, default_retry_delay=1)
def retry(self, how, word="first"):
    retries = self.request.retries
    exc = KeyError("again")
    if how == "countdown" and retries == 0:
        raise self.retry(countdown=0.2)
    if how == "eta" and retries == 0:
        raise self.retry(eta=datetime.now(timezone.utc) + timedelta(seconds=0.3), exc=exc)
    if how == "args" and retries == 0:
        raise self.retry(args=["args", "second"], countdown=0)
    if how == "kwargs" and retries == 0:
        raise self.retry(args=["kwargs"], kwargs={"word": "third"}, countdown=0)
    if how == "exc":
        raise self.retry(exc=ValueError("mine"), countdown=0, max_retries=1)
    if how == "exceeded":
        raise self.retry(countdown=0, max_retries=1)
    if how == "often" and retries < 5:
        raise self.retry(countdown=0, max_retries=10)
    if how == "elsewhere" and retries == 0:
        raise self.retry(countdown=0, queue="keyed", priority=9)
    return [retries, word, self.request.delivery_info["routing_key"], self.request.delivery_info["priority"]]


@app.task(
    name="sem.autoretry", bind=True, max_retries=2, retry_backoff=1, retry_jitter=False,
    autoretry_for=(LookupError,), dont_autoretry_for=(KeyError,),
)
def autoretry(self, kind, good_at=99):
    if self.request.retries < good_at:
        raise {"IndexError": IndexError, "KeyError": KeyError, "ValueError": ValueError}[kind]("at fault")
    return self.request.retries


@app.task(name="sem.tracked", track_started=True)
def tracked():
    time.sleep(1)


@app.task(name="sem.quiet", ignore_result=True, store_errors_even_if_ignored=True)
def quiet(fails):
    if fails:
        raise ValueError("loud")
    return "nobody sees this"


@app.task(name="sem.where", bind=True)
def where(self):
    info = self.request.delivery_info
    return [info["exchange"], info["routing_key"]]


@app.task(name="sem.told", ignore_result=True)
def told(text):
    redis.rpush("told", text)


@app.task(name="sem.early")
def early(seconds):
    redis.rpush("started", "early")
    time.sleep(seconds)


@app.task(name="sem.late", acks_late=True)
def late(seconds):
    redis.rpush("started", "late")
    time.sleep(seconds)


@app.task(name="sem.reject", acks_late=True)
def reject():
    raise Reject("not today", requeue=False)


@app.task(name="sem.gate")
def gate():
    while not redis.exists("gate"):
        time.sleep(0.01)


@app.task(name="sem.errback")
def errback(request, exc, traceback):
    known = "without" if traceback is None else "with"
    redis.rpush("errbacks", f"{request.id} {request.task} {type(exc).__name__}: {exc.args[0]}, {known} traceback")


SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function


def outcome(result, timeout=60):
    """State and value, or state, class and arguments of the exception."""
    value = result.get(timeout=timeout, propagate=False)
    if isinstance(value, BaseException):
        return [result.state, type(value).__name__, [str(arg).replace(result.id, "ID") for arg in value.args]]
    return [result.state, value]


def wait_for(condition, what, deadline=60):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not in time: {what}")
        time.sleep(0.02)


class Events:
    """The events of one task, by their types, from now on."""

    def __init__(self):
        self.seen = []
        ready = threading.Event()

        def capture():
            with app.connection_for_read() as connection:
                receiver = app.events.Receiver(connection, handlers={"*": self.seen.append})
                receiver.on_consume_ready = lambda *_, **__: ready.set()
                receiver.capture(limit=None, timeout=None, wakeup=False)

        threading.Thread(target=capture, daemon=True).start()
        ready.wait(20)

    def of(self, id, last):
        types = lambda: [event["type"] for event in list(self.seen) if event.get("uuid") == id]
        wait_for(lambda: last in types(), f"{last} of {id}")
        return types()


@scenario
def acknowledgement():
    events = Events()
    given_up, slow = give_up.delay(), slow_once.delay()
    found = [outcome(given_up), events.of(given_up.id, "task-failed")]
    # A result keeps the first state of an end that it sees.
    wait_for(lambda: app.AsyncResult(slow.id).state == "SUCCESS", "second time")
    found += [outcome(app.AsyncResult(slow.id)), events.of(slow.id, "task-succeeded")]
    wait_for(lambda: not redis.hlen("unacked"), "nothing held")
    return found + [redis.llen("celery")]


@scenario
def soft_limits():
    return [outcome(tidies.delay()), outcome(tidies_blocking.delay()), outcome(add.s(1, 2).set(soft_time_limit=60).delay())]


@scenario
def retries():
    ways = ["countdown", "eta", "args", "kwargs", "exc", "exceeded", "often", "elsewhere"]
    return {how: outcome(retry.delay(how)) for how in ways}


@scenario
def automatic_retries():
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("celery-task-meta-*")
    pubsub.get_message(timeout=5)
    found = [outcome(autoretry.delay(*args)) for args in [("IndexError",), ("KeyError",), ("ValueError",), ("IndexError", 1)]]
    states = []
    while message := pubsub.get_message(timeout=1):
        meta = json.loads(message["data"])
        if meta["status"] == "RETRY":
            states.append(meta["traceback"].strip().splitlines()[-1])
    return found + [states]


@scenario
def stored_states():
    running = tracked.delay()
    wait_for(lambda: running.state == "STARTED", "STARTED")
    seen = sorted(running.info)
    noisy, silent = quiet.delay(True), quiet.delay(False)
    wait_for(lambda: app.AsyncResult(noisy.id).state == "FAILURE", "the failure")
    found = [seen, outcome(running), outcome(app.AsyncResult(noisy.id)), add.delay(1, 1).get(timeout=30), app.AsyncResult(silent.id).state]
    return found


@scenario
def routes():
    send = lambda **options: outcome(where.apply_async(**options))
    found = [
        send(queue="keyed"),
        send(queue="everything", routing_key="media.music"),
        send(exchange="shop", routing_key="orders"),
        send(queue="everything"),
    ]
    # To both queues: it runs twice.
    both = where.apply_async(queue="videos", routing_key="media.new.video")
    found.append(outcome(both))
    for n in range(3):
        tell_all(f"news {n}")
    wait_for(lambda: redis.llen("told") >= 3, "what was told to all")
    add.delay(1, 1).get(timeout=30)
    bindings = {key.decode(): sorted(member.decode().split("\x06\x16") for member in redis.smembers(key))
                for key in redis.keys("_kombu.binding.*") if b"pidbox" not in key and b"celeryev" not in key}
    bindings = {key: [[*binding[:2], "bcast" if binding[2].startswith("bcast.") else binding[2]] for binding in members]
                for key, members in bindings.items() if "news" not in key}
    return found + [sorted(text.decode() for text in redis.lrange("told", 0, -1)), bindings]


PLAIN = {"n": [1, 2.5, None, "é\u2028", True, -(2**40)], "nested": {"a": [[], {}]}}
TYPED = PLAIN | {
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
    "naive": datetime(2026, 1, 2, 3, 4, 5),
    "day": date(2026, 1, 2),
    "price": Decimal("10.50"),
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "bytes": b"\xff\x00abc",
}


@scenario
def serializers():
    wrong = []
    for serializer in ("json", "msgpack", "yaml"):
        for compression in (None, "gzip", "bzip2", "zstd", "lzma", "brotli"):
            # The others have no form for all of kombu's typed values, as arguments or as results.
            value = TYPED if serializer == app.conf.result_serializer == "json" else PLAIN
            sent = echo.apply_async((value,), serializer=serializer, compression=compression)
            found = sent.get(timeout=30, propagate=False)
            if found != value:
                wrong.append([serializer, compression, repr(found)])
    app.conf.task_protocol = 1
    return [wrong, outcome(add.delay(20, 22)), outcome(add.apply_async((1, 1), countdown=0.2, expires=60))]


@scenario
def revoked_stamps():
    tasks = [add.s(1, 1) for _ in range(3)]
    for task, tenant in zip(tasks, ("acme", "other", "acme")):
        task.stamp(tenant=tenant)
    results = [task.apply_async(countdown=4) for task in tasks]
    held = lambda: app.control.broadcast("scheduled", reply=True, limit=1, timeout=5) or [{"": []}]
    wait_for(lambda: len([*held()[0].values()][0]) == 3, "all are held")
    app.control.revoke_by_stamped_headers({"tenant": "acme"})
    return [outcome(result) for result in results]


def record(id):
    """What is stored of a task, but for what no two runs have in common."""
    wait_for(lambda: redis.exists(f"celery-task-meta-{id}"), f"the record of {id}")
    meta = json.loads(redis.get(f"celery-task-meta-{id}"))
    meta.pop("date_done")
    meta["traceback"] = (meta["traceback"] or "").strip().splitlines()[-1:]
    return meta


def called_back(count):
    wait_for(lambda: redis.llen("errbacks") >= count, "errbacks")
    calls = sorted(call.decode() for call in redis.lrange("errbacks", 0, -1))
    redis.delete("errbacks")
    return calls


def joined(*parts):
    """The header of a chord whose results are joined by their saved shape, since one of them is a group."""
    return [chain(add.si(1, 1), group(add.si(2, 2), add.si(3, 3))), *parts]


def body(id):
    return echo.s().set(task_id=id).on_error(errback.s())


def spoiled(id, spoil):
    """The outcome of a chord with something done to the record of a part before it is joined."""
    redis.delete("gate")
    chord(joined(add.si(1, 1).set(task_id=f"part of {id}"), gate.si()), body(id)).apply_async()
    outcome(app.AsyncResult(f"part of {id}"))
    spoil(f"celery-task-meta-part of {id}")
    redis.set("gate", "open")
    return outcome(app.AsyncResult(id))


@scenario
def joins_that_fail():
    found = {}
    chord(joined(give_up.si()), body("failed")).apply_async()
    found["failed"] = [record("failed"), called_back(1)]
    chord(joined(give_up.si()), group(body("one"), body("two"))).apply_async()
    found["group"] = [record("one"), record("two"), called_back(2)]
    return found


@scenario
def joins_past_spoiled_records():
    return [spoiled("unreadable", lambda key: redis.set(key, "no JSON")), spoiled("missing", redis.delete)]


@scenario
def parts_that_fail():
    found = {}
    chord([give_up.si().set(task_id="part"), add.si(1, 1)], body("failed")).apply_async()
    found["failed"] = [record("failed"), called_back(1)]
    chord([give_up.si().set(task_id="part"), add.si(1, 1)], group(body("one"), body("two"))).apply_async()
    found["group"] = [record("one"), record("two"), called_back(2)]
    return found


@scenario
def what_follows_a_rejection():
    chain(reject.si().set(task_id="rejected").on_error(errback.s()), add.si(1, 1).set(task_id="next")).apply_async()
    found = [record("rejected"), called_back(1), record("next")]
    # The other part ends last: whoever is last stores the failure of the body, and Celery's own two ways differ in `children`.
    chord([reject.si().set(task_id="part"), add.si(1, 1).set(countdown=1)], body("body")).apply_async()
    return found + [record("body"), called_back(1)]


def push(body="[[1, 1], {}, {}]", content_type="application/json", **headers):
    """Puts a message into the queue as it is."""
    properties = {"delivery_tag": str(uuid.uuid4()), "priority": 0, "body_encoding": "base64",
                  "delivery_info": {"exchange": "", "routing_key": "celery"}}
    message = {"body": base64.b64encode(body.encode()).decode(), "content-encoding": "utf-8",
               "content-type": content_type, "headers": headers, "properties": properties}
    redis.lpush("celery", json.dumps(message))


@scenario
def refused_messages():
    call = {"task": "sem.add", "id": "bad", "lang": "py"}
    push()
    push(task="no.such.task", id="unknown")
    push(content_type="text/plain", **call)
    push(expires=[1], **call)
    push(body="[[1, 1], [], {}]", **call)
    rejected = reject.delay()
    found = [outcome(app.AsyncResult("unknown")), outcome(rejected), outcome(add.delay(1, 1))]
    wait_for(lambda: not redis.hlen("unacked") and not redis.llen("celery"), "nothing held")
    kept = [key.decode() for key in redis.keys("*") if redis.type(key) == b"list" and b"inflight" not in key]
    return found + [kept]


@scenario
def lone_surrogates():
    name, half = "caf\udce9.txt", "\ud83d"
    inside = {"k": [name, {half: name + "\\"}], name: half + "x" + half}
    results = [
        echo.delay(name), echo.delay(half), echo.apply_async(kwargs={"value": inside}), chain(echo.s(inside), echo.s()).apply_async(),
        chord([echo.s(name), echo.s(inside)], echo.s()).apply_async(), group(echo.s(name), echo.s(half)).apply_async(),
        echo.apply_async((name,), shadow=name, argsrepr=name, root_id=half, parent_id=half, headers={name: half, "stamp": [name]}),
        echo.apply_async((inside,), compression="gzip", countdown=0.1),
    ]
    return [ascii(result.get(timeout=60)) for result in results]


@scenario
def lone_surrogates_between_workers():
    name = "caf\udce9.txt"
    found = []
    for first, second in (("celery", "keyed"), ("keyed", "celery")):
        steps = chain(echo.s(name).set(queue=first), echo.s().set(queue=second))
        parts = [echo.s(name).set(queue=first), echo.s({name: [name]}).set(queue=second), echo.s("plain").set(queue=first)]
        for canvas in (steps, chord(parts, echo.s().set(queue=second))):
            found.append(ascii(canvas.apply_async().get(timeout=60)))
    return found


@scenario
def protocol_1_without_headers():
    found = []
    for headers in ({}, None, ...):
        for fields in ({"args": [1, 2]}, {"kwargs": {"x": 1, "y": 2}, "retries": 0, "eta": None, "utc": True}):
            id = str(uuid.uuid4())
            body = json.dumps({"id": id, "task": "sem.add", **fields})
            message = {"body": base64.b64encode(body.encode()).decode(), "content-encoding": "utf-8", "content-type": "application/json",
                       "headers": headers, "properties": {"delivery_tag": id, "body_encoding": "base64", "delivery_info": {}}}
            if headers is ...:
                del message["headers"]
            redis.lpush("celery", json.dumps(message))
            found.append(outcome(app.AsyncResult(id)))
    return found


@scenario
def unreadable_messages_that_name_their_task():
    """How each of them ends that Celery's worker drops without a result."""
    call = {"task": "sem.add", "id": None, "lang": "py"}

    def sent(raw):
        id = str(uuid.uuid4())
        redis.lpush("celery", raw.replace("ID", id))
        return outcome(app.AsyncResult(id))

    def entry(body="W1sxLCAxXSwge30sIHt9XQ==", headers='{"task": "sem.add", "id": "ID"}', properties='"body_encoding": "base64", '):
        return ('{"body": "%s", "content-encoding": "utf-8", "content-type": "application/json", "headers": %s, '
                '"properties": {%s"delivery_tag": "ID"}}' % (body, headers, properties))

    protocol_1 = json.dumps(json.dumps({"id": "ID", "task": "sem.add", "args": [1, 2], "kwargs": None}))[1:-1]
    return {
        "body_encoding": sent(entry(properties='"body_encoding": "base85", ')),
        "no base64": sent(entry(body="%%%")),
        "deep header": sent(entry(headers='{"x": %s, "task": "sem.add", "id": "ID"}' % ("[" * 5000 + "]" * 5000))),
        "deep arguments": sent(entry(body=base64.b64encode(b"[[" + b"[" * 5000 + b"]" * 5000 + b"], {}, {}]").decode())),
        "broken off": sent(entry()[:-20]),
        "typed header": sent(entry(headers='{"x": {"__type__": "no", "__value__": 1}, "task": "sem.add", "id": "ID"}')),
        "task name": sent(entry(headers='{"task": "caf\\udce9", "id": "ID"}')),
        "protocol 1": sent(entry(body=protocol_1, headers="null", properties="")),
    }


@scenario
def deep_arguments():
    """Whether arguments of so many levels come back; Python's JSON cannot write or read them all."""
    found = {}
    for levels in (257, 500, 1000):
        for open, close in (("[", "]"), ('{"a": ', "}")):
            id, value = str(uuid.uuid4()), open * levels + "1" + close * levels
            body = base64.b64encode(f"[[{value}], {{}}, {{}}]".encode()).decode()
            redis.lpush("celery", json.dumps({
                "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": {"task": "sem.echo", "id": id},
                "properties": {"delivery_tag": id, "body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "celery"}}}))
            wait_for(lambda: redis.exists("celery-task-meta-" + id), f"{levels} levels end")
            found[f"{open}{levels}"] = value in redis.get("celery-task-meta-" + id).decode()
    return found


@scenario
def refusals_counted():
    text, = app.control.broadcast("metrics", reply=True, timeout=20, limit=1)[0].values()
    counts = re.findall(r'celeriac_messages_refused_total{.*reason="(\w+)"} (\d+)', text)
    return {reason: int(count) for reason, count in counts if int(count)}


def tell_all(text):
    # A client of Celery 5.7 does not declare the exchange of a Broadcast queue, and then takes it for a direct one.
    told.apply_async((text,), routing_key="celery", declare=[Exchange("news", "fanout")])


@scenario
def told_by_python():
    tell_all("from Python")
    return True


@scenario
def cold_shutdown_begins():
    results = [early.apply_async((60,), task_id="early"), late.apply_async((60,), task_id="late")]
    wait_for(lambda: redis.llen("started") == 2, "both run")
    return [result.state for result in results]


@scenario
def cold_shutdown_ended():
    states = {id: app.AsyncResult(id).state for id in ("early", "late")}
    # By kombu's protocol the message is back in its queue, or still among the unacknowledged.
    info = app.AsyncResult("early").info
    return [states, type(info).__name__, redis.llen("celery") + redis.hlen("unacked")]


if __name__ == "__main__":
    print(json.dumps({name: SCENARIOS[name]() for name in sys.argv[1:]}))
