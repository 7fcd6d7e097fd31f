"""Shares of replies as what judges them sees them, and corrected by its error on labelled replies, as rows of the model card."""

from __future__ import annotations

from modelyard.formats.results import Results
from modelyard.release.gates.gate import MODELS
from modelyard.stats.estimate import Estimate
from modelyard.stats.misclassification import corrected

UNKNOWN = "no better than chance"


def judged_shares(results: Results) -> list[tuple[str, ...]]:
    """Share, labelled replies found, false alarms, model, the share as seen, the share corrected with its interval."""
    return [
        (
            f"{name}: {key}".replace("_", " "),
            f"{error.hits} of {error.positives}",
            f"{error.false_alarms} of {error.negatives}",
            model,
            f"{seen.value:.3f}",
            _shown(corrected(seen, error)),
        )
        for name, measured in results.benchmarks.items()
        for key, error in measured.judge_errors.items()
        for model in MODELS
        if (seen := results.metrics.get(f"evals/{model}/{name}/{key}"))
    ]


def _shown(found: Estimate | None) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else UNKNOWN
