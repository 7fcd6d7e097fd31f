"""The card's section on the content classifier: every category beside its baseline, and the names that are blocked most often."""

from __future__ import annotations

from pathlib import Path

from modelyard.formats.harms import REPORT, CategoryReport, Measured, Report
from modelyard.release.card.content_classifier import classifier

UNKNOWN = Measured(value=None, low=None, high=None, n=0)


def _share(value: float) -> Measured:
    return Measured(value=value, low=value - 0.1, high=value + 0.1, n=8)


def test_card_shows_categories_with_intervals_and_the_names_blocked_most(tmp_path: Path) -> None:
    one = CategoryReport(threshold=0.5, positives=7, auprc=_share(0.7), baseline=_share(0.6), gain=_share(0.1), precision=UNKNOWN, recall=_share(0.5),
                         calibration_error=_share(0.2))  # fmt: skip
    blocked = {"safe": _share(0.25), "identity": _share(0.3), **{f"identity/{term}": _share(n / 10) for n, term in enumerate("abcdefg", 1)}}
    report = Report(origin="9 held-out texts", learned="3 of 8", decoder="", protected=("hate",), categories={"any": one, "hate": one},
                    blocked=blocked, baseline_blocked=dict.fromkeys(blocked, _share(0.5)), reliability=())  # fmt: skip
    (tmp_path / REPORT).write_text(report.model_dump_json())
    found = classifier({"content_classifier": tmp_path})
    assert (found.origin, found.learned) == ("9 held-out texts", "3 of 8")
    assert [row[:3] for row in found.categories] == [("any", "7", "0.70 [0.60, 0.80]"), ("hate (protected)", "7", "0.70 [0.60, 0.80]")]
    assert found.categories[0][5] == "\u2013", "precision of nothing blocked is not known"
    assert [row[0] for row in found.blocked] == ["safe", "identity", *(f"identity: {term}" for term in "gfedc")]
    assert found.blocked[0][1:] == ("0.25 [0.15, 0.35]", "0.50 [0.40, 0.60]")
    assert classifier({}) is None
