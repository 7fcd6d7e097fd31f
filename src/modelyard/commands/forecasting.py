"""What ``modelyard forecast`` does: select runs, fit a law to them, predict held-back runs and a larger one.

The laws are :mod:`modelyard.scaling.power_law`'s and :mod:`modelyard.scaling.chinchilla`'s, the reading of tables
:mod:`modelyard.scaling.runs`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from modelyard.commands.forecast import Asked
from modelyard.scaling import chinchilla, power_law, runs, target
from modelyard.scaling.chinchilla import Run
from modelyard.scaling.power_law import Forecast, Point, sealed

TARGET = ("prediction", "low", "high", "at_compute")
"""What the result holds only when a target was named."""


class Judged(NamedTuple):
    """A held-back run, its prediction, and what was measured."""

    run: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the interval covers what was measured."""
        return self.low <= self.measured <= self.high


class Selected(NamedTuple):
    """Runs to fit, runs held back, and what was allowed that would have been refused."""

    fitted: runs.Table
    held: runs.Table | None
    loss: str
    warnings: tuple[str, ...]


def choose(asked: Asked) -> Selected:
    """Read the file, select, and refuse what is not comparable. Raises ValueError."""
    table = runs.read_table(asked.points)
    picked = runs.select(table, [runs.parse_selection(text) for text in asked.fit])
    held = runs.select(picked, [runs.parse_selection(text) for text in asked.judge]) if asked.judge else None
    back = {row.line for row in held.rows} if held else set()
    fitted = picked._replace(rows=tuple(row for row in picked.rows if row.line not in back))
    if not fitted.rows:
        raise ValueError(f"{asked.points}: --judge holds back every run that --fit selects")
    return Selected(fitted, held, runs.loss_column(table, asked.loss_column), target.comparable(picked, fitted, asked.target, asked.joint))


def in_compute(chosen: Selected, asked: Asked) -> tuple[dict[str, Any], str]:
    """L(C): the result as JSON values, and the page for the terminal. Raises ValueError."""
    table, held = chosen.fitted, chosen.held.rows if chosen.held else ()
    column = runs.required(table, runs.COMPUTE, "training compute")
    points = [Point(table.number(row, column), table.number(row, chosen.loss)) for row in table.rows]
    if asked.target.params is not None:
        raise ValueError("--at-params belongs to --joint; L(C) is asked with --at FLOPS")
    if asked.target.compute is None and not held:
        raise ValueError("say --at FLOPS (the compute to predict at) or --judge COLUMN=VALUE (runs to hold back)")

    def predict(compute: float) -> Forecast:
        return power_law.forecast(points, compute, asked.seed, asked.noise, least=3 if asked.allow_few else 4)

    judged = []
    for row in held:
        at = predict(table.number(row, column))
        judged.append(Judged(table.name(row), at.prediction, at.low, at.high, table.number(row, chosen.loss)))
    made = predict(asked.target.compute) if asked.target.compute is not None else predict(max(table.number(row, column) for row in held))
    content = sealed(made).model_dump(mode="json")
    result = content if asked.target.compute is not None else {key: value for key, value in content.items() if key not in TARGET}
    law = f"L(C) = {made.law.a:.4g} C^{made.law.b:.4f} + {made.law.c:.4f}, {len(points)} runs of {points_range(points)} FLOPs\n"
    largest = _backtest_text(content["backtest"])
    final = (
        f"forecast at {made.at_compute:.4g} FLOPs: {made.prediction:.5f} [{made.low:.5f}, {made.high:.5f}]\n"
        if asked.target.compute
        else ""
    )
    warnings = [*chosen.warnings, *filter(None, [made.objection])]
    return {**result, "warnings": warnings, **_judged_json(judged)}, law + largest + _judged_text(judged) + final


