"""Which figures the model card shows, and the command that gives each one's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from modelyard.formats import json_file
from modelyard.formats.forecast import FILE as FORECAST
from modelyard.formats.forecast import SealedForecast, came_out, read_forecast
from modelyard.formats.results import Results, ends_with_feedme, ends_with_sft, read_calibration
from modelyard.release.card import figures
from modelyard.release.gates.forecast import nats_of
from modelyard.release.gates.gate import Decision


class Plot(NamedTuple):
    """A figure of the card."""

    caption: str
    svg: str
    """"" where its data are missing."""
    command: str
    """What shows or makes its numbers again."""


def plots(inputs: Mapping[str, Path], results: Results) -> list[Plot]:
    """The figures of forecast, training and calibration."""
    final = results.metrics.get("evals/base/validation_loss/loss")
    value = final.value if final else None
    base, policy = history(inputs["base"]), history(inputs["policy"])
    losses = series(base, "base/train/loss")
    path = [
        (row["policy/objective/kl"], row["policy/objective/reward"])
        for row in policy
        if "policy/objective/kl" in row and "policy/objective/reward" in row
    ]
    forecast = read_forecast(inputs["forecast"]) if "forecast" in inputs and (inputs["forecast"] / FORECAST).is_file() else None
    calibration = read_calibration(inputs["results"])
    curve = figures.loss_curve([x for x, _ in losses], [y for _, y in losses], value) if losses else ""
    walk = figures.reward_against_kl([x for x, _ in path], [y for _, y in path]) if path else ""
    return [
        Plot("Pretraining loss", curve, f"modelyard run; {stored(inputs['base'])}/history.jsonl"),
        Plot("Sealed forecast against the result", figures.forecast_plot(forecast, value) if forecast else "", "modelyard ledger"),
        *(capabilities(forecast, results) if forecast else []),
        *(
            [Plot("Reward against KL during training of the policy", walk, f"modelyard run; {stored(inputs['policy'])}/history.jsonl")]
            if not ends_with_sft(inputs) and not ends_with_feedme(inputs)
            else []
        ),
        *(
            Plot(
                f"Calibration on {name.replace('_', ' ')}: points with their 95% interval",
                figures.reliability(found),
                f"modelyard run; {stored(inputs['results'])}/calibration.json",
            )
            for name, found in calibration.items()
        ),
    ]


def capabilities(forecast: SealedForecast, results: Results) -> list[Plot]:
    """What the base model was forecast to answer rightly, a figure a benchmark."""
    found = []
    for name, same in groupby(forecast.buckets, key=lambda one: one.benchmark):
        buckets, nats = list(same), nats_of(results, name)
        if all(problem in nats for one in buckets for problem in one.problems):  # else its gate has refused
            figure = figures.capability_plot(buckets, forecast.at_compute, [came_out(one, nats) for one in buckets])
            found.append(Plot(f"Sealed forecast of {name.replace('_', ' ')} (stars: the result)", figure, "modelyard run"))
    return found


def seesaws(decision: Decision, inputs: Mapping[str, Path]) -> list[Plot]:
    """What was gained and lost, against production and against the base model; none where nothing was compared."""

    def records(model: str, role: str = "results") -> str:
        return f"{stored(inputs[role])}/records/{model}/BENCHMARK.jsonl" if role in inputs else ""

    sides = (
        ("Against production: gained and lost", decision.comparisons, records("policy", "baseline"), records("policy")),
        (
            "Contamination: the base against its twin without those documents",
            decision.contamination_gain,
            records("no_contam"),
            records("base"),
        ),
        ("Vision: against the twin that never saw an image", decision.vision, records("no_vision"), records("policy")),
        ("Alignment tax: against the base model", decision.tax, records("base"), records("policy")),
        ("Conduct: both sides of safety", decision.conduct, records("base" if ends_with_sft(inputs) else "sft"), records("policy")),
    )
    return [Plot(caption, figures.seesaw(found), f"modelyard compare {old} {new}") for caption, found, old, new in sides if found]


def stored(directory: Path) -> str:
    """``name/version`` of the artifact in ``directory``."""
    return f"{directory.parent.name}/{directory.name}"


def history(directory: Path) -> list[dict[str, float]]:
    """Logged steps of a model artifact."""
    path = directory / "history.jsonl"
    return [line.fields for line in json_file.lines(path)] if path.is_file() else []


def series(rows: list[dict[str, float]], key: str) -> list[tuple[float, float]]:
    """(step, value) pairs."""
    return [(row["step"], row[key]) for row in rows if key in row]
