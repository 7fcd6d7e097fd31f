"""Which of a config's rules may be used: those whose judge agrees with people's labels of their rubric.

A rule whose judge errs is a wrong reward and a wrong ranking, so agreement (Cohen's kappa) is measured first, by the same judge asked in the
same way. Left out: agreement on a policy's own responses, which nobody has labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelyard.judges.agreement import Agreement, measure
from modelyard.judges.judge import Judge
from modelyard.judges.record import SetAside, below
from modelyard.posttrain.judged.rules import Rule, rubrics_of
from modelyard.progress import Report


class Trusted(NamedTuple):
    """Rules sorted by their judge's agreement."""

    rules: tuple[Rule, ...]
    """Those that may be used."""
    agreement: tuple[Agreement, ...]
    """Of every rubric, in the order of the rules."""
    set_aside: tuple[SetAside, ...]
    """The others' rubrics, with the reason."""

    def require(self, where: str) -> None:
        """Raise ValueError naming ``where`` unless a rule is left."""
        if not self.rules:
            raise ValueError(f"{where}: no rubric is left: " + "; ".join(f"{one.what}: {one.reason}" for one in self.set_aside))

    def metrics(self, prefix: str) -> dict[str, float]:
        """Agreement by rubric under ``prefix``, and how many were set aside."""
        keys = ("accuracy", "accuracy_low", "accuracy_high", "kappa", "kappa_low", "kappa_high", "n")
        found = {f"{prefix}/{one.rubric.split('-')[0]}/{key}": float(getattr(one, key)) for one in self.agreement for key in keys}
        return {**found, f"{prefix}/set_aside": float(len(self.set_aside))}


def trusted(judge: Judge, chosen: Sequence[Rule], min_kappa: float, seed: int, report: Report) -> Trusted:
    """Measure ``judge`` on every rubric of the rules; a rubric below ``min_kappa`` is set aside with its rules."""
    rubrics = rubrics_of(chosen)
    agreements = []
    for done, rubric in enumerate(rubrics, 1):
        agreements.append(measure(judge, rubric, seed))
        report(done, len(rubrics), unit="rubric")
    refused = {one.rubric: below(one, min_kappa) for one in agreements if not one.kappa >= min_kappa}
    left = tuple(rule for rule in chosen if rule.rubric.id not in refused)
    return Trusted(left, tuple(agreements), tuple(SetAside(what=name, reason=reason) for name, reason in refused.items()))
