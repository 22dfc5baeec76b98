"""The settings that this face needs, from the same variables as the Rust services."""

import os
import sys
from urllib.parse import urlsplit

EXPECTED = "redis://[[user]:password@]host[:port][/db], or rediss:// for TLS"
DEVELOPMENT_URL = "redis://127.0.0.1:6379/0"


def broker_url(environ=os.environ):
    """The URL of the broker, from CELERY_BROKER_URL; by default that of redis_url()."""
    return environ.get("CELERY_BROKER_URL", "").strip() or redis_url(environ)


def result_backend(environ=os.environ):
    """The URL of the result backend, from CELERY_RESULT_BACKEND; by default that of redis_url()."""
    return environ.get("CELERY_RESULT_BACKEND", "").strip() or redis_url(environ)


def redis_url(environ=os.environ):
    """The URL of the service's Redis, from REDIS_URL or APP_REDIS__URL."""
    for name in ("REDIS_URL", "APP_REDIS__URL"):
        value = environ.get(name, "").strip()
        if value:
            return _checked(name, value)
    if environ.get("APP_ENV", "development") == "development":
        return DEVELOPMENT_URL
    _fail(f"REDIS_URL is missing; expected {EXPECTED}")


def _checked(name, value):
    """The value is not shown in errors: it may hold a password."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError as error:
        _fail(f"{name} is not a URL ({error}); expected {EXPECTED}")
    if url.scheme not in ("redis", "rediss"):
        _fail(f"{name} has the scheme {url.scheme!r}; expected {EXPECTED}")
    if not url.hostname or port == 0:
        _fail(f"{name} names no host; expected {EXPECTED}")
    return value


def _fail(message):
    print(f"settings: {message}", file=sys.stderr)
    raise SystemExit(2)
