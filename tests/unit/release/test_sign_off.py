"""What a person's answer makes of a decision: gates that hold may be released by name, a BLOCK by nobody."""

from datetime import date

import pytest

from modelyard.release.gates.gate import Decision, Gate, Verdict
from modelyard.release.sign_off import SignOff, with_signature
from modelyard.release.verdict import worst

ANSWER = SignOff(decision="PROMOTE", name="Ada", reason="the miss is the new tokenizer's", on=date(2026, 11, 27))


def decision(*verdicts: Verdict) -> Decision:
    gates = tuple(Gate(name=name, verdict=one, reason="why", metrics={}) for name, one in zip(("data", "forecast"), verdicts, strict=True))
    return Decision(verdict=worst(gates), gates=gates, comparisons=(), tax=())


@pytest.mark.parametrize(
    ("verdicts", "answer", "expected", "overridden"),
    [
        (("PROMOTE", "HOLD"), ANSWER, "PROMOTE", ["forecast"]),
        (("PROMOTE", "PROMOTE"), ANSWER, "PROMOTE", []),
        (("PROMOTE", "HOLD"), ANSWER.model_copy(update={"decision": "HOLD"}), "HOLD", []),
        (("BLOCK", "HOLD"), ANSWER, "BLOCK", ["forecast"]),
        (("PROMOTE", "HOLD"), None, "HOLD", []),
    ],
)
def test_signature_releases_what_gates_hold_and_nothing_else(
    verdicts: tuple[Verdict, Verdict], answer: SignOff | None, expected: Verdict, overridden: list[str]
) -> None:
    signed = with_signature(decision(*verdicts), answer)

    assert signed.verdict == expected
    assert [gate.name for gate in signed.gates if gate.override] == overridden
    assert [gate.verdict for gate in signed.gates[:-1]] == list(verdicts), "each keeps its verdict for the record"
    assert all((gate.override.name, gate.override.when) == ("Ada", "signed on 2026-11-27") for gate in signed.gates if gate.override)
    assert Decision.model_validate_json(signed.model_dump_json()) == signed


@pytest.mark.parametrize("bad", [{"name": "\u200b"}, {"name": "A\nB"}, {"reason": "\x1b[0m"}, {"red_team_findings": "x\u202e"}])
def test_signature_in_text_that_is_not_seen_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not visible"):
        SignOff.model_validate({**ANSWER.model_dump(), **bad})
