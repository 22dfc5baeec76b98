"""The tasks of tools-worker for Celery's own worker and command line."""
import json
import os
import time

from celery import Celery, chord
from celery.exceptions import Reject
from celery.worker.control import inspect_command

app = Celery("tools")
app.conf.update(
    broker_url=os.environ["CELERY_BROKER_URL"],
    result_backend=os.environ["CELERY_RESULT_BACKEND"],
    broker_connection_retry_on_startup=True,
    worker_pool_restarts=True,
    broker_transport_options=json.loads(os.environ.get("TOOLS_TRANSPORT_OPTIONS", "{}")),
)
if "TOOLS_ACKS_LATE" in os.environ:
    app.conf.task_acks_late = True


@app.task(name="tools.add")
def add(x, y):
    return x + y


@app.task(name="tools.fail")
def fail(text):
    raise ValueError(text)


@app.task(name="tools.retry", bind=True, max_retries=3)
def retry(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0.1, exc=ValueError("try again"))
    return self.request.retries


@app.task(name="tools.secret", bind=True, max_retries=3)
def secret(self, how, word):
    again = self.s("done", word).set(queue=self.request.delivery_info["routing_key"])
    if self.request.retries == 0 and how in ("retry", "args"):
        raise self.retry(args=["done", word] if how == "args" else None, countdown=0)
    if how == "exceeded":
        raise self.retry(max_retries=0)
    if how == "replace":
        raise self.replace(again)
    if how == "canvas":
        raise self.replace(chord([again, again], again.clone().set(immutable=True)))
    return len(word)


@app.task(name="tools.handshake")
def handshake(folder):
    open(os.path.join(folder, "started"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    open(os.path.join(folder, "done"), "w").close()


@app.task(name="tools.sleep")
def sleep(seconds):
    time.sleep(seconds)


@app.task(name="tools.block")
def block(seconds):
    time.sleep(seconds)


@app.task(name="tools.spin")
def spin(seconds):
    end = time.time() + seconds
    while time.time() < end:
        pass


@app.task(name="tools.compute")
def compute(seconds):
    spin(seconds)


@app.task(name="tools.pid")
def pid():
    return os.getpid()


@app.task(name="tools.limited", rate_limit="1/s")
def limited():
    pass


@app.task(name="tools.quiet", send_events=False)
def quiet():
    pass


@app.task(name="tools.reject", acks_late=True)
def reject():
    raise Reject("not today", requeue=False)


@app.task(name="tools.late", acks_late=True)
def late(seconds):
    time.sleep(seconds)


@inspect_command(args=[("name", str)], signature="[NAME]")
def greet(state, name="you", **kwargs):
    """Greet somebody."""
    return f"hello {name}"
