"""The abuse filter as built for the default corpus and from labels, measured on texts that it was not trained on."""

import hashlib
import os
from pathlib import Path

import pytest

from bench.abuse_functional import cases
from modelyard.config import read_tree
from modelyard.data.corpus.trained import train_abuse
from modelyard.data.filters import abuse_labels
from modelyard.data.filters.abuse import AbuseConfig
from modelyard.stats.estimate import proportion

ROOT = Path(__file__).parents[2]
MODERATION = Path(os.environ.get("MODELYARD_DATA", ROOT.parent / "shared" / "data")) / "moderation" / "samples-1680.jsonl.gz"
PLAIN = read_tree(ROOT / "configs/pipeline/tiny.toml")["corpus"]["filters"]["abuse"]
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not MODERATION.exists(), reason=f"no {MODERATION}")]


@pytest.fixture(scope="module")
def labels():
    return {"path": str(MODERATION.resolve()), "sha256": hashlib.sha256(MODERATION.read_bytes()).hexdigest(), "licence": "MIT"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_abuse_filter_without_labels_precision_and_recall_on_moderation_set(labels, cache, record_property):
    trained = train_abuse(AbuseConfig.model_validate(PLAIN), cache)
    rows = abuse_labels.read(abuse_labels.LabelsConfig.model_validate(labels))
    refused = [trained.filter.refuse(text) is not None for text in rows.texts]
    hits = sum(bool(b and r) for b, r in zip(rows.harmful, refused, strict=True))
    precision, recall = proportion(hits, sum(refused)), proportion(hits, int(rows.harmful.sum()))
    record_property("precision", str(precision))
    record_property("recall", str(recall))
    assert precision.low > 0.7, f"precision {precision}, recall {recall}"
    assert recall.low > 0.3, f"precision {precision}, recall {recall}"


@pytest.mark.slow
def test_abuse_filter_with_labels_on_its_held_out_half_and_on_functional_tests(labels, cache, record_property):
    trained = train_abuse(AbuseConfig.model_validate({**PLAIN, "labels": labels, "sure": 0.6}), cache)
    for name, value in trained.measured.items():
        record_property(name, str(value))
    assert trained.measured["average_precision/any"].low > 0.7, trained.measured
    assert trained.measured["average_precision/sexual"].low > 0.7, trained.measured
    assert trained.measured["precision"].low > 0.75, trained.measured
    for group in ("women", "Muslims", "Koreans", "deaf people"):
        assert trained.filter.refuse(f"Kill all {group}."), group
    for harmless in ("I fucking love this", "I fucking love this song!", "How do I kill a process?", "My neighbours are Muslims."):
        assert trained.filter.refuse(harmless) is None, harmless
    of = {
        harmful: [trained.filter.refuse(case.text) is not None for case in cases() if case.harmful == harmful] for harmful in (True, False)
    }
    assert proportion(sum(of[True]), len(of[True])).low > 2 * proportion(sum(of[False]), len(of[False])).high
