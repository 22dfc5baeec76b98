"""The tasks of the benchmark for Celery's own worker."""

import os
import time

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER_URL"], backend=os.environ["BENCH_BACKEND_URL"] or None)
app.conf.task_ignore_result = not os.environ["BENCH_BACKEND_URL"]


@app.task(name="bench.noop")
def noop():
    pass


@app.task(name="bench.add")
def add(x, y):
    return x + y


@app.task(name="bench.sleep")
def sleep(seconds):
    time.sleep(seconds)
