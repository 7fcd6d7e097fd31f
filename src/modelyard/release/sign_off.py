"""A person's signature as one more gate: PROMOTE with the name and reason, HOLD when refused or when nobody signed.

The signed decision has a card of its own, made of the same evidence, so that what is read later shows who let the model out. Left out:
proof of who signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from modelyard.config import Config
from modelyard.formats.results import read_results
from modelyard.release.card import evolution, model_card
from modelyard.release.decision import read_decision
from modelyard.release.gates.gate import Decision, Gate
from modelyard.release.verdict import worst


class SignOff(Config):
    """What a person said."""

    decision: Literal["PROMOTE", "HOLD"]
    """Whether the model may go out."""
    name: str = Field(pattern=r"\S")
    """Who says so."""
    reason: str = Field(pattern=r"\S")
    """Why."""
    red_team_findings: str = ""
    """What was tried against the model and what came of it."""


class SignOffConfig(Config):
    """A signature has no choices: what was signed is its parent, what was said its content."""

    line: str
    """Name of the line."""


def run(config: SignOffConfig, answer: SignOff, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Write the signed decision and its card; ``inputs`` are the decision (``decision``) and everything it was made of."""
    signed = with_signature(read_decision(inputs["decision"]), answer)
    evidence = {role: path for role, path in inputs.items() if role != "decision"}
    (out / "decision.json").write_text(signed.model_dump_json(indent=1), "utf-8")
    results = read_results(inputs["results"])
    (out / "card.html").write_text(model_card.build(config.line, evidence, signed, results), "utf-8")
    (out / evolution.FILE).write_text(evolution.of_versions(config.line, evidence, results), "utf-8")
    return {"release/decision/promote": float(signed.verdict == "PROMOTE")}


def with_signature(decision: Decision, answer: SignOff | None) -> Decision:
    """The decision with the gate ``sign_off``; None: nobody signed in time."""
    if answer is None:
        gate = Gate(name="sign_off", verdict="HOLD", reason="nobody signed in time", metrics={})
    else:
        findings = f"; red team: {answer.red_team_findings}" if answer.red_team_findings.strip() else ""
        gate = Gate(name="sign_off", verdict=answer.decision, reason=f"{answer.name}: {answer.reason}{findings}", metrics={})
    gates = (*decision.gates, gate)
    return decision.model_copy(update={"gates": gates, "verdict": worst(gates)})
