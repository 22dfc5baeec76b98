"""The tasks of the benchmark for Celery's own worker."""

import os
import time

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER_URL"], backend=os.environ["BENCH_BACKEND_URL"] or None)
app.conf.task_ignore_result = not os.environ["BENCH_BACKEND_URL"]
if os.environ.get("BENCH_TUNED"):
    app.conf.worker_enable_remote_control = False
    app.conf.worker_disable_rate_limits = True


@app.task(name="bench.noop")
def noop():
    pass


@app.task(name="bench.add")
def add(x, y):
    return x + y


@app.task(name="bench.echo")
def echo(payload):
    return payload


@app.task(name="bench.sleep")
def sleep(seconds):
    time.sleep(seconds)
