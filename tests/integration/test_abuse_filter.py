"""The abuse filter as built for the default corpus, measured on an independent human-labelled set (never trained on)."""

import gzip
import json
from pathlib import Path

import pytest

from modelyard.config import read_tree
from modelyard.data.filters import abuse
from modelyard.data.filters.abuse import AbuseConfig
from modelyard.data.sources import ratings, tweets
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.fetch import fetch
from modelyard.stats.estimate import proportion

ROOT = Path(__file__).parents[2]
MODERATION = ROOT.parent / "shared" / "data" / "moderation" / "samples-1680.jsonl.gz"


@pytest.mark.integration
@pytest.mark.skipif(not MODERATION.exists(), reason=f"no {MODERATION}")
def test_abuse_filter_precision_and_recall_on_moderation_set(tmp_path, record_property):
    config = AbuseConfig.model_validate(read_tree(ROOT / "configs/pipeline/tiny.toml")["corpus"]["filters"]["abuse"])
    archives = {name: fetch(SOURCES[name], tmp_path) for name in ("abuse_lexicon", "abuse_teacher", "tweets", "human_ratings")}
    texts = [d.text for d in tweets.read(SOURCES["tweets"], archives["tweets"])]
    texts += [d.text for d in ratings.read(SOURCES["human_ratings"], archives["human_ratings"]).documents]
    words = abuse.lexicon(SOURCES["abuse_lexicon"], archives["abuse_lexicon"])
    trained = abuse.train(texts, words, abuse.Teacher(SOURCES["abuse_teacher"], archives["abuse_teacher"]), config)
    rows = [json.loads(line) for line in gzip.decompress(MODERATION.read_bytes()).decode("utf-8").splitlines()]
    bad = [any(row.get(key) == 1 for key in ("S", "S3", "H", "H2", "HR")) for row in rows]
    refused = [trained.filter.refuse(row["prompt"]) is not None for row in rows]
    hits = sum(b and r for b, r in zip(bad, refused, strict=True))
    precision, recall = proportion(hits, sum(refused)), proportion(hits, sum(bad))
    record_property("precision", str(precision))
    record_property("recall", str(recall))
    assert precision.low > 0.7, f"precision {precision}, recall {recall}"
    assert recall.low > 0.3, f"precision {precision}, recall {recall}"
