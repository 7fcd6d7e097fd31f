"""Doubtful labels and the texts to label next, against slow references and planted errors."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from modelyard.data.harms import gather
from modelyard.formats.harms import HarmText
from modelyard.posttrain.content_classifier.cross_scores import Labelled, confident, cross_scored, half, suspects
from modelyard.posttrain.content_classifier.features import Features
from modelyard.posttrain.content_classifier.heads import HeadsConfig
from modelyard.posttrain.content_classifier.next_labels import Shares, choose
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from tests.worlds.imported import harms

CONFIG = ContentClassifierConfig(seed=0, heads=HeadsConfig(directions=4, steps=40))
FLIPPED = (3, 4, 14)


def texts() -> list[HarmText]:
    """All of the world, with three labels of ``cruel`` flipped."""
    rows = [gather.Row(str(row["prompt"]), {"rude": int(row["R"]), "cruel": int(row["C"])}) for row in harms()]
    for number in FLIPPED:
        rows[number].labels["cruel"] ^= 1
    return gather.split(rows, 0.5)


@pytest.mark.parametrize("read", [False, True])
def test_planted_errors_are_doubted_most_by_halves_that_hold_no_near_duplicate(read: bool) -> None:
    found = texts()
    marks = np.array([[0.0, "zzqx" in one.text, "wwyk" in one.text] for one in found], np.float32)
    features = Features(marks + np.random.default_rng(0).normal(0, 0.05, marks.shape).astype(np.float32), np.arange(len(found)))
    known = Labelled.of(found, features if read else None)
    scores = cross_scored(known, CONFIG, halves=2)
    doubtful = suspects(known, scores, most=50)
    first = {(one.id, one.category) for one in doubtful[:3]}
    assert first == {(found[number].id, "cruel") for number in FLIPPED}
    assert all(one.answer is None and one.label != (one.id == found[14].id) for one in doubtful[:3])
    assert {half(one.group, 0) for one in found} == {half(one.group, 1) for one in found} == {0, 1}
    assert suspects(known, scores, most=2) == doubtful[:2]


def test_confident_learning_is_the_papers_count_done_by_hand() -> None:
    draw = np.random.default_rng(4)
    for _ in range(30):
        labels = (draw.random(40) < draw.uniform(0.1, 0.6)).astype(np.int8)
        p = np.clip(labels * 0.4 + draw.random(40) * 0.7, 0, 1)
        by_class = {c: [(v if c else 1 - v) for v, y in zip(p, labels, strict=True) if y == c] for c in (0, 1)}
        if not (by_class[0] and by_class[1]):
            continue
        least = {c: sum(values) / len(values) for c, values in by_class.items()}
        expected = []
        for v, y in zip(p, labels, strict=True):
            reached = {c: q for c, q in ((0, 1 - v), (1, v)) if q >= least[c]}
            counted = max(reached, key=reached.__getitem__, default=None)
            expected.append(counted is not None and counted != y and (v > 0.5) != bool(y))
        assert confident(labels, p).tolist() == expected
    assert not confident(np.ones(3, np.int8), np.array([0.1, 0.2, 0.3])).any()


def test_next_texts_are_of_three_kinds_and_no_text_twice() -> None:
    p = np.random.default_rng(1).random(200)
    chosen = choose(p, 0.8, 30, Shares(random=0.2, above=0.3), seed=5)
    kinds = {reason: [one.place for one in chosen if one.reason == reason] for reason in ("random", "above", "uncertain")}
    assert {reason: len(places) for reason, places in kinds.items()} == {"random": 6, "above": 9, "uncertain": 15}
    assert len({one.place for one in chosen}) == 30
    assert all(p[place] >= 0.8 for place in kinds["above"])
    left = set(range(200)) - set(kinds["random"]) - set(kinds["above"])
    assert set(kinds["uncertain"]) == set(sorted(left, key=lambda place: abs(p[place] - 0.5))[:15])
    assert choose(p, 0.8, 30, Shares(random=0.2, above=0.3), seed=6) != chosen
    none_above = choose(p, 2.0, 30, Shares(random=0.2, above=0.3), seed=5)
    assert [one.reason for one in none_above].count("uncertain") == 24
    assert len(choose(p, 0.8, 500, Shares(), seed=0)) == 200
    with pytest.raises(ValidationError, match=r"random and above are 1\.2 together"):
        Shares(random=0.6, above=0.6)
