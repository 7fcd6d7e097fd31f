"""Metrics and scorers against slow references and near misses."""

import itertools

import pytest

from modelyard.evals import metrics, scorers


@pytest.mark.parametrize(("n", "c", "k"), [(5, 0, 1), (5, 2, 1), (5, 2, 3), (6, 3, 4), (4, 4, 2)])
def test_pass_at_k_equals_the_share_of_all_draws(n: int, c: int, k: int) -> None:
    draws = list(itertools.combinations([1] * c + [0] * (n - c), k))

    assert metrics.pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


def test_pass_at_k_more_than_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@3"):
        metrics.pass_at_k(2, 1, 3)


def test_preference_tie_counts_a_half() -> None:
    assert [scorers.preference(a, b, "fp32") for a, b in ((1.0, 1.0), (2.0, 1.0), (3.0, 4.0))] == [0.5, 1.0, 0.0]


def test_repetition_loop_is_high_and_fresh_text_is_zero() -> None:
    assert metrics.repetition([1, 2, 3, 4, 5, 6]) == 0.0
    assert metrics.repetition([7, 7, 7, 7, 7, 7]) == pytest.approx(0.75)
    assert metrics.repetition([1]) == 0.0


@pytest.mark.parametrize(
    ("output", "target", "score"),
    [
        (" Castle and then", "castle", 1),
        ("castle.", "castle", 1),
        (" castles", "castle", 0),
        ("", "castle", 0),
        (" 25", "5", 0),
        ("don't go", "don't", 1),
        ("... castle", "castle", 0),
    ],
)
def test_last_word_near_misses_are_wrong(output: str, target: str, score: float) -> None:
    assert scorers.last_word(scorers.first_word(output), target) == score


def test_exact_empty_answer_is_never_right() -> None:
    assert scorers.exact("", "") == 0.0


def test_function_body_ends_at_the_next_statement() -> None:
    assert scorers.function_body("    return 1\n\ndef other():\n    pass") == "    return 1\n"
