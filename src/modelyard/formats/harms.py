"""Labelled texts of the content classifier, and what it made of those that it was not trained on.

``harms.jsonl`` of the ``harm_labels`` artifact holds :class:`HarmText`, ``probes.jsonl`` :class:`Probe`: harmless and harmful prompts without
categories, never trained on. ``classifier.json`` of the ``content_classifier`` artifact is a :class:`Report`, and ``verdicts.jsonl`` holds one
:class:`Verdict` a held-out text, which is what two versions are compared on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, TypeAdapter

from modelyard.config import Config
from modelyard.formats import json_file
from modelyard.formats.feedback import record
from modelyard.stats.calibration import Bin

JUDGED = "judged"
"""Key of a row of labels under which a judge says how it came to them."""
TEXTS, PROBES, REPORT, VERDICTS = "harms.jsonl", "probes.jsonl", "classifier.json", "verdicts.jsonl"
ANY = "any"
"""Name of "harmful in any way" beside the categories."""
IDENTITY: Final = "identity"
"""Group of harmless sentences that name people, beside ``safe`` and ``unsafe`` prompts."""


class RuleAnswer(Config):
    """What a judge said of one text by the rule of one category."""

    rule: str
    """Id of the rule as it was put, the examples that were shown included."""
    probability: float = Field(ge=0, le=1)
    """That the text breaks it."""


class Judged(Config):
    """How the labels of a row came about that a judge gave."""

    judge: str
    """Its identity: name, and hash of its weights and of the way of asking."""
    rules: dict[str, RuleAnswer] = Field(min_length=1)
    """Category -> what was said; the row has labels for these and for no other."""


class HarmText(Config):
    """A labelled text."""

    id: str
    """Hash of the text."""
    text: str
    split: Literal["train", "test"]
    """Near duplicates lie on one side."""
    group: str
    """Id of the first text of its group of near duplicates."""
    labels: dict[str, Literal[0, 1]]
    """Category -> whether the text is so; absent where nobody looked."""
    judge: str = ""
    """Identity of the judge that labelled it, which is trained on and never measured on; "": people did."""

    @property
    def harmful(self) -> bool:
        """Whether any category is 1."""
        return 1 in self.labels.values()


class Probe(Config):
    """A text whose category nobody named, but whether it may be blocked."""

    id: str
    text: str
    group: Literal["safe", "unsafe", "identity"]
    term: str = ""
    """The word for people that it names; "" but in ``identity``."""


class Verdict(Config):
    """What the classifier said of one held-out text."""

    id: str
    group: Literal["labelled", "safe", "unsafe", "identity"]
    term: str = ""
    labels: dict[str, Literal[0, 1]] = Field(default_factory=dict)
    """As the text's; empty for probes."""
    scores: dict[str, float]
    """Category (and ``any``) -> probability."""
    flags: tuple[str, ...]
    """Categories for which it is blocked."""


class Measured(Config):
    """A number with its interval; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    stderr: float | None = None

    def __str__(self) -> str:
        """With its interval; an en dash where it is not known."""
        if self.value is None or self.low is None or self.high is None:
            return "\u2013"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class CategoryReport(Config):
    """How well one category (or ``any``) is found among held-out labelled texts."""

    threshold: float
    """Probability from which on a text is blocked."""
    positives: int
    """Held-out texts that are so."""
    auprc: Measured
    """Area under precision over recall."""
    baseline: Measured
    """The same of TF-IDF and logistic regression, on the same texts."""
    gain: Measured
    """``auprc`` less ``baseline``, resampled together."""
    precision: Measured
    """Share of the blocked that are so."""
    recall: Measured
    """Share of those that are so that are blocked."""
    calibration_error: Measured


class Report(Config):
    """What is known of a content classifier."""

    origin: str
    """What it was measured on."""
    learned: str = ""
    """How many of the texts that it learned from a judge labelled; "": none."""
    decoder: str
    """Fingerprint of the decoder that its features come from."""
    protected: tuple[str, ...]
    """Categories that no release may find worse than the one before it."""
    categories: dict[str, CategoryReport]
    """Of each category, ``any`` first."""
    blocked: dict[str, Measured]
    """``safe``, ``unsafe``, ``identity`` or ``identity/TERM`` -> share of its probes that is blocked; absent without probes."""
    baseline_blocked: dict[str, Measured]
    """The same by the baseline, at thresholds chosen alike."""
    reliability: tuple[Bin, ...]
    """Bars of ``any``."""


_REPORT = TypeAdapter(Report)


def read_texts(directory: Path) -> list[HarmText]:
    """The labelled texts. Raises ValueError naming file, line and key."""
    return [record(HarmText, line) for line in json_file.lines(directory / TEXTS)]


def read_probes(directory: Path) -> list[Probe]:
    """The probes; none where the artifact has none. Raises ValueError naming file, line and key."""
    return [record(Probe, line) for line in json_file.lines(directory / PROBES)]


def read_report(directory: Path) -> Report:
    """The report. Raises ValueError naming the file and the key."""
    return json_file.read(directory / REPORT, _REPORT)


def read_verdicts(directory: Path) -> list[Verdict]:
    """The verdicts. Raises ValueError naming file, line and key."""
    return [record(Verdict, line) for line in json_file.lines(directory / VERDICTS)]


def labelled(labels: Mapping[str, int], category: str) -> int | None:
    """1, 0, or None where nobody looked; of ``any`` 1 where a category is 1."""
    return int(1 in labels.values()) if category == ANY else labels.get(category)
