"""What the scripts of the tests share."""
import json
import time

from celery.bin.celery import celery as command_line
from click.testing import CliRunner

from tools_app import *  # noqa: F403
from tools_app import app


def cli(*arguments):
    """Runs `celery -A tools_app ARGUMENTS` and returns its exit status and output."""
    result = CliRunner().invoke(command_line, ["-A", "tools_app", *arguments])
    return [result.exit_code, result.output]


def cli_json(*arguments):
    """Runs it with --json and returns what it printed."""
    status, output = cli(*arguments, "--json")
    assert status == 0, (arguments, status, output)
    return json.loads(output)


def ask(command, destination=None, timeout=None, **arguments):
    """Broadcasts a command and returns the answers by node: of those who are asked as soon as all have come."""
    timeout = timeout or (60 if destination else 5)
    replies = app.control.broadcast(
        command, arguments=arguments, destination=destination, reply=True, timeout=timeout)
    return {node: reply for answer in replies for node, reply in answer.items()}


def wait_until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {what}")


def collect_events(until, seconds=20):
    """Receives events until the condition on all events so far holds."""
    events = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        end = time.monotonic() + seconds
        for _ in receiver.consume(limit=None, timeout=seconds, wakeup=False):
            if until(events):
                return events
            if time.monotonic() > end:
                break
    raise AssertionError(f"not in {seconds} s; events: {[event['type'] for event in events]}")


def finite(value):
    """The value with infinity as text, which JSON proper can say."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return str(value) if value in (float("inf"), float("-inf")) else value


def show(value):
    print(json.dumps(finite(value), default=repr))
