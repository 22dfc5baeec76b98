"""Celery's own worker with the tasks of the suite, for the control group: `celery -A control_app worker`."""
import os

from celery.contrib.testing.app import TestApp
from t.integration import tasks

app = TestApp(
    set_as_current=True,
    enable_logging=True,
    config={
        "broker_url": os.environ["TEST_BROKER"],
        "result_backend": os.environ["TEST_BACKEND"],
        "result_extended": True,
        "task_create_missing_queues": False,
    },
)
app.set_default()
app.register_task(tasks.ClassBasedAutoRetryTask)
