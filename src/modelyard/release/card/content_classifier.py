"""What the card says of the content classifier: how well it finds each category beside its baseline, and what it blocks that is safe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.formats.harms import IDENTITY, REPORT, read_report

WORST = 5
"""Terms for people that are shown, those blocked most often."""


class Classifier(NamedTuple):
    """Tables of the card's section."""

    origin: str
    learned: str
    """How many of its training texts a judge labelled; "": none."""
    categories: list[tuple[str, ...]]
    """Category, held-out positives, AUPRC, the baseline's, the gain, precision, recall, calibration error."""
    blocked: list[tuple[str, ...]]
    """Prompts, share blocked, by the baseline."""


def classifier(inputs: Mapping[str, Path]) -> Classifier | None:
    """The section's tables; None for a line without a classifier."""
    directory = inputs.get("content_classifier")
    if directory is None or not (directory / REPORT).is_file():
        return None
    report = read_report(directory)
    rows = []
    for name, one in report.categories.items():
        protected = " (protected)" if name in report.protected else ""
        shown = (one.auprc, one.baseline, one.gain, one.precision, one.recall, one.calibration_error)
        rows.append((f"{name}{protected}", str(one.positives), *map(str, shown)))
    groups = [key for key in report.blocked if not key.startswith(f"{IDENTITY}/")]
    terms = sorted((key for key in report.blocked if key not in groups), key=lambda key: -(report.blocked[key].value or 0.0))
    beside = report.baseline_blocked
    shares: list[tuple[str, ...]] = [
        (key.replace("/", ": "), str(report.blocked[key]), str(beside[key])) for key in (*groups, *terms[:WORST]) if key in beside
    ]
    return Classifier(report.origin, report.learned, rows, shares)
