"""The abuse model survives its file unchanged."""

from pathlib import Path

import numpy as np
import pytest

from modelyard.formats import abuse


def test_abuse_model_read_back_gives_the_same_answers(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=abuse.BUCKETS).astype(np.float32)
    model = abuse.AbuseModel(frozenset({"vile"}), weights, -0.5, frozenset({"damn"}))

    model.save(tmp_path)
    again = abuse.load(tmp_path)

    texts = ["a vile thing", "damn fine film", "", "V1le words"]
    assert [again.probability(t) for t in texts] == [model.probability(t) for t in texts]
    assert [again.word(t) for t in texts] == ["vile", None, None, "vile"]
    assert again.identity == model.identity
    assert again.identity != abuse.AbuseModel(frozenset({"vile"}), weights, -0.4, frozenset({"damn"})).identity


def test_abuse_model_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"abuse\.npz"):
        abuse.load(tmp_path)
