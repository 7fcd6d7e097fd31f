"""The forecast's intervals on published ladders: every size predicted from the smaller ones of its horizon, and by the joint law.

``python -m bench.published_ladders [POINTS.csv ...] [--models DIR]``. A POINTS file is what ``modelyard forecast`` reads, with a horizon and a
size column; DIR is ``exp_data/models`` of mlfoundations/scaling (Gadre et al. 2024, arXiv:2403.08540), 104 models of three data mixes. Runs of
one size share its shape and its learning rate, so the horizons of a ladder are no independent trials: how alike their deviations are is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from bench.program import program
from modelyard.commands.forecast import NOISE
from modelyard.scaling import runs
from modelyard.scaling.chinchilla import Run, fit_joint, fit_law
from modelyard.scaling.power_law import Point, fit, forecast

VALIDATION = "eval_data/c4_val/"
"""Whose loss is taken of a model of mlfoundations/scaling: the only set of its eight with more than one shard."""


class Published(NamedTuple):
    """One finished run of somebody's ladder."""

    mix: str
    horizon: str
    size: str
    run: Run


class Trial(NamedTuple):
    """A run, predicted from smaller ones."""

    law: str
    fitted: int
    """Sizes."""
    error: float
    """predicted / measured - 1."""
    low: float
    """Of the interval, likewise."""
    high: float

    @property
    def inside(self) -> bool:
        """Whether the interval covers what was measured."""
        return self.low <= 0 <= self.high


def read_points(path: Path) -> list[Published]:
    """The runs of a POINTS file. Raises ValueError as the command does, and without a column for size or horizon."""
    table = runs.read_table(path)
    tokens, horizon = runs.required(table, runs.TOKENS, "training tokens"), runs.required(table, runs.HORIZON, "the horizon")
    size, loss = runs.required(table, ("size",), "the size"), runs.loss_column(table, None)
    return [
        Published(
            path.parent.name,
            row.cells[horizon],
            row.cells[size],
            Run(runs.parameters(table, row), table.number(row, tokens), table.number(row, loss)),
        )
        for row in table.rows
    ]


def read_models(directory: Path) -> list[Published]:
    """The runs of mlfoundations/scaling, C4 validation loss; the JSON's keys are its own. Raises ValueError where there are none."""
    found = []
    for path in sorted(directory.glob("*.json")):
        model = json.loads(path.read_text("utf-8"))
        settings = model["hyperparameters"]
        loss = next(result["loss"] for result in model["results"] if VALIDATION in result["val_data"][0])
        run = Run(float(settings["params"]), float(settings["tokens"]), float(loss))
        found.append(Published(model["dataset_name"], f"{float(settings['chinchilla_multiplier']):g}", f"{run.params:.3g}", run))
    if not found:
        raise ValueError(f"{directory}: no *.json of a model in it")
    return found


def in_compute(ladder: Sequence[Run]) -> list[Trial]:
    """Every run from all smaller ones of its ladder, which are at least three."""
    ordered = sorted(ladder)
    made = []
    for count in range(3, len(ordered)):
        points, held = [Point(run.compute, run.loss) for run in ordered[:count]], ordered[count]
        said = forecast(points, held.compute, 0, NOISE, least=3)
        made.append(Trial("L(C)", count, *(value / held.loss - 1 for value in (said.prediction, said.low, said.high))))
    return made


def jointly(mix: Sequence[Published]) -> list[Trial]:
    """The runs of every size from those of all smaller ones, which are at least three."""
    sizes = sorted(({one.size: [of.run for of in mix if of.size == one.size] for one in mix}).values())
    made = []
    for count in range(3, len(sizes)):
        fitted = fit_joint([run for size in sizes[:count] for run in size], 0, NOISE)
        for run in sizes[count]:
            said = fitted.predict(run.params, run.tokens)
            made.append(Trial("L(N, D)", count, *(value / run.loss - 1 for value in (said.prediction, said.low, said.high))))
    return made


def shared_deviation(ladders: Sequence[Sequence[Run]]) -> float:
    """Share of the residuals' variance around each ladder's own law that all ladders have in common, size by size."""
    residuals = []
    for ladder in ladders:
        points = [Point(run.compute, run.loss) for run in sorted(ladder)]
        law = fit(points)
        residuals.append([point.loss / law(point.compute) - 1 for point in points])
    table = np.array(residuals)
    return float((table.mean(0) ** 2).mean() / (table**2).mean())


def by_horizon(mix: Sequence[Published]) -> str:
    """How far the joint law of all runs lies from those of each horizon, the mean over sizes; a form that holds leaves no pattern."""
    law = fit_law([one.run for one in mix])
    horizons = sorted({one.horizon for one in mix}, key=_order)
    errors = {h: [law(one.run.params, one.run.tokens) / one.run.loss - 1 for one in mix if one.horizon == h] for h in horizons}
    return ", ".join(f"{np.mean(found):+.2%} at {horizon}" for horizon, found in errors.items())


def table(trials: Sequence[Trial]) -> str:
    """A line for each law and number of fitted sizes."""
    lines = []
    for law, fitted in sorted({(trial.law, trial.fitted) for trial in trials}):
        of = [trial for trial in trials if (trial.law, trial.fitted) == (law, fitted)]
        error = np.sqrt(np.mean([trial.error**2 for trial in of]))
        width = np.median([(trial.high - trial.low) / 2 for trial in of])
        inside, low = sum(trial.inside for trial in of), sum(trial.error < 0 for trial in of)
        lines.append(
            f"{law:8} from {fitted} sizes: {inside} of {len(of)} inside; rms error {error:.2%}, median half-width {width:.2%}, {low} too low"
        )
    return "\n".join(lines)


def main(
    points: Annotated[list[Path], typer.Argument(help="As modelyard forecast reads them, with columns size and horizon.")] = [],
    models: Annotated[Path | None, typer.Option(help="exp_data/models of mlfoundations/scaling.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Print every prediction.")] = False,
) -> None:
    """Predict, count what is covered, and say how alike the horizons are."""
    published = [run for path in points for run in read_points(path)] + (read_models(models) if models else [])
    if not published:
        raise ValueError("name a POINTS file or --models DIR")
    trials: list[Trial] = []
    for mix in sorted({one.mix for one in published}):
        of = [one for one in published if one.mix == mix]
        ladders = {
            horizon: [one.run for one in of if one.horizon == horizon] for horizon in sorted({one.horizon for one in of}, key=_order)
        }
        made = [(f"horizon {horizon}", in_compute(ladder)) for horizon, ladder in ladders.items()]
        made.append(("joint", jointly(of)))
        alike = [ladder for ladder in ladders.values() if len(ladder) == 4]
        print(f"{mix}: {len(of)} runs; {shared_deviation(alike):.0%} of the deviations' variance is the same at all {len(alike)} horizons")
        print(f"  joint law of all runs against them: {by_horizon(of)}")
        for name, found in made:
            trials += found
            for trial in found if each else []:
                shown = f"{trial.error:+.2%} [{trial.low:+.2%}, {trial.high:+.2%}]{'' if trial.inside else ' OUTSIDE'}"
                print(f"  {name:14} from {trial.fitted} sizes  {shown}")
    print(table(trials))


def _order(horizon: str) -> float:
    """Of ``10xC`` and ``0.5``."""
    return float(horizon.removesuffix("xC"))


if __name__ == "__main__":
    sys.exit(program(main))
