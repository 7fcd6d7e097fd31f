"""Each labeler's figures: how they do in the screening, agree with others, keep their attention, change over time, and how long they take.

The screening's figures are InstructGPT's (arXiv:2203.02155, appendix B.1): agreement on sensitive speech, on rankings, and graded
demonstrations, each beside a soft limit. They recommend; an admin decides. Left out: the paper's fourth (which groups' speech a labeler
says that they can judge).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from modelyard.data.filters.duplicates import DuplicatesConfig, signatures
from modelyard.desk.settings import ScreeningLimits
from modelyard.desk.tables import Account
from modelyard.desk.work.agreement import SEED, UNKNOWN, Ranked, ranked, whole, with_others, with_reference
from modelyard.desk.work.answers import SENSITIVE, Ranking, Writing
from modelyard.desk.work.export import Label
from modelyard.stats.estimate import Estimate
from modelyard.stats.ratio import bootstrapped_ratio

COPIED = DuplicatesConfig(permutations=64, bands=16, shingle=3, threshold=0.8)
"""From which estimated Jaccard similarity of word trigrams a demonstration is the model's own text."""


class Screening(NamedTuple):
    """A labeler's screening."""

    ranking: Estimate
    """Pairs ordered as the reference has them."""
    sensitive: Estimate
    """Answers on whose sensitive speech they agree with the reference."""
    demonstration: float
    """Mean grade, NaN without one."""
    items: int
    """Items that they sent."""
    below: tuple[str, ...]
    """Which figures lie below their limit."""


class Figures(NamedTuple):
    """A labeler at work."""

    labeler: Account
    screening: Screening
    done: int
    skipped: int
    reported: int
    median_seconds: float
    """Of an item."""
    hours: float
    """All together: what is paid."""
    attention: Estimate
    """Pairs of items whose answer is known that they order right."""
    with_others: Estimate
    """Pairs ordered as others order them."""
    drift: Estimate
    """Agreement with others in the later half of their items less that in the earlier half."""
    copied: int
    """Demonstrations that are nearly a model's own text, though they do not say so."""


def figures(labels: Sequence[Label], limits: ScreeningLimits) -> list[Figures]:
    """Of every labeler with a label, by name."""
    people = {label.labeler.id: label.labeler for label in labels}
    shared = [label for label in labels if not label.item.everybody]
    rankings = ranked(shared)
    return [_figures(one, [label for label in labels if label.labeler.id == one.id], shared, rankings, limits) for one in _sorted(people)]


def screening(labels: Sequence[Label], limits: ScreeningLimits) -> Screening:
    """Of one labeler's labels."""
    done = [label for label in labels if label.batch.screening and label.assignment.state == "done"]
    ranking, sensitive = _ranking(done), _sensitive(done)
    grades = [label.assignment.grade for label in done if label.assignment.grade is not None]
    demonstration = sum(grades) / len(grades) if grades else math.nan
    measured = (("ranking", ranking.value), ("sensitive", sensitive.value), ("demonstration", demonstration))
    below = tuple(name for name, value in measured if value < getattr(limits, name))
    return Screening(ranking, sensitive, demonstration, len(done), below)


def copied(labels: Sequence[Label]) -> list[Label]:
    """Demonstrations that are nearly one of the item's model-written texts and were not taken from a suggestion by the page."""
    found = []
    for label in labels:
        said = label.said if label.assignment.state == "done" else None
        if isinstance(said, Writing) and not said.from_suggestion and label.item.samples:
            marks = signatures([said.completion, *(sample["text"] for sample in label.item.samples)], COPIED)
            if max((marks[1:] == marks[0]).mean(1)) >= COPIED.threshold:
                found.append(label)
    return found


def _figures(
    labeler: Account, mine: Sequence[Label], shared: Sequence[Label], rankings: Sequence[Ranked], limits: ScreeningLimits
) -> Figures:
    states = [label.assignment.state for label in mine]
    took = [label.assignment.seconds for label in mine if label.assignment.state == "done"]
    return Figures(
        labeler=labeler,
        screening=screening(mine, limits),
        done=states.count("done"),
        skipped=states.count("skipped"),
        reported=states.count("reported"),
        median_seconds=median(took) if took else math.nan,
        hours=sum(label.assignment.seconds for label in mine) / 3600,
        attention=_ranking([label for label in mine if not label.batch.screening and label.assignment.state == "done"]),
        with_others=with_others(labeler.pseudonym, rankings),
        drift=drift(labeler.pseudonym, shared, rankings),
        copied=len(copied(mine)),
    )


def drift(rater: str, shared: Sequence[Label], rankings: Sequence[Ranked]) -> Estimate:
    """Agreement with others in the later half of a labeler's items less that in the earlier half, with a normal interval; NaN without both."""
    mine = [label for label in shared if label.labeler.pseudonym == rater and label.assignment.ended_at is not None]
    order = [label.item.id for label in sorted(mine, key=lambda label: label.assignment.ended_at or 0.0)]
    early = set(order[: len(order) // 2])
    before = with_others(rater, [one for one in rankings if one.item in early])
    after = with_others(rater, [one for one in rankings if one.item in set(order) - early])
    value, stderr = after.value - before.value, math.hypot(after.stderr, before.stderr)
    if math.isnan(value) or math.isnan(stderr):
        return UNKNOWN
    return Estimate(value, value - 1.96 * stderr, value + 1.96 * stderr, before.n + after.n, stderr)


def _ranking(labels: Sequence[Label]) -> Estimate:
    known = [
        (whole(said), label.item.reference["ranks"])
        for label in labels
        if label.item.reference and label.item.reference["ranks"] and isinstance(said := label.said, Ranking)
    ]
    return with_reference(known)


def _sensitive(labels: Sequence[Label]) -> Estimate:
    counted = []
    for label in labels:
        if label.item.reference and label.item.reference["sensitive"] and isinstance(said := label.said, Ranking):
            right = [
                bool(SENSITIVE & set(flags)) == known for flags, known in zip(said.flags, label.item.reference["sensitive"], strict=True)
            ]
            counted.append((sum(right), len(right)))
    return bootstrapped_ratio(counted, SEED)


def _sorted(people: dict[int, Account]) -> list[Account]:
    return sorted(people.values(), key=lambda account: account.name)
