"""The ledger: every forecast that a store holds, what came of it, and how far off it was. Read from the artifacts, so it cannot be prettied up.

A forecast counts as sealed when its artifact was committed before the model
that it is of was begun; a model that was begun earlier is shown as such and left out of the summary. Of right answers it says what the gate found,
so only where a decision was made. Left out: forecasts that were deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact, ArtifactError

PREDICTED = ("forecast/main/loss", "forecast/main/loss_low", "forecast/main/loss_high")
"""Metrics of a forecast: what it says, and its interval."""


JUDGED = "release/forecast/"
"""Metrics of a decision: for every benchmark that was forecast ``claimed`` and ``missed``, how many of its buckets."""


class Entry(NamedTuple):
    """One forecast, and the run that it was of (None: not finished yet)."""

    forecast: str
    """``forecast/version``."""
    sealed_at: float | None
    """Seconds since 1970."""
    at_compute: float | None
    """FLOPs that it was for."""
    reach: float | None
    """at_compute over the compute of the largest fitted run."""
    predicted: float
    low: float
    high: float
    base: str | None
    """``base/version``."""
    measured: float | None
    """Held-out loss of that run."""
    sealed_before: bool | None
    """Whether the seal came before the run began."""
    claimed: int | None
    """Buckets of right answers for which a law was claimed (None: nothing was decided of that run)."""
    missed: int | None
    """Those that came out beside their interval."""

    @property
    def error(self) -> float | None:
        """predicted / measured - 1."""
        return None if self.measured is None else self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the interval covers what was measured."""
        return None if self.measured is None else self.low <= self.measured <= self.high


def entries(store: Store) -> list[Entry]:
    """All forecasts of the store, oldest first; one entry for each run that a forecast was of."""
    bases, decisions = _all(store, "base"), _all(store, "decision")
    found = []
    for forecast in _all(store, "forecast"):
        runs: Sequence[Artifact | None] = [base for base in bases if base.parents.get("forecast") == forecast.ref] or [None]
        found += [_entry(forecast, base, decisions) for base in runs]
    return sorted(found, key=lambda entry: (entry.sealed_at or 0.0, entry.forecast))


def _all(store: Store, name: str) -> list[Artifact]:
    return [artifact for version in store.storage.names(name) if (artifact := store.find(name, version))]


def _entry(forecast: Artifact, base: Artifact | None, decisions: Sequence[Artifact]) -> Entry:
    metrics = forecast.metrics
    if lacking := [key for key in PREDICTED if key not in metrics]:
        raise ArtifactError(f"{forecast.ref}: no metric {lacking[0]}")
    predicted, low, high = (metrics[key] for key in PREDICTED)
    before = None
    if base is not None and forecast.finished is not None and base.started is not None:
        before = forecast.finished <= base.started
    of_run = [one for one in decisions if base is not None and one.parents.get("base") == base.ref]
    claimed, missed = (
        sum(int(value) for key, value in of_run[-1].metrics.items() if key.startswith(JUDGED) and key.endswith(what)) if of_run else None
        for what in ("/claimed", "/missed")
    )
    return Entry(
        forecast=forecast.ref,
        sealed_at=forecast.finished,
        at_compute=metrics.get("forecast/main/at_flops"),
        reach=metrics.get("forecast/ladder/reach"),
        predicted=predicted,
        low=low,
        high=high,
        base=base.ref if base else None,
        measured=base.metrics.get("base/validation/loss") if base else None,
        sealed_before=before,
        claimed=claimed,
        missed=missed,
    )
