"""What the shim does without a broker. What it does with one is tested in compat-tests, next to the Rust worker."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import broker_url, redis_url, result_backend

FOLDER = Path(__file__).parent.parent


def run(*arguments, **env):
    base = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "REDIS_URL": "redis://127.0.0.1:1/0"}
    return subprocess.run([sys.executable, *arguments], cwd=FOLDER, env=base | env, capture_output=True, text=True)


def test_redis_url_wins_over_the_nested_name():
    assert redis_url({"REDIS_URL": "redis://a/0", "APP_REDIS__URL": "redis://b/0"}) == "redis://a/0"
    assert redis_url({"REDIS_URL": "", "APP_REDIS__URL": "redis://b/0"}) == "redis://b/0"


def test_broker_and_result_backend_may_be_elsewhere():
    environ = {"REDIS_URL": "redis://a/0", "CELERY_BROKER_URL": "redis://b/0", "CELERY_RESULT_BACKEND": "redis://c/0"}
    assert (broker_url(environ), result_backend(environ)) == ("redis://b/0", "redis://c/0")
    assert broker_url({"REDIS_URL": "redis://a/0"}) == result_backend({"REDIS_URL": "redis://a/0"}) == "redis://a/0"


def test_development_has_a_default_and_production_has_none(capsys):
    assert redis_url({}) == "redis://127.0.0.1:6379/0"
    with pytest.raises(SystemExit) as ended:
        redis_url({"APP_ENV": "production"})
    assert ended.value.code == 2
    assert "REDIS_URL is missing" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["http://host", "redis://", "redis://host:port/0", "host:6379"])
def test_a_malformed_setting_is_named_and_its_value_is_not_shown(value, capsys):
    with pytest.raises(SystemExit):
        redis_url({"REDIS_URL": value.replace("://", "://:hush@", 1)})
    error = capsys.readouterr().err
    assert "REDIS_URL" in error and "expected redis://" in error and "hush" not in error


def test_the_application_is_the_one_of_the_contract():
    code = """
from app.celery_app import app
app.loader.import_default_modules()
conf = app.conf
print(app.main, conf.task_default_queue, conf.task_serializer, conf.accept_content, conf.timezone, conf.result_backend)
print(*sorted(name for name in app.tasks if name.startswith("app.")))
"""
    first, second = run("-c", code).stdout.splitlines()
    assert first == "ai_companion default json ['json'] UTC redis://127.0.0.1:1/0"
    assert second.split() == [
        "app.celery_app.ping",
        "app.tasks.analytics.compute_daily_metrics",
        "app.tasks.reminders.deliver_reminder",
        "app.tasks.reminders.send_due_reminders",
    ]


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_it_starts_no_worker_and_no_beat(program):
    ended = run("-m", "celery", "-A", "app.celery_app", program, C_FORCE_ROOT="1")
    assert "start companion-worker or companion-beat instead" in ended.stdout + ended.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], []])
def test_an_id_must_be_a_uuid(arguments):
    ended = run("-m", "app.tasks.reminders.deliver_reminder", *arguments)
    assert ended.returncode == 2
    assert "ID" in ended.stderr


def test_a_time_must_be_iso_8601():
    ended = run("-m", "app.tasks.reminders.send_due_reminders", "--at", "tomorrow")
    assert ended.returncode == 2
    assert "invalid iso_time value: 'tomorrow'" in ended.stderr


def test_without_redis_a_command_says_so_in_one_line():
    ended = run("-m", "app.tasks.reminders.send_due_reminders")
    assert ended.returncode == 1
    assert ended.stderr.startswith("0 of 1 queued; Redis does not answer")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["downgrade", "-1"], ["upgrade", "+1"], ["revision", "-m", "x"], ["stamp"]])
def test_alembic_refuses_what_it_is_not(arguments):
    ended = run("-m", "app.alembic", *arguments)
    assert ended.returncode == 2
    assert "companion migrate" in ended.stderr


@pytest.mark.parametrize(
    ("alembic", "companion"),
    [
        ("upgrade head", "migrate"),
        ("current", "schema current"),
        ("current -v", "schema current"),
        ("history --verbose", "schema history"),
        ("heads", "schema heads"),
        ("check", "schema check"),
        ("stamp head", "schema stamp head"),
    ],
)
def test_alembic_becomes_a_command_of_the_companion(alembic, companion, tmp_path):
    program = tmp_path / "companion"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    ended = run("-m", "app.alembic", *alembic.split(), PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (ended.returncode, ended.stdout.strip()) == (0, companion)


def test_alembic_upgrade_head_names_a_missing_program():
    ended = run("-m", "app.alembic", "upgrade", "head")
    assert ended.returncode == 127
    assert "`companion` is not on the PATH" in ended.stderr
