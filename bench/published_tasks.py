"""Capability forecast on a published ladder: how likely models of up to 760M or 1.3B parameters find right answers, and models of up to 13B then do.

``python -m bench.published_tasks RUNS [--each]``; RUNS is ``src/scripts/paper/data/ladder-runs`` of allenai/OLMo-ladder (Bhagia et al. 2024,
arXiv:2412.04403), which holds evaluations of 25 training runs of 190M to 3B parameters and of OLMo 2 7B and 13B. A task's bits per byte are
-log2 of the probability that sampling at temperature 1 gives the right answer, divided by its bytes, the mean over items: -E[log pass rate] of the
GPT-4 report's section 3.2, all problems in one bucket. Law and interval are the line's own. The report's law, which has no floor, is
fitted beside it. Left out: pass rates of single items, which are not published.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from bench.program import REPORT, program
from modelyard.scaling.capability import BEND, LEAST_NOISE
from modelyard.scaling.power_law import Point, forecast

SCORES, TEST, VALIDATION = "eval/downstream_bpb/", "_test_", "_val_"
GFLOPS = "throughput/total_training_Gflops"
HORIZONS = ("0.5xC", "1xC", "2xC", "5xC", "10xC")
FITTED = (("190M", "370M", "760M"), ("190M", "370M", "760M", "1B"))
LARGEST = {
    "7B-4T": ("peteish7_eval_anneal.csv", 49412071424.0 * 3945065873408),
    "13B-5T": ("peteish13_eval_final.csv", 91335915520.0 * 596057 * 8388608),
}
"""File and training FLOPs of the two that have no ladder: FLOPs a token, and tokens, as the ladder's own config and files give them."""


class Evaluated(NamedTuple):
    """A finished training run."""

    compute: float
    scores: dict[str, float]
    """Task -> bits per byte of the right answer."""


class Trial(NamedTuple):
    """A task of one run, predicted from smaller runs; errors are predicted / measured - 1."""

    task: str
    target: str
    reach: float
    """FLOPs of the run over those of the largest fitted one."""
    error: float
    low: float
    high: float
    floor: float
    """What no compute takes away, bits per byte."""
    without: float
    """Error of the law that has no floor."""

    @property
    def inside(self) -> bool:
        """Whether the interval covers what was measured."""
        return self.low <= 0 <= self.high


def read(path: Path, compute: float | None = None) -> Evaluated:
    """The last evaluation of a run. Raises ValueError where the file is none of the ladder's."""
    text = path.read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ","))
    tasks = [name for name in rows[0] if name.startswith(SCORES)] if rows else []
    if not tasks or (compute is None and GFLOPS not in rows[0]):
        raise ValueError(f"{path}: no columns {SCORES}... and {GFLOPS}, as the ladder's runs have them")
    last = max((row for row in rows if row[tasks[0]]), key=lambda row: float(row.get("_step") or 0))
    asked = [name for name in tasks if name.replace(VALIDATION, TEST) not in tasks or TEST in name]
    done = compute or max(float(row[GFLOPS] or 0) for row in rows) * 1e9
    return Evaluated(done, {name.removeprefix(SCORES).removesuffix("_rc_5shot_bpb"): float(last[name]) for name in asked})


def tried(task: str, target: str, fitted: Sequence[Evaluated], large: Evaluated) -> Trial:
    """The task at the large run, forecast from the fitted ones."""
    points = [Point(run.compute, run.scores[task]) for run in fitted]
    said, measured = forecast(points, large.compute, 0, LEAST_NOISE, least=3, bend=BEND), large.scores[task]
    straight = np.polyfit(np.log([point.compute for point in points]), np.log([point.loss for point in points]), 1)
    without = float(np.exp(np.polyval(straight, np.log(large.compute))))
    error, low, high = (value / measured - 1 for value in (said.prediction, said.low, said.high))
    reach = large.compute / max(point.compute for point in points)
    return Trial(task, target, reach, error, low, high, said.law.c, without / measured - 1)


def line(trials: Sequence[Trial]) -> str:
    """What came of the tasks of one target."""

    def far(errors: Sequence[float]) -> str:
        return f"rms error {np.sqrt(np.mean(np.square(errors))):.1%}, {sum(error < 0 for error in errors)} too low"

    inside, width = sum(one.inside for one in trials), np.median([(one.high - one.low) / 2 for one in trials])
    own, without = far([one.error for one in trials]), far([one.without for one in trials])
    return (
        f"{trials[0].target:9} {trials[0].reach:4.0f} times: {inside} of {len(trials)} inside, median half-width {width:.1%}, {own}; "
        f"without a floor {without}"
    )


def main(
    runs: Annotated[Path, typer.Argument(metavar="RUNS")],
    each: Annotated[bool, typer.Option("--each", help="Print every task.")] = False,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Forecast every task at every larger model, and count what is covered."""
    ladder = {(size, horizon): read(runs / f"{size}-{horizon}.csv") for size in (*FITTED[1], "3B") for horizon in HORIZONS}
    targets = {f"3B-{horizon}": ladder["3B", horizon] for horizon in HORIZONS}
    targets |= {name: read(runs / file, compute) for name, (file, compute) in LARGEST.items()}
    made: list[Trial] = []
    for sizes in FITTED:
        fitted = [ladder[size, horizon] for size in sizes for horizon in HORIZONS]
        print(f"from {len(fitted)} runs, {sizes[0]} to {sizes[-1]}, {len(HORIZONS)} horizons")
        beyond = {name: run for name, run in targets.items() if run.compute > max(one.compute for one in fitted)}
        for name, run in beyond.items():
            trials = [tried(task, name, fitted, run) for task in run.scores if task in fitted[0].scores]
            made += trials
            print("  " + line(trials))
            for one in trials if each else []:
                shown = f"{one.error:+.1%} [{one.low:+.1%}, {one.high:+.1%}]{'' if one.inside else ' OUTSIDE'}"
                print(f"    {one.task:28} {shown}, floor {one.floor:.2f}; without one {one.without:+.1%}")
    print(f"{sum(one.inside for one in made)} of {len(made)} inside")
    if report:
        report.write_text(json.dumps([one._asdict() for one in made], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(program(main))
