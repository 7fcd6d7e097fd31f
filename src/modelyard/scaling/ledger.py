"""The ledger: every forecast that a store holds, what came of it, and how far off it was. Read from the artifacts, so it cannot be prettied up.

``python -m modelyard.commands.ledger [--store URL] [--json OUT]``. A forecast counts as sealed when its artifact was committed before the model
that it is of was begun; a model that was begun earlier is shown as such and left out of the summary. Left out: forecasts that were deleted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.store.artifacts import Artifact, Store
from modelyard.execution import ExecutionConfig
from modelyard.config import complaint


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
    bases = _all(store, "base")
    found = []
    for forecast in _all(store, "forecast"):
        runs: Sequence[Artifact | None] = [base for base in bases if base.parents.get("forecast") == forecast.ref] or [None]
        found += [_entry(forecast, base) for base in runs]
    return sorted(found, key=lambda entry: (entry.sealed_at or 0.0, entry.forecast))


def _all(store: Store, name: str) -> list[Artifact]:
    return [artifact for version in store.storage.names(name) if (artifact := store.find(name, version))]


def _entry(forecast: Artifact, base: Artifact | None) -> Entry:
    metrics = forecast.metrics
    before = None
    if base is not None and forecast.finished is not None and base.started is not None:
        before = forecast.finished <= base.started
    return Entry(
        forecast=forecast.ref,
        sealed_at=forecast.finished,
        at_compute=metrics.get("forecast/main/at_flops"),
        reach=metrics.get("forecast/ladder/reach"),
        predicted=metrics["forecast/main/loss"],
        low=metrics["forecast/main/loss_low"],
        high=metrics["forecast/main/loss_high"],
        base=base.ref if base else None,
        measured=base.metrics.get("base/validation/loss") if base else None,
        sealed_before=before,
    )


def page(found: Sequence[Entry]) -> str:
    """The ledger as text, and its summary."""
    lines = [f"{'forecast':26} {'sealed (UTC)':17} {'FLOPs':>9} {'reach':>6} {'predicted [95%]':>26} {'measured':>9} {'error':>8}  seal"]
    for one in found:
        sealed = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.sealed_at)) if one.sealed_at else "not recorded"
        flops = f"{one.at_compute:.3g}" if one.at_compute else "?"
        reach = f"{one.reach:.0f}x" if one.reach else "?"
        interval = f"{one.predicted:.4f} [{one.low:.4f}, {one.high:.4f}]"
        measured = "-" if one.measured is None else f"{one.measured:.4f}"
        error = "-" if one.error is None else f"{one.error:+.2%}"
        seal = {None: "-" if one.base is None else "unknown", True: "before the run", False: "AFTER THE RUN BEGAN"}[one.sealed_before]
        lines.append(f"{one.forecast:26} {sealed:17} {flops:>9} {reach:>6} {interval:>26} {measured:>9} {error:>8}  {seal}")
    judged = [one for one in found if one.error is not None and one.sealed_before]
    if judged:
        typical = statistics.median(abs(one.error or 0.0) for one in judged)
        lines.append(f"{len(judged)} judged: median error {typical:.2%}, {sum(bool(one.inside) for one in judged)} inside their interval")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 2 when the store cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.ledger", description="All forecasts, what came of them, and the errors."
    )
    parser.add_argument("--store", default=ExecutionConfig().store, help="URL of the artifact store (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the entries go as JSON")
    options = parser.parse_args(arguments)
    try:
        found = entries(Store(options.store, ExecutionConfig().scratch))
        if options.json:
            rows = [{**entry._asdict(), "error": entry.error, "inside": entry.inside} for entry in found]
            options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"ledger: {complaint(error)}\n")
        return 2
    sys.stdout.write(page(found) if found else f"no forecasts in {options.store}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
