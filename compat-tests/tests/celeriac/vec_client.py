"""The calls of compat-tests/capture/capture.py, by task name."""
import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone

from celery import Celery

app = Celery("vectors", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])


def sig(name, *args, **options):
    return app.signature(f"vec.{name}", args=args, **options)


CASES = {
    "success": lambda: sig("add", 2, 3),
    "success_typed": lambda: sig("typed"),
    "success_children": lambda: sig("spawn"),
    "success_link_children": lambda: sig("add", 2, 3).set(link=sig("mul", 10).set(task_id="linked-mul")),
    "failure": lambda: sig("fail", "boom é"),
    "failure_domain": lambda: sig("fail_domain"),
    "failure_nested_class": lambda: sig("fail_nested"),
    "retry_then_success": lambda: sig("retry", 7),
    "max_retries": lambda: sig("retry_forever"),
    "progress_custom": lambda: sig("progress"),
    "started_then_success": lambda: sig("started"),
    "soft_time_limit": lambda: sig("soft"),
    "hard_time_limit": lambda: sig("hard"),
    "expired": lambda: sig("add", 1, 1).set(expires=datetime(2020, 1, 1, tzinfo=timezone.utc)),
    "unregistered": lambda: app.signature("no.such.task", args=(1,)),
    "reject": lambda: sig("reject"),
    "ignore": lambda: sig("ignore"),
    "replaced": lambda: sig("replace", 5),
    "ignored_result": lambda: sig("noresult").set(ignore_result=True),
    "errback_old_style": lambda: sig("fail").set(link_error=sig("errback_old").set(task_id="eb-old")),
    "errback_new_style": lambda: sig("fail").set(link_error=sig("errback_new")),
    "bad_args": lambda: sig("add", 1),
}
WITHOUT_RESULT = {"ignore", "ignored_result"}


def run_cases(names):
    """Each to its end, before the next one; a last task shows that those without a result are through."""
    for name in names:
        result = CASES[name]().apply_async(task_id=f"vec-{name}")
        if name not in WITHOUT_RESULT:
            result.get(timeout=30, propagate=False)
    for linked in ("linked-mul", "child-of-spawn-1", "eb-old"):
        if {"linked-mul": "success_link_children", "child-of-spawn-1": "success_children",
                "eb-old": "errback_old_style"}[linked] in names:
            app.AsyncResult(linked).get(timeout=30)
    sig("noop").apply_async(task_id="last").get(timeout=30)


def show(value):
    print(json.dumps(value, default=repr))
