"""A person's signature as one more gate: PROMOTE with the name and reason, HOLD when refused or when nobody signed.

Signed under a HOLD it is the person's decision that the gates that hold shall not stop this release: each keeps its verdict and is set aside
in that name, of that day. It has no last day, as an override of a config has: it is of this one decision, by the hashes of its evidence, and
sets nothing aside in another. A BLOCK is nobody's to sign. The signed decision has a card of its own, made of the same evidence, so
that what is read later shows who let the model out; the answer is kept beside it. Left out: proof of who signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal

from modelyard.config import Config
from modelyard.formats.results import read_results
from modelyard.release.card import content_summary
from modelyard.release.decision import FILE, pages, read_decision
from modelyard.release.gates.gate import Decision, Gate, Signed
from modelyard.release.verdict import worst
from modelyard.release.visible import Paragraph, Visible

NAME = "sign_off"
"""Of its artifact."""
ANSWER = "answer.json"


class SignOff(Config):
    """What a person said."""

    decision: Literal["PROMOTE", "HOLD"]
    """Whether the model may go out."""
    name: Visible
    """Who says so."""
    reason: Visible
    """Why."""
    red_team_findings: Paragraph = ""
    """What was tried against the model and what came of it."""
    on: date
    """The day of the signature."""


class SignOffConfig(Config):
    """A signature has no choices: what was signed is its parent, what was said its content."""

    line: str
    """Name of the line."""


def run(config: SignOffConfig, answer: SignOff, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Write the signed decision and its card; ``inputs`` are the decision (``decision``) and everything it was made of."""
    signed = with_signature(read_decision(inputs["decision"]), answer)
    evidence = {role: path for role, path in inputs.items() if role != "decision"}
    (out / FILE).write_text(signed.model_dump_json(indent=1), "utf-8")
    (out / ANSWER).write_text(answer.model_dump_json(indent=1), "utf-8")
    for file, page in pages(config.line, evidence, signed, read_results(inputs["results"])).items():
        (out / file).write_text(page, "utf-8")
    (out / content_summary.FILE).write_bytes((inputs["decision"] / content_summary.FILE).read_bytes())
    return {"release/decision/promote": float(signed.verdict == "PROMOTE")}


def read_answer(directory: Path) -> SignOff:
    """The answer that a signed decision was made with. Raises ValueError."""
    return SignOff.model_validate_json((directory / ANSWER).read_text("utf-8"))


def with_signature(decision: Decision, answer: SignOff | None) -> Decision:
    """The decision with the gate ``sign_off``; None: nobody signed in time."""
    if answer is None:
        gate = Gate(name="sign_off", verdict="HOLD", reason="nobody signed in time", metrics={})
    else:
        findings = f"; red team: {' '.join(answer.red_team_findings.split())}" if answer.red_team_findings else ""
        reason = f"{answer.name}, {answer.on}: {answer.reason}{findings}"
        gate = Gate(name="sign_off", verdict=answer.decision, reason=reason, metrics={})
    before = decision.gates
    if answer is not None and answer.decision == "PROMOTE":
        before = tuple(released(one, answer) for one in before)
    gates = (*before, gate)
    return decision.model_copy(update={"gates": gates, "verdict": worst(gates)})


def released(gate: Gate, answer: SignOff) -> Gate:
    """A gate that holds, overridden by who signed; any other as it is."""
    if gate.standing != "HOLD":
        return gate
    return gate.model_copy(update={"override": Signed(name=answer.name, reason=answer.reason, on=answer.on)})
