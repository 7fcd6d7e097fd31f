"""The decision: evidence + thresholds -> PROMOTE, HOLD or BLOCK with reasons. Pure.

The worst verdict that stands wins. An override is a person's, by name and with a reason: the gate keeps its verdict for the record, and
the release goes on. One that names a gate which passed changes nothing and shows nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelyard.formats.contamination import Report
from modelyard.release.compare import Comparison
from modelyard.release.gates.behaviour import alignment_tax_gate, calibration_gate, preference_gate, regression_gate
from modelyard.release.gates.content_classifier import content_classifier_gate
from modelyard.release.gates.forecast import forecast_gate
from modelyard.release.gates.gate import Decision, Evidence, Gate, Verdict
from modelyard.release.gates.origin import (
    contamination_gate,
    contamination_shares,
    metrics_gate,
    suite_gate,
    weights_gate,
)
from modelyard.release.gates.safety import safety_gate
from modelyard.release.gates.vision import vision_gate
from modelyard.release.limits import GateName, ReleaseConfig

SEVERITY: dict[Verdict, int] = {"PROMOTE": 0, "HOLD": 1, "BLOCK": 2}


def decide(evidence: Evidence, config: ReleaseConfig) -> Decision:
    """Judge every gate; one that cannot use its evidence blocks with the reason."""
    comparisons, gain, tax, seen, conduct, filtered = (list[Comparison]() for _ in range(6))
    judges: dict[GateName, Callable[[], Gate]] = {
        "weights": lambda: weights_gate(evidence),
        "data": lambda: suite_gate("data", evidence.suite),
        "metrics": lambda: metrics_gate(evidence),
        "contamination": lambda: contamination_gate(evidence, config, gain),
        "forecast": lambda: forecast_gate(evidence, config),
        "regression": lambda: regression_gate(evidence, config, comparisons),
        "alignment_tax": lambda: alignment_tax_gate(evidence.results, config, tax),
        **({"vision": lambda: vision_gate(evidence, config, seen)} if evidence.sees else {}),
        "calibration": lambda: calibration_gate(evidence.results, config),
        "safety": lambda: safety_gate(evidence, config, conduct),
        "content_classifier": lambda: content_classifier_gate(evidence, config, filtered),
        "preference": lambda: preference_gate(evidence, config),
    }
    gates = tuple(overridden(judged(name, judge), config) for name, judge in judges.items())
    found = {"comparisons": comparisons, "contamination_gain": gain, "tax": tax, "vision": seen, "conduct": conduct}
    found |= {"content_classifier": filtered}
    return Decision(verdict=worst(gates), gates=gates, **{name: tuple(some) for name, some in found.items()})


def decide_early(suite: Mapping[str, Any] | None, contamination: Report | None, config: ReleaseConfig) -> list[Gate]:
    """The gates that data alone can answer, before anything is trained; each is judged again, with all evidence, at the end."""
    judges: dict[GateName, Callable[[], Gate]] = {
        "data": lambda: suite_gate("data", suite),
        "contamination": lambda: contamination_shares(contamination, config),
    }
    return [overridden(judged(name, judge), config) for name, judge in judges.items()]


def judged(name: GateName, judge: Callable[[], Gate]) -> Gate:
    """The gate's verdict; BLOCK with the reason when its evidence cannot be used."""
    try:
        return judge()
    except ValueError as error:
        return Gate(name=name, verdict="BLOCK", reason=str(error), metrics={})


def overridden(gate: Gate, config: ReleaseConfig) -> Gate:
    """The gate with the override that names it, if it speaks against the release."""
    found = [override for override in config.overrides if override.gate == gate.name]
    if not found or gate.verdict == "PROMOTE":
        return gate
    return gate.model_copy(update={"override": found[-1]})


def worst(gates: tuple[Gate, ...]) -> Verdict:
    """The worst verdict that stands."""
    return max((gate.standing for gate in gates), key=SEVERITY.__getitem__)
