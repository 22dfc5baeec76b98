"""Typed calls of tasks that celeriac's workers serve.

Made by `celeriac schema --python`; make it again instead of changing it. The tasks need not be importable here: they are sent by
their names through the current Celery app.
"""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any, Generic, Literal, NotRequired, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar

import celery

P = ParamSpec("P")
R = TypeVar("R")
Returned = TypeVar("Returned", covariant=True)


class Result(Protocol[Returned]):
    """What `celery.result.AsyncResult` is to a type checker."""

    id: str
    state: str

    def get(self, timeout: float | None = None) -> Returned: ...


class Task(Generic[P, R]):
    """A task by its name; its parameters and result are those of the function."""

    def __init__(self, function: Callable[P, R], name: str) -> None:
        self.name = name

    def s(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Celery's signature of a call, to be linked, grouped, or sent with options: `task.s(1).apply_async(countdown=5)`."""
        return celery.signature(self.name, args, kwargs)

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Sends a call."""
        result: Result[R] = self.s(*args, **kwargs).apply_async()
        return result
