"""The ``content_classifier`` stage: heads on the decoder's features, their baseline, and what both are worth on the held-out half.

Folds of the training half (near duplicates in one fold) say what heads and words make of texts that they were not fitted to; on that they are
calibrated and their thresholds are chosen. What is kept is then trained on the whole half, and measured on the other. Left out: pseudo-labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.formats.feedback import write
from modelyard.formats.harms import ANY, REPORT, VERDICTS, HarmText, Probe, read_probes, read_texts
from modelyard.formats.harms import Report as ClassifierReport
from modelyard.posttrain.content_classifier import features, heads, measure, words
from modelyard.posttrain.content_classifier.classifier import Calibrated, Classifier, Reals, calibrate
from modelyard.posttrain.content_classifier.features import SETTINGS, Features
from modelyard.posttrain.content_classifier.heads import HeadsConfig, Labels
from modelyard.progress import Report


class ContentClassifierConfig(Config):
    """How the classifier is trained and at which point it blocks."""

    seed: int = Field(ge=0)
    """Of the heads' first weights, of dropout and of bootstraps."""
    heads: HeadsConfig = HeadsConfig()
    """Shape and training of the heads."""
    words: bool = True
    """Whether TF-IDF's log-odds count beside the heads'; false: the heads alone, and the words are what they are measured beside."""
    folds: int = Field(default=4, ge=2, le=20)
    """Of the cross-fitting that calibrates and chooses thresholds."""
    beta: float = Field(default=0.5, gt=0)
    """Weight of recall against precision in the F-measure by which thresholds are chosen; below 1 precision counts more."""
    floor: float = Field(default=0.25, gt=0, lt=1)
    """Least threshold: of a category with a dozen texts the best one is chance, and a low one blocks what is safe."""
    protected: tuple[str, ...] = ("sexual/minors", "hate/threatening", "self-harm", "hate")
    """Categories that no release may find significantly worse than the one before it."""
    min_positives: int = Field(default=2, ge=1)
    """Fewest held-out texts that a category needs to be reported on."""

    @model_validator(mode="after")
    def _protected_once(self) -> ContentClassifierConfig:
        if len(set(self.protected)) < len(self.protected):
            raise ValueError("protected: a category is named twice")
        return self


class Fitted(NamedTuple):
    """What was trained, and the words at an operating point of their own."""

    classifier: Classifier
    baseline: Calibrated


def run(config: ContentClassifierConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Train on the texts of ``inputs["harm_labels"]`` with the features of ``inputs["harm_features"]`` and measure.

    Raises:
        ValueError: ``protected`` names a category that the labels have not.
    """
    texts, probes = read_texts(inputs["harm_labels"]), read_probes(inputs["harm_labels"])
    every, settings = features.read(inputs["harm_features"])
    names = (ANY, *dict.fromkeys(name for one in texts for name in one.labels))
    if unknown := [name for name in config.protected if name not in names[1:]]:
        raise ValueError(f"content_classifier.protected: {unknown[0]!r} is none of the labels' categories ({', '.join(names[1:])})")
    labels = measure.columns(texts, names)
    train, test = (np.array([n for n, one in enumerate(texts) if one.split == side], np.int64) for side in ("train", "test"))

    fitted = fit([texts[n] for n in train], every.some(train), labels[train], names, config, report)
    fitted.classifier.save(out)
    (out / SETTINGS).write_text(settings.model_dump_json(indent=1), "utf-8")

    held, asked = [texts[n] for n in test], np.concatenate([test, np.arange(len(texts), len(texts) + len(probes))])
    spoken = [*(one.text for one in held), *(one.text for one in probes)]
    scored = measure.Scored(names, fitted.classifier.probabilities(every.some(asked), spoken), fitted.classifier.calibrated.thresholds)
    beside = measure.Scored(names, fitted.baseline.probabilities([fitted.classifier.words.logits(spoken)]), fitted.baseline.thresholds)
    write(out / VERDICTS, measure.verdicts(held, probes, scored))
    by_judge = sum(bool(texts[n].judge) for n in train)
    learned = f"{by_judge:,} of the {len(train):,} texts that it learned from were labelled by a judge" if by_judge else ""
    found = _report(config, scored, beside, labels[test], held, probes, settings.decoder).model_copy(update={"learned": learned})
    (out / REPORT).write_text(found.model_dump_json(indent=1), "utf-8")
    report(1, 1, unit="report")
    return metrics(found)


def fit(
    texts: Sequence[HarmText], found: Features, labels: Labels, names: tuple[str, ...], config: ContentClassifierConfig, report: Report
) -> Fitted:
    """Cross-fit to calibrate, then train on all of ``texts``."""
    spoken, folds = [one.text for one in texts], folds_of([one.group for one in texts], config.folds)
    by_heads, by_words = np.zeros(labels.shape), np.zeros(labels.shape)
    for fold in range(config.folds):
        kept, left = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(left) or not len(kept):
            continue
        by_heads[left] = heads.fit(found.some(kept), labels[kept], config.heads, config.seed).logits(found.some(left))
        by_words[left] = words.fit([spoken[n] for n in kept], labels[kept]).logits([spoken[n] for n in left])
        report(fold + 1, config.folds + 1, unit="fold")
    parts: list[Reals] = [by_heads, by_words] if config.words else [by_heads]
    trained = Classifier(
        names=names,
        heads=heads.fit(found, labels, config.heads, config.seed),
        words=words.fit(spoken, labels),
        alone=not config.words,
        calibrated=calibrate(parts, labels, config.beta, config.floor),
    )
    return Fitted(trained, calibrate([by_words], labels, config.beta, config.floor))


def folds_of(groups: Sequence[str], folds: int) -> npt.NDArray[np.int64]:
    """[texts] fold of each text, by its group, whose id is a hash already."""
    return np.array([int(group, 16) % folds for group in groups], np.int64)


def _report(
    config: ContentClassifierConfig,
    scored: measure.Scored,
    beside: measure.Scored,
    labels: Labels,
    held: Sequence[HarmText],
    probes: Sequence[Probe],
    decoder: str,
) -> ClassifierReport:
    """Labelled texts come first in ``scored`` and ``beside``, then the probes."""
    count = len(held)

    def first(side: measure.Scored) -> measure.Scored:
        return side._replace(probabilities=side.probabilities[:count])

    reported = [name for number, name in enumerate(scored.names) if (labels[:, number] == 1).sum() >= config.min_positives]
    by_category = {
        name: measure.category(name, first(scored), first(beside), labels[:, scored.names.index(name)], config.seed) for name in reported
    }
    return ClassifierReport(
        origin=f"{count:,} held-out texts in {len({one.group for one in held}):,} groups of near duplicates",
        decoder=decoder,
        protected=config.protected,
        categories=by_category,
        blocked=measure.blocked(probes, scored.blocked[count:]),
        baseline_blocked=measure.blocked(probes, beside.blocked[count:]),
        reliability=measure.reliability(first(scored), labels[:, 0], config.seed),
    )


def metrics(found: ClassifierReport) -> dict[str, float]:
    """The report's numbers, flat, under ``content_classifier``."""
    values: dict[str, float] = {}
    for name, one in found.categories.items():
        key = name.replace("/", "_")
        shown = {"auprc": one.auprc, "baseline_auprc": one.baseline, "gain": one.gain, "precision": one.precision, "recall": one.recall}
        values |= measure.flat(f"content_classifier/{key}", shown | {"calibration_error": one.calibration_error})
    groups = {group: share for group, share in found.blocked.items() if "/" not in group}
    return values | measure.flat("content_classifier/blocked", groups)
