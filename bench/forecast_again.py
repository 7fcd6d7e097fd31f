"""Sealed forecasts made once more from the runs that they hold: by the law alone, and with what slopes may still steepen.

``python -m bench.forecast_again STORE``: the loss and every claimed bucket of right answers of every forecast whose base model is in the store
(:mod:`bench.forecast` makes such stores), its interval either way, and what the model gave. The constants ``BEND`` of
:mod:`modelyard.scaling.power_law` and :mod:`~modelyard.scaling.capability` were chosen and checked so. The last column says what the slope did: how
much of itself it changed while compute grew e-fold, by the miss of the law alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from bench.forecast import came_to
from bench.program import program
from modelyard.commands.forecast import NOISE
from modelyard.commands.tables import table
from modelyard.formats.forecast import Predicted, read_forecast
from modelyard.scaling import capability, power_law
from modelyard.scaling.ledger import Entry, entries
from modelyard.scaling.power_law import Point, forecast
from modelyard.store.artifacts import Store

HEAD = ("forecast", "of", "measured", "law alone [95%]", "", "slopes may steepen", "", "slope's change")


class Again(NamedTuple):
    """What was forecast, forecast again."""

    name: str
    measured: float
    claimed: bool
    """Whether its seal says that the law holds."""
    alone: tuple[float, float]
    """Interval of the law alone."""
    bent: tuple[float, float]
    """With what its slope may steepen."""
    change: float
    """Of the slope while compute grew e-fold, a share of itself; steeper is positive."""

    def cells(self) -> list[str]:
        """As the table shows it."""
        shown = [(f"[{low:.2f}, {high:.2f}]", verdict((low, high), self.measured)) for low, high in (self.alone, self.bent)]
        return [self.name + ("" if self.claimed else " (no law)"), f"{self.measured:.3f}", *shown[0], *shown[1], f"{self.change:+.3f}"]


def verdict(interval: tuple[float, float], measured: float) -> str:
    """Where it lies."""
    return "inside" if interval[0] <= measured <= interval[1] else "OUTSIDE"


def again(name: str, sealed: Predicted, measured: float, at_compute: float, noise: float, bend: float) -> Again:
    """Both intervals, from the runs that the seal holds. Raises ValueError where these do not fall."""
    points = [Point(one.compute, one.loss) for one in sealed.points]
    alone, bent = (forecast(points, at_compute, 0, noise, bend=one) for one in (0.0, bend))
    x = np.log([point.compute for point in points])
    slope = float(np.polyfit(x, np.log([point.loss for point in points]), 1)[0])
    change = math.log(measured / alone.prediction) / (slope * (math.log(at_compute) - x.max()) ** 2 / 2)
    return Again(name, measured, not sealed.objection, (alone.low, alone.high), (bent.low, bent.high), change)


def of_run(store: Store, entry: Entry, bend: float) -> list[Again]:
    """The loss, and the buckets with a law that is claimed, of a forecast whose base model is there; empty where it is not."""
    if entry.base is None or entry.at_compute is None or entry.measured is None:
        return []
    seal = store.get(entry.forecast)
    directory = Path(store.fetch(seal))
    found = [again("loss", read_forecast(directory), entry.measured, entry.at_compute, NOISE, power_law.BEND)]
    if asked := seal.parents.get("continuations"):
        for bucket, measured in came_to(directory, Path(store.fetch(store.get(asked))), Path(store.fetch(store.get(entry.base)))):
            if not bucket.objection:
                name = f"{bucket.benchmark} {bucket.bucket + 1}"
                found.append(again(name, bucket, measured, entry.at_compute, capability.LEAST_NOISE, bend))
    return found


def summary(found: Sequence[Again]) -> str:
    """How many claims are covered either way, and how much slopes changed."""
    alone, bent = (
        sum(verdict(interval, one.measured) == "inside" for one, interval in zip(found, intervals, strict=True))
        for intervals in ([one.alone for one in found], [one.bent for one in found])
    )
    changed = math.sqrt(float(np.mean([one.change**2 for one in found])))
    return f"{len(found)} claimed: {alone} inside by the law alone, {bent} where slopes may steepen; slopes changed by {changed:.3f} (rms)"


def main(
    store: Annotated[str, typer.Argument(metavar="STORE")],
    bend: Annotated[float, typer.Option(help="How much of itself a bucket's slope changes while compute grows e-fold.")] = capability.BEND,
) -> None:
    """Print every forecast and count what is covered."""
    opened = Store(store, ".modelyard/scratch")
    made = [(entry.forecast, one) for entry in entries(opened) for one in of_run(opened, entry, bend)]
    print(table(HEAD, [[forecast, *one.cells()] for forecast, one in made], right=HEAD[2:3]))
    for kind, found in (
        ("losses", [one for _, one in made if one.name == "loss"]),
        ("buckets", [one for _, one in made if one.name != "loss"]),
    ):
        if claimed := [one for one in found if one.claimed]:
            print(f"{kind}: {summary(claimed)}")


if __name__ == "__main__":
    sys.exit(program(main))
