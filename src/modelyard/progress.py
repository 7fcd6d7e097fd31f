"""How a stage says how far it is: one call with done, total and metrics; what becomes of it (bar, MLflow, nothing) is the caller's choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Report(Protocol):
    """Receives progress. ``done`` and ``total`` count ``unit``s; ``metrics`` are ``stage/group/name`` -> value at this point."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        """Take one progress event."""


def silent(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
    """A :class:`Report` that drops everything."""
