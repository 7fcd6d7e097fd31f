"""Heads and thresholds by themselves: against a reference written plainly, and on features that tell all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import fbeta_score

from modelyard.posttrain.content_classifier import heads, words
from modelyard.posttrain.content_classifier.classifier import best_threshold, calibrate
from modelyard.posttrain.content_classifier.features import Features
from modelyard.posttrain.content_classifier.heads import HeadsConfig
from modelyard.stats.ranking import average_precision


def _texts(count: int, width: int = 12, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Texts of one to three windows; a text is harmful where one of its windows has a large first number."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(count), rng.integers(1, 4, count))
    values = rng.normal(size=(len(owner), width)).astype(np.float32)
    values[:, 0] = rng.choice([0.0, 4.0], len(owner), p=[0.8, 0.2])
    harmful = np.zeros(count, np.int8)
    np.maximum.at(harmful, owner, (values[:, 0] > 2).astype(np.int8))
    return Features(values, owner), harmful


def test_heads_find_the_harmful_window_and_say_the_same_again() -> None:
    features, harmful = _texts(200)
    labels = np.stack([harmful, 1 - harmful], 1)
    made = heads.fit(features, labels, HeadsConfig(directions=12), seed=1)
    held, truth = _texts(200, seed=1)
    said = made.logits(held)
    assert average_precision(said[:, 0], truth == 1) > 0.95
    again = heads.fit(features, labels, HeadsConfig(directions=12), seed=1).logits(held)
    np.testing.assert_array_equal(said, again)


def test_logits_are_the_worst_window_of_one_mlp_a_category() -> None:
    features, harmful = _texts(30)
    made = heads.fit(features, np.stack([harmful, harmful], 1), HeadsConfig(steps=5), seed=1)
    for number, said in enumerate(made.logits(features)):
        for category in range(2):
            windows = [
                float(np.tanh(((row - made.centre) @ made.basis) @ made.inner[category] + made.inner_bias[category]) @ made.outer[category])
                + float(made.outer_bias[category])
                for row in features.values[features.owner == number]
            ]
            assert said[category] == pytest.approx(max(windows), abs=1e-4)


def test_labels_that_are_not_known_teach_nothing() -> None:
    features, harmful = _texts(60)
    unknown = harmful.copy()
    unknown[30:] = -1
    wrong = np.where(np.arange(60) < 30, harmful, -1).astype(np.int8)
    first, second = (heads.fit(features, column[:, None], HeadsConfig(steps=10), seed=0) for column in (unknown, wrong))
    np.testing.assert_array_equal(first.inner, second.inner)
    fewer = heads.worst(torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([0, 0, 1]), 2)
    assert fewer.tolist() == [[3.0], [2.0]]


def test_some_texts_keep_their_windows_in_the_order_asked_for() -> None:
    features = Features(np.arange(6, dtype=np.float32)[:, None], np.array([0, 0, 1, 2, 2, 2]))
    found = features.some(np.array([2, 0]))
    assert found.owner.tolist() == [0, 0, 0, 1, 1]
    assert found.values[:, 0].tolist() == [3, 4, 5, 0, 1]


def test_threshold_is_the_one_of_largest_f_measure() -> None:
    rng = np.random.default_rng(3)
    for beta in (0.5, 1.0, 2.0):
        truth = rng.random(40) < 0.3
        p = np.round(np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1), 1)

        chosen = best_threshold(p, truth, beta)
        scores = {least: fbeta_score(truth, p >= least, beta=beta) for least in (chosen, *np.unique(p))}
        assert scores[chosen] == pytest.approx(max(scores.values()))


def test_calibrated_probabilities_are_shares_and_one_class_never_blocks() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(size=4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    found = calibrate([np.stack([5 * odds, odds], 1)], np.stack([truth, np.zeros(4000, np.int8)], 1), 1.0, 0.25)
    said = found.probabilities([np.stack([5 * odds, odds], 1)])[:, 0]
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (said >= low) & (said < low + 0.2)
        assert truth[inside].mean() == pytest.approx(said[inside].mean(), abs=0.06)
    assert found.thresholds[0] >= 0.25
    assert found.thresholds[1] == np.inf


def test_words_read_again_say_the_same(tmp_path) -> None:
    texts = ["the cat sat", "a dog ran away", "the cat ran", "dogs sat down", "CATS, dogs & more"]
    labels = np.array([[1, 0], [0, 1], [1, -1], [0, 0], [-1, 1]], np.int8)
    made = words.fit(texts, labels)
    again = words.load(tmp_path, made.save(tmp_path))
    np.testing.assert_allclose(again.logits([*texts, "unseen words, cat", ""]), made.logits([*texts, "unseen words, cat", ""]))
