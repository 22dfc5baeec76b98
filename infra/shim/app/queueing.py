"""Queueing tasks from the command line."""

import sys

from celery.exceptions import TimeoutError as ResultTimeout


def wait_option(parser):
    """Adds ``--wait SECONDS``."""
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait for the result and print it too")


def queue(name, calls, wait=None):
    """Queues one task for each list of arguments and prints its id; returns the exit status."""
    from app.celery_app import app

    sent = []
    try:
        for arguments in calls:
            sent.append(app.send_task(name, args=arguments))
            print(sent[-1].id, flush=True)
    except Exception as error:
        cause = error.__cause__ or error.__context__ or error
        return _fail(f"{len(sent)} of {len(calls)} queued; Redis does not answer: {' '.join(str(cause).split())}")
    return 0 if wait is None else _await(app, sent, wait)


def _await(app, sent, seconds):
    try:
        for result in sent:
            print(result.get(timeout=seconds), flush=True)
    except ResultTimeout:
        return _fail(f"no result within {seconds:g} s; is a worker running? /healthz says")
    except Exception as error:  # what the task raised
        return _fail(f"the task failed: {type(error).__name__}: {error}")
    finally:
        for result in sent:
            app.backend.remove_pending_result(result)
    return 0


def _fail(message):
    print(message, file=sys.stderr)
    return 1
