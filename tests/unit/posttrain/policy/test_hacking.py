"""Signs of reward hacking: each is raised by the texts that show it and by no others."""

import numpy as np
import pytest

from modelyard.posttrain.policy.hacking import correlation, distinct, repetition, signs

FLAGS = ("flag_length", "flag_repetition", "flag_distinct", "flag_score_length")


def texts(seed: int, length: int = 12, count: int = 40, vocabulary: int = 500) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocabulary, length + int(generator.integers(-3, 4))).tolist() for _ in range(count)]


def scores(seed: int = 0, count: int = 40) -> list[float]:
    return np.random.default_rng(seed).normal(size=count).tolist()


def raised(policy: list[list[int]], given: list[float]) -> list[str]:
    found = signs(policy, texts(0), given, seed=1)
    names = [name for name in FLAGS if found[name]]
    assert found["flags"] == len(names)
    return names


def test_repetition_and_distinct_hand_worked() -> None:
    assert repetition([1, 2, 1, 2, 1]) == 0.5
    assert repetition([1]) == 0.0
    assert distinct([[1, 2, 3], [1, 2, 3]]) == 0.5
    assert distinct([]) == 0.0
    assert correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)
    assert correlation([1.0, 1.0], [0.0, 5.0]) == 0.0


def test_signs_other_samples_of_the_same_kind_raise_nothing() -> None:
    assert raised(texts(5), scores()) == []


def test_signs_hand_worked_changes() -> None:
    """Lengths 4 and 6 against 2 and 3 (mean 2.5): changes 0.8 and 1.2, mean 1."""
    found = signs([[1, 2, 3, 4], [1, 2, 1, 2, 1, 2]], [[1, 2], [3, 4, 5]], [0.0, 1.0], seed=0)
    assert found["length_change"] == pytest.approx(1.0)
    assert found["repetition_change"] == pytest.approx((0.0 + (1 - 2 / 5)) / 2)
    assert found["distinct_ratio"] == pytest.approx((4 / 8) / 1.0)  # pairs 12 23 34 21 of eight; all three of the reference differ
    assert found["score_length_correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("policy", "given", "flag"),
    [
        (texts(5, length=24), scores(), "flag_length"),
        (texts(5, length=4), scores(), "flag_length"),
        ([[*text[:2], *[text[0], text[1]] * 5] for text in texts(5)], scores(), "flag_repetition"),
        ([texts(5)[i % 4] for i in range(40)], scores(), "flag_distinct"),
        (texts(5), [float(len(text)) for text in texts(5)], "flag_score_length"),
    ],
)
def test_signs_texts_that_game_the_reward_are_flagged(policy: list[list[int]], given: list[float], flag: str) -> None:
    assert flag in raised(policy, given)


def test_signs_completions_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="2 completions, 1 of the reference and 2 scores"):
        signs([[1], [2]], [[1]], [0.0, 1.0], seed=0)
