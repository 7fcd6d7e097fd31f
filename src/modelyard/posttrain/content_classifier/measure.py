"""How good a content classifier is on texts that it was not trained on, beside its baseline: the report and one verdict a text.

Per category: area under precision over recall (average precision) with the difference to the baseline resampled together, precision and recall
at the threshold, calibration. Over-blocking: the share of safe prompts, and of harmless sentences that name a group of people, that it blocks;
recall on unsafe prompts beside it. Left out: tests between versions (the gate's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.formats.harms import ANY, IDENTITY, CategoryReport, HarmText, Measured, Probe, Verdict, labelled
from modelyard.stats.calibration import Bin, calibration
from modelyard.stats.estimate import Estimate, bootstrap, proportion
from modelyard.stats.ranking import average_precision, average_precision_interval

Reals = npt.NDArray[np.float64]
UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


class Scored(NamedTuple):
    """Probabilities of texts, and what they are blocked for."""

    names: tuple[str, ...]
    """``any`` and the categories."""
    probabilities: Reals
    """[texts, C]"""
    thresholds: Reals
    """[C]"""

    @property
    def flags(self) -> npt.NDArray[np.bool_]:
        """[texts, C]"""
        return self.probabilities >= self.thresholds

    @property
    def blocked(self) -> npt.NDArray[np.bool_]:
        """[texts] for any category, or for harm in any way."""
        return np.asarray(self.flags.any(1))


def category(name: str, scored: Scored, baseline: Scored, labels: npt.NDArray[np.int8], seed: int) -> CategoryReport:
    """One category on held-out texts; ``labels`` [texts] are 1, 0 or -1 for not known. ``any`` is flagged where anything is."""
    known, column = labels >= 0, scored.names.index(name)
    truth, p, q = labels[known] == 1, scored.probabilities[known, column], baseline.probabilities[known, column]
    flagged = (scored.blocked if name == ANY else scored.flags[:, column])[known]
    right = int((flagged & truth).sum())

    def ahead(drawn: npt.NDArray[np.int64]) -> float:
        return average_precision(p[drawn], truth[drawn]) - average_precision(q[drawn], truth[drawn])

    return CategoryReport(
        threshold=min(float(scored.thresholds[column]), 2.0),
        positives=int(truth.sum()),
        auprc=told(average_precision_interval(p, truth, seed)),
        baseline=told(average_precision_interval(q, truth, seed)),
        gain=told(bootstrap(ahead, truth.size, seed)),
        precision=told(share(right, int(flagged.sum()))),
        recall=told(share(right, int(truth.sum()))),
        calibration_error=told(calibration(p.tolist(), truth.tolist(), seed)[0]),
    )


def reliability(scored: Scored, labels: npt.NDArray[np.int8], seed: int) -> tuple[Bin, ...]:
    """Bars of ``any``."""
    known = labels >= 0
    return tuple(calibration(scored.probabilities[known, 0].tolist(), (labels[known] == 1).tolist(), seed, resamples=2)[1])


def blocked(probes: Sequence[Probe], flagged: npt.NDArray[np.bool_]) -> dict[str, Measured]:
    """Group, or ``identity/TERM`` -> share of its probes that is blocked."""
    groups: dict[str, list[bool]] = {}
    for probe, held in zip(probes, flagged.tolist(), strict=True):
        for key in (probe.group, *([f"{IDENTITY}/{probe.term}"] if probe.term else [])):
            groups.setdefault(key, []).append(held)
    return {key: told(proportion(sum(found), len(found))) for key, found in groups.items()}


def verdicts(texts: Sequence[HarmText], probes: Sequence[Probe], scored: Scored) -> list[Verdict]:
    """One a text, labelled ones first as ``scored`` has them."""
    asked: list[HarmText | Probe] = [*texts, *probes]
    found = []
    for one, p, flags in zip(asked, scored.probabilities.tolist(), scored.flags, strict=True):
        scores = {name: round(value, 6) for name, value in zip(scored.names, p, strict=True)}
        held = tuple(name for name, flag in zip(scored.names, flags, strict=True) if flag)
        if isinstance(one, HarmText):
            found.append(Verdict(id=one.id, group="labelled", labels=one.labels, scores=scores, flags=held))
        else:
            found.append(Verdict(id=one.id, group=one.group, term=one.term, scores=scores, flags=held))
    return found


def columns(texts: Sequence[HarmText], names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Labels [texts, C] of ``any`` and the categories: 1, 0 or -1 where nobody looked; ``any`` is 0 only where every category is."""
    rows = [[-1 if (value := labelled(one.labels, name)) is None else value for name in names] for one in texts]
    found = np.array(rows, np.int8).reshape(len(texts), len(names))
    if ANY in names:
        column, unknown = found[:, names.index(ANY)], (found == -1).any(1)
        column[unknown & (column == 0)] = -1
    return found


def share(hits: int, total: int) -> Estimate:
    """A proportion; not known of nothing."""
    return proportion(hits, total) if total else UNKNOWN


def told(value: Estimate) -> Measured:
    """As the report holds it."""
    return Measured.model_validate(value.plain())


def flat(prefix: str, found: Mapping[str, Measured]) -> dict[str, float]:
    """Metrics of what is known."""
    metrics: dict[str, float] = {}
    for key, one in found.items():
        if one.value is not None:
            metrics |= Estimate.of(one.model_dump()).flat(f"{prefix}/{key}")
    return metrics