def joint(chosen: Selected, asked: Asked) -> tuple[dict[str, Any], str]:
    """L(N, D): the result as JSON values, and the page for the terminal. Raises ValueError."""
    table, held = chosen.fitted, chosen.held.rows if chosen.held else ()
    tokens = runs.required(table, runs.TOKENS, "training tokens")

    def read(row: runs.Row) -> Run:
        return Run(runs.parameters(table, row), table.number(row, tokens), table.number(row, chosen.loss))

    wanted = _joint_target(asked, bool(held))
    points = [read(row) for row in table.rows]
    fit = chinchilla.fit_joint(points, asked.seed, asked.noise)
    judged = []
    for row in held:
        run = read(row)
        at = fit.predict(run.params, run.tokens)
        judged.append(Judged(table.name(row), at.prediction, at.low, at.high, run.loss))
    law, test = fit.law, _joint_backtest(points)
    result: dict[str, Any] = {**law._asdict(), "params_from": table.find(runs.PARAMS) or "train_flops / (6 train_tokens)", "backtest": test}
    page = (
        f"L(N, D) = {law.E:.4f} + {law.A:.4g}/N^{law.alpha:.4f} + {law.B:.4g}/D^{law.beta:.4f}, {len(points)} runs of "
        f"{points_range([Point(p.compute, p.loss) for p in points])} FLOPs, N from {result['params_from']}\n"
    )
    if wanted:
        at = fit.predict(*wanted)
        result = {"prediction": at.prediction, "low": at.low, "high": at.high, "at_params": at.params, "at_tokens": at.tokens, **result}
        final = f"forecast of {at.params:.4g} parameters on {at.tokens:.4g} tokens: {at.prediction:.5f} [{at.low:.5f}, {at.high:.5f}]\n"
    return {**result, "warnings": list(chosen.warnings), **_judged_json(judged)}, page + _backtest_text(test) + _judged_text(judged) + (
        final if wanted else ""
    )


def _joint_target(asked: Asked, held: bool) -> tuple[float, float] | None:
    """(N, D) that was asked for; None when only held-back runs are to be predicted. Raises ValueError."""
    at, params, tokens = asked.target.compute, asked.target.params, asked.target.tokens
    if not asked.target.named and held:
        return None
    if tokens is not None and at is None and params is not None:
        return params, tokens
    if tokens is not None and at is not None and params is None:
        return at / (6 * tokens), tokens
    raise ValueError("--joint wants --at-tokens D with either --at-params N or --at FLOPS, or --judge COLUMN=VALUE")


def _joint_backtest(points: Sequence[Run]) -> dict[str, float] | None:
    """The run of most compute, predicted from the others; None where they are too few or too alike."""
    largest = max(points, key=lambda run: run.compute)
    try:
        predicted = chinchilla.fit_law([run for run in points if run is not largest])(largest.params, largest.tokens)
    except ValueError:
        return None
    return {"compute": largest.compute, "predicted": predicted, "measured": largest.loss, "error": predicted / largest.loss - 1}


def _backtest_text(test: Mapping[str, float] | None) -> str:
    if test is None:
        return "backtest: none, too few runs without the largest\n"
    run = f"the largest run left out ({test['compute']:.4g} FLOPs)"
    return f"backtest: {run}, predicted {test['predicted']:.5f}, measured {test['measured']:.5f}: {test['error']:+.2%}\n"


def points_range(points: Sequence[Point]) -> str:
    """Smallest and largest compute."""
    return f"{min(points).compute:.4g} to {max(points).compute:.4g}"


def _judged_json(judged: Sequence[Judged]) -> dict[str, Any]:
    return {"judged": [{**one._asdict(), "error": one.error, "inside": one.inside} for one in judged]} if judged else {}


def _judged_text(judged: Sequence[Judged]) -> str:
    return "".join(
        f"held back {one.run}: predicted {one.predicted:.5f} [{one.low:.5f}, {one.high:.5f}], measured {one.measured:.5f}: "
        f"{one.error:+.2%}, {'inside' if one.inside else 'outside'}\n"
        for one in judged
    )
