"""What a config sets aside: it stands on the record with its reason, and nothing else passes by it."""

import pytest

from modelyard.release.gates.gate import Use
from modelyard.release.gates.origin import IMPORTED_TEXT
from modelyard.release.limits import ReleaseConfig, SetAside
from modelyard.release.verdict import decide
from tests.unit.release.evidence import CONFIG, FORECAST, GOOD

IMPORTED = GOOD._replace(forecast=None, trained=(*(use for use in GOOD.trained if use.model != "base"), Use("base", IMPORTED_TEXT, None)))
"""The evidence of a line with an imported base."""


def aside(**reasons: str) -> ReleaseConfig:
    return CONFIG.model_copy(update={"set_aside": SetAside(**{"content_classifier": "nobody labelled texts", **reasons})})


def test_set_aside_gates_let_an_imported_base_out_with_the_reasons_shown() -> None:
    decision = decide(IMPORTED, aside(forecast="others trained it", pretraining_data="nobody kept its texts"))
    gates = {gate.name: gate for gate in decision.gates}
    assert decision.verdict == "PROMOTE"
    assert (gates["forecast"].shown, gates["forecast"].reason) == ("set aside", "others trained it")
    assert gates["contamination"].shown == "PROMOTE", "what the line itself trained on was searched"
    assert "set aside: nobody kept its texts" in gates["contamination"].reason
    assert [gate.name for gate in decision.gates if gate.set_aside] == ["forecast", "content_classifier"]


@pytest.mark.parametrize(
    ("reasons", "blocked"),
    [
        ({}, ["contamination", "forecast"]),
        ({"forecast": "others trained it"}, ["contamination"]),
        ({"pretraining_data": "nobody kept its texts"}, ["forecast"]),
    ],
)
def test_evidence_that_is_absent_and_not_set_aside_blocks(reasons: dict[str, str], blocked: list[str]) -> None:
    decision = decide(IMPORTED, aside(**reasons))
    assert [gate.name for gate in decision.gates if gate.verdict == "BLOCK"] == blocked


def test_forecast_that_is_there_is_judged_whatever_is_set_aside() -> None:
    missed = GOOD._replace(forecast=FORECAST.model_copy(update={"prediction": 4.0, "low": 3.9, "high": 4.1}))
    decision = decide(missed, aside(forecast="others trained it"))
    (gate,) = [gate for gate in decision.gates if gate.name == "forecast"]
    assert (gate.verdict, gate.set_aside) == ("HOLD", False)


def test_set_that_was_not_searched_is_refused_beside_what_is_set_aside() -> None:
    trained = (*IMPORTED.trained, Use("gold", "gold_comparisons", "feedback/other"))
    decision = decide(IMPORTED._replace(trained=trained), aside(forecast="others trained it", pretraining_data="nobody kept its texts"))
    (gate,) = [gate for gate in decision.gates if gate.name == "contamination"]
    assert gate.verdict == "BLOCK"
    assert gate.reason.startswith("gold was trained on feedback/other")
