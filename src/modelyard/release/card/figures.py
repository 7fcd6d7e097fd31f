"""The model card's figures as inline SVG: loss curve, sealed forecasts against the result, reward against KL, calibration, seesaw.

Each takes plain numbers and returns one ``<svg>`` string; nothing global is touched and the same numbers give the same bytes. Left out:
interaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from modelyard.formats.forecast import SealedBucket, SealedForecast
from modelyard.formats.results import Reliability
from modelyard.page_style import BAD, FAINT, FIRST, GRID, INK, SECOND, THIRD, figure
from modelyard.release.compare import Comparison
from modelyard.stats.calibration import Bin, joined
from modelyard.stats.estimate import proportion

FEWEST = 10
"""Predictions of a point of the calibration figure, where there are as many."""


def draw(paint: Callable[[Any], None], width: float = 4.6, height: float = 3.1) -> str:
    """Run ``paint`` on fresh axes; the figure as an ``<svg>`` element."""
    return figure(lambda drawing: paint(drawing.add_subplot()), width, height)


def loss_curve(steps: Sequence[float], losses: Sequence[float], final: float | None) -> str:
    """Training loss by step, with the held-out loss at the end."""

    def paint(axes: Any) -> None:
        axes.plot(steps, losses, color=FIRST, linewidth=1.6, label="training")
        if final is not None:
            axes.axhline(final, color=SECOND, linestyle="--", linewidth=1.2, label=f"held out {final:.3f}")
        axes.set(xlabel="optimizer step", ylabel="loss, nats a token")
        axes.legend()

    return draw(paint)


def forecast_plot(forecast: SealedForecast, final: float | None) -> str:
    """The fitted law through the small runs, the sealed prediction with its interval, and what came out."""
    points, at = forecast.points, forecast.at_compute
    compute = np.geomspace(min(p.compute for p in points) / 1.5, at * 1.5, 100)

    def paint(axes: Any) -> None:
        axes.plot(compute, forecast.a * compute**forecast.b + forecast.c, color=FAINT, linewidth=1.2, label="$L = aC^b + c$")
        axes.plot([p.compute for p in points], [p.loss for p in points], "o", color=FIRST, label="small runs")
        middle, low, high = forecast.prediction, forecast.low, forecast.high
        error = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
        axes.errorbar([at], [middle], yerr=error, fmt="s", color=THIRD, capsize=5, label=f"sealed forecast {middle:.3f}")
        if final is not None:
            axes.plot([at], [final], "*", color=SECOND, markersize=14, label=f"result {final:.3f}")
        axes.set(xscale="log", xlabel="training compute, FLOP", ylabel="held-out loss, nats a token")
        axes.legend()

    return draw(paint)


def capability_plot(buckets: Sequence[SealedBucket], at: float, measured: Sequence[float]) -> str:
    """The pass rate of a benchmark's buckets by compute: small runs, law, sealed forecast with its interval, and what was ``measured``."""

    def paint(axes: Any) -> None:
        for one, found, colour in zip(buckets, measured, cycle((FIRST, THIRD, BAD))):
            compute = np.geomspace(min(p.compute for p in one.points) / 1.5, at * 1.5, 100)
            axes.plot(compute, np.exp(-(one.a * compute**one.b + one.c)), color=colour, linewidth=1.0, alpha=0.5)
            axes.plot([p.compute for p in one.points], [np.exp(-p.loss) for p in one.points], ".", color=colour, markersize=4)
            middle, low, high = (np.exp(-x) for x in (one.prediction, one.high, one.low))
            text = f"bucket {one.bucket + 1}{' (no law)' if one.objection else ''}: {len(one.problems)} items"
            axes.errorbar([at], [middle], yerr=[[middle - low], [high - middle]], fmt="s", color=colour, capsize=5, label=text)
            axes.plot([at], [np.exp(-found)], "*", color=INK, markersize=10)
        axes.set(xscale="log", yscale="log", xlabel="training compute, FLOP", ylabel="pass rate, geometric mean")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))  # above, where it covers no point

    return draw(paint)


def reward_against_kl(kl: Sequence[float], reward: Sequence[float]) -> str:
    """The path of a policy that samples: reward gained for distance from the SFT model, first step to last."""

    def paint(axes: Any) -> None:
        axes.plot(kl, reward, color=FAINT, linewidth=1.0)
        axes.plot(kl, reward, "o", color=FIRST, markersize=3.5, label="logged steps")
        axes.plot(kl[:1], reward[:1], "s", color=THIRD, markersize=7, label="first")
        axes.plot(kl[-1:], reward[-1:], "^", color=SECOND, markersize=8, label="last")
        axes.set(xlabel="KL(policy || SFT), nats a sequence", ylabel="reward")
        axes.legend()

    return draw(paint)


def seesaw(comparisons: Sequence[Comparison]) -> str:
    """Gains to the right, losses to the left, one bar a benchmark with its interval; the mark is the loss put up with."""
    colours = {"better": THIRD, "worse": BAD, "same": FAINT, "not enough items": GRID}

    def paint(axes: Any) -> None:
        places = list(range(len(comparisons)))
        for place, c in zip(places, comparisons, strict=True):
            reach = [[max(0.0, c.difference - c.low)], [max(0.0, c.high - c.difference)]]
            axes.barh(place, c.difference, color=colours[c.verdict], height=0.55)
            axes.errorbar([c.difference], [place], xerr=reach, fmt="none", ecolor=INK, capsize=4, linewidth=1.2)
            axes.plot([-c.tolerance], [place], "|", color=SECOND, markersize=18, markeredgewidth=2)
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set(xlabel="difference of mean score (right: better)")
        axes.set_yticks(places, [f"{c.benchmark}\n{c.verdict}, n={c.n}" for c in comparisons])
        axes.invert_yaxis()

    return draw(paint, height=0.9 + 0.5 * len(comparisons))


def reliability(found: Mapping[str, Reliability]) -> str:
    """Confidence against accuracy on one benchmark, one line a model; a point has ``FEWEST`` items at least, and its share Wilson's interval."""

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.0)
        for name, colour, mark in (("base", FIRST, "o"), ("sft", THIRD, "s"), ("policy", SECOND, "^")):
            if name not in found:
                continue
            bins = joined(found[name].bins, FEWEST)
            shares = [proportion(b.accuracy * b.n, b.n) for b in bins]
            reach = [[max(0.0, s.value - s.low) for s in shares], [max(0.0, s.high - s.value) for s in shares]]
            x, y = [b.confidence for b in bins], [s.value for s in shares]
            text = f"{name}, error {found[name].error:.3f}; {items_of(bins)}"
            axes.errorbar(x, y, yerr=reach, marker=mark, color=colour, markersize=4.5, elinewidth=0.8, capsize=2, label=text)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))  # above, where it covers no interval

    return draw(paint, height=3.8)


def items_of(bins: Sequence[Bin]) -> str:
    """``12 to 40 items a point``."""
    counts = sorted(b.n for b in bins)
    return (
        "no items"
        if not counts
        else f"{counts[0]} items a point"
        if counts[0] == counts[-1]
        else f"{counts[0]} to {counts[-1]} items a point"
    )
