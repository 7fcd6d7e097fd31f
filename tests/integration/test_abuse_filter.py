"""The abuse filter as built for the default corpus, measured on an independent human-labelled set (never trained on)."""

import gzip
import json
from pathlib import Path

import pytest

from modelyard.config import read_tree
from modelyard.data.corpus.trained import train_abuse
from modelyard.data.filters.abuse import AbuseConfig
from modelyard.stats.estimate import proportion

ROOT = Path(__file__).parents[2]
MODERATION = ROOT.parent / "shared" / "data" / "moderation" / "samples-1680.jsonl.gz"


@pytest.mark.integration
@pytest.mark.skipif(not MODERATION.exists(), reason=f"no {MODERATION}")
def test_abuse_filter_precision_and_recall_on_moderation_set(tmp_path, record_property):
    config = AbuseConfig.model_validate(read_tree(ROOT / "configs/pipeline/tiny.toml")["corpus"]["filters"]["abuse"])
    trained = train_abuse(config, tmp_path)
    rows = [json.loads(line) for line in gzip.decompress(MODERATION.read_bytes()).decode("utf-8").splitlines()]
    bad = [any(row.get(key) == 1 for key in ("S", "S3", "H", "H2", "HR")) for row in rows]
    refused = [trained.filter.refuse(row["prompt"]) is not None for row in rows]
    hits = sum(b and r for b, r in zip(bad, refused, strict=True))
    precision, recall = proportion(hits, sum(refused)), proportion(hits, sum(bad))
    record_property("precision", str(precision))
    record_property("recall", str(recall))
    assert precision.low > 0.7, f"precision {precision}, recall {recall}"
    assert recall.low > 0.3, f"precision {precision}, recall {recall}"
