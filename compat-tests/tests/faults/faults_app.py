"""The tasks of faults-worker for Celery's own worker."""
import os
import time

import redis
from celery import Celery

app = Celery("faults")
app.conf.update(
    broker_url=os.environ["CELERY_BROKER_URL"],
    result_backend=os.environ["CELERY_RESULT_BACKEND"],
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 5},
    worker_prefetch_multiplier=4,
)
record = redis.Redis.from_url(os.environ["FAULTS_RECORD_URL"])


def run(number, seconds):
    record.rpush("started", number)
    time.sleep(seconds)
    record.rpush("done", number)
    return number


@app.task(name="faults.late", acks_late=True)
def late(number, seconds):
    return run(number, seconds)


@app.task(name="faults.early")
def early(number, seconds):
    return run(number, seconds)


@app.task(name="faults.due", acks_late=True)
def due(number, due):
    record.rpush("late_ms", round((time.time() - due) * 1000))
    return run(number, 0)


@app.task(name="faults.sum", acks_late=True)
def total(numbers):
    record.rpush("sums", sum(numbers))
    return sum(numbers)


@app.task(name="faults.stock_only")
def stock_only(number):
    return run(number, 0)
