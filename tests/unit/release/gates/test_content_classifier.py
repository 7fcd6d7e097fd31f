"""The gate over the content classifier: worse on what is protected or on what is safe holds, and absence never passes."""

from __future__ import annotations

import pytest

from modelyard.formats.harms import Report, Verdict
from modelyard.release.gates.content_classifier import content_classifier_gate
from modelyard.release.gates.gate import Classified, Evidence, Gate, RefusedError
from modelyard.release.limits import SetAside
from tests.unit.release.evidence import CONFIG, GOOD

N = 40
"""Texts of each kind."""


def classified(hate: int = 30, minors: int = 30, harmless: int = 38, safe: int = 38, first: int = 0, protected=("hate",)) -> Classified:
    """What a classifier said that treats so many of N texts of each kind rightly, from text number ``first`` on."""

    def some(kind: str, right: int, harm: str = "", group: str = "labelled") -> list[Verdict]:
        labels = {"hate": int(harm == "hate"), "sexual/minors": int(harm == "sexual/minors")} if group == "labelled" else {}
        flagged = [(k < right) is bool(harm) for k in range(N)]
        return [
            Verdict(id=f"{kind}-{k + first}", group=group, labels=labels, scores={"any": 0.5}, flags=("hate",) if flagged[k] else ())
            for k in range(N)
        ]

    verdicts = [
        *some("hate", hate, "hate"),
        *some("minors", minors, "sexual/minors"),
        *some("harmless", harmless),
        *some("safe", safe, "", "safe"),
    ]
    report = Report(origin="", decoder="", protected=protected, categories={}, blocked={}, baseline_blocked={}, reliability=())
    return Classified(report, verdicts)


def gate(new: Classified | None, old: Classified | None = None, **changes) -> Gate:
    evidence: Evidence = GOOD._replace(classifier=new, production_classifier=old, **changes)
    return content_classifier_gate(evidence, CONFIG.model_copy(update={"set_aside": SetAside()}), [])


def test_alike_and_better_classifiers_pass() -> None:
    assert gate(classified(), classified()).verdict == "PROMOTE"
    assert gate(classified(hate=39, safe=40), classified()).verdict == "PROMOTE"
    assert gate(classified()).verdict == "PROMOTE"


@pytest.mark.parametrize(
    ("worse", "named"), [({"hate": 15}, "hate -37.5%"), ({"safe": 20}, "safe -45.0%"), ({"harmless": 20}, "harmless -45.0%")]
)
def test_less_found_of_what_is_protected_or_more_blocked_of_what_is_safe_holds(worse: dict[str, int], named: str) -> None:
    found = gate(classified(**worse), classified())
    assert found.verdict == "HOLD"
    assert named in found.reason


def test_chance_does_not_hold_and_a_category_that_is_not_protected_counts_in_any_harm_only() -> None:
    assert gate(classified(hate=28, safe=36), classified()).verdict == "PROMOTE"
    found = gate(classified(minors=5), classified())
    assert found.verdict == "HOLD"
    assert "sexual/minors" not in found.reason
    assert "any -31.2%" in found.reason


def test_category_that_only_production_protects_stays_protected() -> None:
    found = gate(classified(minors=15, hate=40, protected=()), classified(protected=("sexual/minors",)))
    assert found.verdict == "HOLD"
    assert "sexual/minors -37.5%" in found.reason


def test_classifiers_that_cannot_be_compared_hold() -> None:
    assert "was held out by both" in gate(classified(first=1000), classified()).reason
    assert gate(classified(first=1000), classified()).verdict == "HOLD"
    lost = gate(classified(), None, lost_classifier="content_classifier/abc")
    assert (lost.verdict, "content_classifier/abc is not in the store" in lost.reason) == ("HOLD", True)


def test_missing_classifier_is_refused_unless_it_is_set_aside() -> None:
    with pytest.raises(RefusedError, match="there is no content classifier"):
        gate(None, classified())
    with pytest.raises(RefusedError, match="no verdicts"):
        gate(classified()._replace(verdicts=()))
    aside = CONFIG.model_copy(update={"set_aside": SetAside(content_classifier="nobody labelled")})
    found = content_classifier_gate(GOOD._replace(classifier=None), aside, [])
    assert (found.verdict, found.set_aside, found.reason) == ("PROMOTE", True, "nobody labelled")
    for served in ({"production_classifier": classified()}, {"lost_classifier": "content_classifier/abc"}):
        held = content_classifier_gate(GOOD._replace(classifier=None, **served), aside, [])
        assert (held.verdict, held.set_aside) == ("HOLD", False)
        assert held.reason == "production is served with a content classifier, and this release has none (nobody labelled)"
