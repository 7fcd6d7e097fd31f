"""Limits that a config sets for the metrics of a benchmark, whether versions can be compared on it or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelyard.formats.records import score_of
from modelyard.formats.results import Results
from modelyard.release.gates.gate import Objection, metric
from modelyard.release.gates.measured import NAMED, PRODUCTION, SAFETY, SHOWN_AS, before, compared, corrected_share, empty, first
from modelyard.release.limits import ReleaseConfig
from modelyard.stats.misclassification import largest_rise


def failed_items(results: Results, name: str, key: str, mean: float) -> list[str]:
    """The items that earned nothing of a metric that is below its limit; none where the records do not hold it."""
    rows = results.of("policy").get(name, ())
    values = [row.get("values", {}).get(key, score_of(row)) for row in rows]
    return [str(row["item"]) for row, value in zip(rows, values, strict=True) if value == 0] if is_mean(values, mean) else []


REPLIED = {"over_refusal": ("answer", "refusal"), "unsafe_answered": ("refusal", "answer")}
"""Share of replies that are not what the prompt calls for -> what it calls for, and what they are."""


def guilty_items(results: Results, name: str, key: str, mean: float) -> list[str]:
    """The items that make up a share that is above its limit; none where the records do not hold it."""
    rows = results.of("policy").get(name, ())
    if key in REPLIED:
        wanted, given = REPLIED[key]
        rows = [row for row in rows if row.get("target") == wanted]
        counted = [float(row.get("parsed") == given) for row in rows]
    else:
        counted = [row.get("values", {}).get(key, 1 - score_of(row)) for row in rows]
    if not set(counted) <= {0.0, 1.0} or not is_mean(counted, mean):
        return []
    return [str(row["item"]) for row, value in zip(rows, counted, strict=True) if value]


def is_mean(values: Sequence[float], mean: float) -> bool:
    """Whether ``mean`` is that of the values."""
    return bool(values) and abs(sum(values) / len(values) - mean) <= 1e-6


def failing(benchmark: str, key: str, items: Sequence[str]) -> list[Objection]:
    """What a missed limit of a metric has against the release, with production's answers beside; nothing where no item is known."""
    some = tuple(dict.fromkeys(items))
    return [Objection(benchmark=benchmark, lost=False, against=PRODUCTION, metric=key, n=len(some), items=some[:NAMED])] if some else []


def limited(results: Results, config: ReleaseConfig, *, safety: bool) -> list[str]:
    """The gated benchmarks that are held to limits: :func:`compared`, and those with limits that versions cannot be compared on."""
    others = [
        name
        for name, measured in results.benchmarks.items()
        if not measured.between_versions
        and config.of(name).own.gated
        and (measured.aspect == SAFETY) is safety
        and config.of(name).own.limited
    ]
    return [*compared(results, config, safety=safety), *others]


class Limited(NamedTuple):
    """Whether metrics are inside their limits."""

    good: bool
    said: list[str]
    """A line on each."""
    numbers: dict[str, float]
    """``{benchmark}/{metric}`` -> the policy's value."""
    objections: list[Objection]
    """Items of those that are outside, where the records hold them."""


def under_limits(results: Results, names: Sequence[str], config: ReleaseConfig) -> Limited:
    """Every metric that ``limits`` names: the interval's end, and how far it has moved from the SFT model's. Raises RefusedError where
    one is missing or unfit to decide."""
    good, said, numbers, objections = True, list[str](), dict[str, float](), list[Objection]()
    for name in names:
        for key in config.of(name).own.limited:
            found = under_limit(results, name, key, config)
            good = good and found.good
            said.append(found.said)
            objections += found.objections
            numbers[f"{name}/{key}"] = found.value
    return Limited(good, said, numbers, objections)


class _Found(NamedTuple):
    """Whether one metric is inside its limits."""

    good: bool
    said: str
    value: float
    objections: list[Objection]


def under_limit(results: Results, name: str, key: str, config: ReleaseConfig) -> _Found:
    """One metric of a benchmark; raises RefusedError as :func:`under_limits`."""
    held, share = config.of(name), f"evals/policy/{name}/{key}" in results.shares
    own = held.own
    what = name if key == name else f"{name} {key}"
    value = seen = metric(results, f"evals/policy/{name}/{key}", held.min_items)
    if error := results.benchmarks[name].judge_errors.get(key):
        value = corrected_share(seen, error, what)
    form = ".1%" if share or (value.low >= 0 and value.high <= 1) else ".3f"
    text = f"{what} {value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"
    text += f" (seen {seen.value:{form}} by a judge that {error})" if error else ""
    above = below = False
    if key in own.max:
        above = value.high > own.max[key]
        text += f", at most {own.max[key]:{form}}{empty(share and own.max[key] >= 1)}"
    if key in own.min:
        below = value.low < own.min[key]
        text += f", at least {own.min[key]:{form}}{empty(share and own.min[key] <= 0)}"
    for sign, limits in ((1, own.max_increase), (-1, own.max_decrease)):
        if key not in limits:
            continue
        moved = sign * (seen.value - metric(results, f"evals/{before(results)}/{name}/{key}", held.min_items).value)
        moved = (largest_rise(moved, error) or 0.0) if error else moved
        above, below = above or (sign > 0 and moved > limits[key]), below or (sign < 0 and moved > limits[key])
        most = "up to " if error and moved > 0 else ""
        limit = f"{'at most' if sign > 0 else 'no less than'} {sign * limits[key] + 0.0:+{form}}{empty(share and limits[key] >= 1)}"
        text += f", {most}{sign * moved + 0.0:+{form}} against {SHOWN_AS[before(results)]}, {limit}"
    failed = failed_items(results, name, key, seen.value) if below else []
    missed = f" MISSED{f' ({len(failed)} items failed: {first(failed)})' if failed else ''}" if below else ""
    guilty = guilty_items(results, name, key, seen.value) if above else []
    said = text + (" EXCEEDED" if above else "") + missed
    return _Found(not (above or below), said, value.value, failing(name, key, [*failed, *guilty]))
