"""The Celery application ``ai_companion``: names, queue and serializer of the tasks that the Rust worker runs.

``celery -A app.celery_app call|result|inspect|control|status ...`` work with it; a worker or a beat of it does not
start, since it would take messages from the Rust worker that it cannot run.
"""

from celery import Celery, signals

from app.settings import broker_url, result_backend

celery_app = app = Celery(
    "ai_companion",
    broker=broker_url(),
    backend=result_backend(),
    include=["app.tasks.reminders", "app.tasks.analytics"],
)
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    enable_utc=True,
    timezone="UTC",
    task_default_queue="default",
    task_track_started=True,
    # A command says soon that Redis is away, rather than trying for 20 s.
    result_backend_transport_options={"retry_policy": {"timeout": 3.0}},
)


def declare(name):
    """Declares a task of the Rust worker, for ``.delay()``, ``.apply_async()``, signatures and canvas."""

    def decorate(function):
        return app.task(name=name)(function)

    return decorate


def runs_in_rust(name):
    """What the body of a declared task does, should it ever be called in Python."""
    raise NotImplementedError(f"{name} runs in the Rust worker; send it with .delay() or `celery call {name}`")


@declare("app.celery_app.ping")
def ping():
    """Answers ``"pong"``."""
    runs_in_rust("app.celery_app.ping")


@signals.celeryd_init.connect
@signals.beat_init.connect
def _refuse(**_):
    raise SystemExit("this application's tasks run in Rust; start companion-worker or companion-beat instead")
