"""Sexual and abusive text: a lexicon AND a classifier (GPT-4 Technical Report: "internally trained classifiers as well
as a lexicon-based approach").

With labels (``labels``: a file of people's judgements that the user names) the classifier tells eight categories of harm apart, each with
a threshold of its own, and measures itself on half of them. Without labels it is what a package brings: the SVM of alt-profanity-check,
which finds offensive words and little else, and says so. The lexicon is better-profanity's list cut to words that the SVM calls
offensive; it refuses only together with the classifier, and only where there are no labels: a word is no abuse. Left out: other languages,
spelling tricks beyond a few digit substitutions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import abuse_labels, abuse_teacher, abuse_training, native
from modelyard.data.filters.abuse_labels import CATEGORIES, LabelsConfig
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.filters.abuse_training import Measured
from modelyard.data.filters.native import Hashes
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member
from modelyard.formats.abuse import PLAIN, REPORT, AbuseModel, lower
from modelyard.stats.estimate import Estimate, proportion


class AbuseConfig(Config):
    """What it learns from, and its operating point."""

    sure: float
    """Probability of any abuse that refuses alone."""
    suspicious: float
    """Probability that refuses together with a lexicon word, where there are no labels."""
    lexicon: float
    """A listed word is kept in the lexicon when the packaged SVM gives it at least this probability alone."""
    allowed: list[str]
    """Words that neither the lexicon nor the packaged SVM counts: mild, or names of groups of people. Labels speak of them in context."""
    labels: LabelsConfig | None = None
    """People's labels of harm; absent: the packaged SVM alone."""
    held_out: bool = False
    """Whether the half of the labels that the filter is measured on trains no filter at all: a line that has the same file among its
    ``harm_labels`` measures its content classifier on that half."""
    categories: dict[str, float] = Field(default_factory=dict)
    """Category -> probability that refuses, beside ``sure`` for all of them together; only with labels."""

    @model_validator(mode="after")
    def _known_categories(self) -> AbuseConfig:
        if unknown := sorted(set(self.categories) - set(CATEGORIES.values())):
            raise ValueError(f"categories: {unknown[0]!r} is none of {', '.join(CATEGORIES.values())}")
        if self.categories and self.labels is None:
            raise ValueError("categories: the packaged model has none; they need labels")
        if self.held_out and self.labels is None:
            raise ValueError("held_out: is of labels, and there are none; they need a table labels")
        return self

    def anywhere(self) -> AbuseConfig:
        """Without where the labels lie, which changes no answer: their hash stays."""
        return self.model_copy(update={"labels": self.labels.model_copy(update={"path": ""})}) if self.labels else self


@dataclass(frozen=True)
class AbuseFilter(AbuseModel):
    """The model with its operating point; a value that workers receive whole."""

    config: AbuseConfig

    def codes(self, text: str) -> Hashes:
        """As the model's, counted in C where that is built."""
        return native.word_codes(lower(text)) if native.available() else super().codes(text)

    def refuse(self, text: str) -> Refusal | None:
        """Refuses by a category, by all of them together, or, without labels, by lexicon and classifier together."""
        probability, outputs = self.judge(text)
        for name, least in self.config.categories.items():
            if outputs[name] >= least:
                return Refusal(f"abuse/{name.replace('/', '_')}", f"p={outputs[name]:.2f}")
        if probability >= self.config.sure:
            return Refusal("abuse/classifier", f"p={probability:.2f}")
        if self.config.labels is None and probability >= self.config.suspicious and (word := self.word(text)):
            return Refusal("abuse/lexicon_and_classifier", f"{word}, p={probability:.2f}")
        return None


@dataclass(frozen=True)
class Trained:
    """The filter and what was measured of it."""

    filter: AbuseFilter
    measured: dict[str, Estimate]
    """On the half of the labels that a first model was not trained on: precision, recall and average precisions; empty without labels."""

    def report(self) -> dict[str, Any]:
        """For reports: what it learned from and how good it is."""
        return {
            "origin": self.filter.origin,
            "lexicon_words": len(self.filter.words),
            **{name: value._asdict() for name, value in self.measured.items()},
        }

    def metrics(self, prefix: str) -> dict[str, float]:
        """Flat, under ``prefix``."""
        found: dict[str, float] = {}
        for name, value in self.measured.items():
            found |= value.flat(f"{prefix}/{name.replace('-', '_')}")
        return found

    def save(self, directory: Path) -> None:
        """Write the model, and beside it what was measured."""
        self.filter.save(directory)
        (directory / REPORT).write_text(json.dumps(self.report(), indent=1) + "\n", "utf-8")


def lexicon(source: Source, archive: Path) -> list[str]:
    """Words of the packaged list, lower case."""
    lines = member(source, archive, "better_profanity/profanity_wordlist.txt").decode("utf-8").splitlines()
    return sorted({line.strip().lower() for line in lines if PLAIN.fullmatch(line.strip().lower())})


def train(words: list[str], teacher: Teacher, config: AbuseConfig, roots: Sequence[str] = ("",)) -> Trained:
    """The filter from its parts: ``words`` of the lexicon, the packaged model, and the labels that the config names below ``roots``."""
    allowed = frozenset(config.allowed)
    kept = abuse_teacher.listed(teacher, words, allowed, config.lexicon)
    if config.labels is None:
        return Trained(_filter(replace(abuse_teacher.untaught(teacher, allowed), words=kept), config), {})
    labelled = abuse_labels.read(config.labels, roots)
    measured = abuse_training.measure(labelled, teacher, allowed)
    trained_on = len(labelled.texts) - (len(measured.held.texts) if config.held_out else 0)
    origin = f"{trained_on:,} labelled texts ({config.labels.licence}, sha256 {config.labels.sha256[:16]})"
    model = replace(measured.model, origin=origin) if config.held_out else abuse_training.fit(labelled, teacher, allowed, origin)
    return Trained(_filter(replace(model, words=kept), config), _operating_point(measured, config))


def _filter(model: AbuseModel, config: AbuseConfig) -> AbuseFilter:
    return AbuseFilter(**{field.name: getattr(model, field.name) for field in fields(AbuseModel)}, config=config)


def _operating_point(measured: Measured, config: AbuseConfig) -> dict[str, Estimate]:
    held = measured.held
    judge = _filter(measured.model, config)
    refused = [judge.refuse(text) is not None for text in held.texts]
    agree = sum(bool(a and b) for a, b in zip(refused, held.harmful, strict=True))
    return {
        "precision": _share(agree, sum(refused)),
        "recall": _share(agree, int(held.harmful.sum())),
        **{f"average_precision/{name}": value for name, value in measured.average_precision.items()},
    }


def _share(hits: int, total: int) -> Estimate:
    return proportion(hits, total) if total else Estimate(0.0, 0.0, 1.0, 0)
