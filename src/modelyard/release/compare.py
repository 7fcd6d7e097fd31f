"""Is NEW worse than OLD on the same items? Paired tests on two files of per-item records.

``python -m modelyard.commands.compare OLD.jsonl NEW.jsonl --json OUT``. Right/wrong scores: McNemar's exact test (binomial on the flipped
items). Other scores: paired bootstrap of the mean difference (Efron 1979), and the paired t-test where no resample crosses zero: how far below
one in the number of resamples p lies decides what is left of it after Holm's correction (1979) over many benchmarks. Pairing matters: facts of
other teams show p = 0.080 unpaired where the paired test gives 0.008. Records of different benchmark ids are refused.
What a record is: ``release.records``. Left out: equivalence tests, multilevel models.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest, norm, ttest_1samp

from modelyard.arguments import at_least, between
from modelyard.config import Config
from modelyard.formats import records

Outcome = Literal["better", "same", "worse", "not enough items"]
Grouped = Mapping[str, Sequence[Mapping[str, Any]]]
"""Benchmark -> records."""
SHOWN_FLIPS = 20
POWER = 0.8


class Comparison(Config):
    """One benchmark, two models."""

    benchmark: str
    """Name."""
    n: int
    """Items both answered."""
    old: float
    """Mean score of OLD."""
    new: float
    """Mean score of NEW."""
    difference: float
    """NEW - OLD; higher is better."""
    low: float
    """95% paired bootstrap interval of the difference, lower end."""
    high: float
    """Upper end."""
    test: str
    """``mcnemar`` or ``bootstrap``."""
    p: float
    """Two-sided p-value."""
    p_holm: float
    """After Holm's correction over all benchmarks of the comparison."""
    detectable: float | None
    """Smallest true difference that this many items would show with 80% power at the level that Holm's first step leaves; None where the
    scores' spread is not known: a single item, or differences that are all alike."""
    tolerance: float
    """A difference up to this is called same, in both directions."""
    verdict: Outcome
    """The verdict."""
    gained: tuple[str, ...]
    """Items whose score rose."""
    lost: tuple[str, ...]
    """Items whose score fell."""


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that gains and losses are equally likely."""
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def paired_bootstrap(differences: np.ndarray, seed: int, resamples: int = 2000) -> tuple[float, float, float]:
    """Low, high (95%) and two-sided p-value of the mean difference [n]; resampling items keeps the pairing.

    Where no resample crosses zero p is the paired t-test's, if that is smaller than what so many resamples can tell.
    """
    generator = np.random.default_rng(seed)
    means = np.array([differences[generator.integers(0, differences.size, differences.size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (resamples + 1))
    return float(low), float(high), min(p, paired_t(differences)) if tail == 0 else p


def paired_t(differences: np.ndarray) -> float:
    """Two-sided p-value of Student's paired t-test on differences [n] that are not all zero; 1 for a single one, which has no spread."""
    if differences.size < 2:
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # nearly equal differences: their spread is rounding
        return float(ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def compare(
    old: Grouped,
    new: Grouped,
    *,
    alpha: float = 0.05,
    min_items: int = 30,
    tolerance: Mapping[str, float] = {},
    seed: int = 0,
) -> list[Comparison]:
    """Compare every benchmark (name -> records) of ``old`` with the same one of ``new``.

    Raises:
        ValueError: the benchmarks are not the same, their ids differ, or the items differ.
    """
    if set(old) != set(new) or not old:
        raise ValueError(f"benchmarks differ: old has {sorted(old)}, new has {sorted(new)}")
    level = alpha / len(old)
    drafts = [_one(name, old[name], new[name], tolerance.get(name, 0.0), level, seed) for name in sorted(old)]
    corrected = holm([draft.p for draft in drafts])
    return [
        draft.model_copy(update={"p_holm": p, "verdict": _outcome(draft, p, alpha, min_items)})
        for draft, p in zip(drafts, corrected, strict=True)
    ]


def in_common(old: Grouped, new: Grouped) -> tuple[Grouped, Grouped]:
    """Both sides less the benchmarks and items that only one of them has."""
    shared = {name: {records.item_of(e) for e in old[name]} & {records.item_of(e) for e in new[name]} for name in set(old) & set(new)}
    left, right = (
        {name: [e for e in side[name] if records.item_of(e) in items] for name, items in shared.items() if items} for side in (old, new)
    )
    return left, right


def _one(
    name: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], tolerance: float, level: float, seed: int
) -> Comparison:
    ids = [{str(entry.get("benchmark_id", "")) for entry in side} for side in (old, new)]
    if ids[0] != ids[1] or len(ids[0]) > 1:
        raise ValueError(
            f"{name}: another benchmark id (old {sorted(ids[0])}, new {sorted(ids[1])}); results of different ids are never compared"
        )
    before, after = records.scores_by_item(old), records.scores_by_item(new)
    if set(before) != set(after) or not before:
        alone = sorted(set(before) ^ set(after))
        example = f", for example {alone[0]!r}" if alone else ""
        raise ValueError(f"{name}: items differ ({len(before)} old, {len(after)} new, {len(set(before) & set(after))} in both{example})")
    items = sorted(before)
    a, b = np.array([before[i] for i in items]), np.array([after[i] for i in items])
    difference = b - a
    gained = tuple(item for item, d in zip(items, difference, strict=True) if d > 0)
    lost = tuple(item for item, d in zip(items, difference, strict=True) if d < 0)
    low, high, p = paired_bootstrap(difference, seed)
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    spread = float(difference.std(ddof=1)) if len(items) > 1 else 0.0
    if binary:  # no flips seen is not no variance: one flip in n bounds what could have been seen
        p, spread = mcnemar(len(gained), len(lost)), max(spread, 1 / math.sqrt(len(items)))
    power = float(norm.isf(level / 2) + norm.ppf(POWER))
    return Comparison(
        benchmark=name,
        n=len(items),
        old=float(a.mean()),
        new=float(b.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        test="mcnemar" if binary else "bootstrap",
        p=p,
        p_holm=p,
        detectable=power * spread / math.sqrt(len(items)) if spread and len(items) > 1 else None,
        tolerance=tolerance,
        verdict="same",
        gained=gained,
        lost=lost,
    )


def _outcome(draft: Comparison, p: float, alpha: float, min_items: int) -> Outcome:
    if draft.n < min_items:
        return "not enough items"
    if p < alpha and draft.difference < -draft.tolerance:
        return "worse"
    return "better" if p < alpha and draft.difference > draft.tolerance else "same"


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison as lines of text, one a benchmark."""
    head = ("benchmark", "n", "old", "new", "difference [95%]", "p (Holm)", "detectable", "+/-", "verdict")
    rows = [
        (
            c.benchmark,
            str(c.n),
            f"{c.old:.4f}",
            f"{c.new:.4f}",
            f"{c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]",
            f"{c.p_holm:.4f}",
            "-" if c.detectable is None else f"{c.detectable:.4f}",
            f"{len(c.gained)}/{len(c.lost)}",
            c.verdict,
        )
        for c in comparisons
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in [head, *rows])


def flips(comparison: Comparison) -> str:
    """The items whose score changed, as lines of text."""
    lines = ""
    for sign, items in (("+", comparison.gained), ("-", comparison.lost)):
        if items:
            more = f" and {len(items) - SHOWN_FLIPS} more" if len(items) > SHOWN_FLIPS else ""
            lines += f"  {comparison.benchmark} {sign}{len(items)}: {', '.join(items[:SHOWN_FLIPS])}{more}\n"
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when it compared, whatever it found, 2 with one line for input that cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.compare",
        description="Paired comparison of two files of per-item records.",
        epilog=records.__doc__,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--json", type=Path, help="where the comparison goes, with every flipped item")
    parser.add_argument("--alpha", type=between(0, 1, ends=False), default=0.05, help="level after Holm's correction (default 0.05)")
    parser.add_argument("--min-items", type=at_least(1, int), default=30, help="fewest items for a verdict (default 30)")
    parser.add_argument(
        "--tolerance", type=at_least(0), default=0.0, help="difference of mean score, loss or gain, that is called same (default 0)"
    )
    parser.add_argument("--common", action="store_true", help="compare on the items and benchmarks that both files have")
    options = parser.parse_args(arguments)
    try:
        sides: tuple[Grouped, Grouped] = (records.read_records(options.old), records.read_records(options.new))
        old, new = in_common(*sides) if options.common else sides
        if not old:
            raise ValueError(f"no item is in both {options.old} and {options.new}")
        tolerance = dict.fromkeys(old, options.tolerance)
        result = compare(old, new, alpha=options.alpha, min_items=options.min_items, tolerance=tolerance)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps([c.model_dump() for c in result], indent=1), "utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"compare: {error}\n")
        return 2
    shown = table(result) + "".join(flips(comparison) for comparison in result)
    sys.stdout.write(shown.encode("utf-8", "backslashreplace").decode())  # ids may hold half a surrogate pair
    return 0


if __name__ == "__main__":
    sys.exit(main())
