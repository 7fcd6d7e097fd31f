"""Parsers and scorers by their near misses."""

import pytest

from modelyard.evals.scorers import exact_normalised, f1, final_number, letter, rating, refusal, same_number, stated_answer, tenths


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (" B", "B"),
        ("(C)", "C"),
        ("D. because", "D"),
        ("A\nQuestion: next", "A"),
        ("The answer is (B).", "B"),
        ("The correct answer: C", "C"),
        ("A cat sat", ""),
        ("Because of it", ""),
        ("I think so", ""),
        ("The answer is A or the answer is B", ""),
        ("a", ""),
        ("", ""),
    ],
)
def test_letter(output: str, expected: str) -> None:
    assert letter(output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("She has 3.\n#### 18", "18"),
        ("#### 18\n\nQuestion: 5 and 6", "18"),
        ("The answer is $1,234.50.", "1234.5"),
        ("So 3 + 4 = 7. The answer is 7.", "7"),
        ("first 12 then 25", "25"),
        ("it is -4", "-4"),
        ("Die Antwort lautet 29.", "29"),
        ("none", ""),
    ],
)
def test_final_number(output: str, expected: str) -> None:
    assert final_number(output) == expected


def test_same_number_knows_spellings_but_not_near_ones() -> None:
    assert same_number(final_number("70,000.00"), "70000") == 1.0
    assert same_number("25", "5") == 0.0
    assert same_number("", "0") == 0.0


def test_stated_answer_needs_the_phrase() -> None:
    assert stated_answer("Thus. So the answer is (B).\n\nQ: more") == "(B)"
    assert stated_answer("So the answer is ] ].") == "] ]"
    assert stated_answer("I say (B).") == ""


def test_rating_outside_the_scale_is_none() -> None:
    assert rating("fair. [[7]]") == "7"
    assert tenths(rating("[[7]]"), "") == 0.7
    assert rating("[[11]]") == ""
    assert rating("7") == ""
    assert tenths("", "") == 0.0


def test_refusal_reads_the_opening_only() -> None:
    assert refusal(" I'm sorry, but I can't help with that.") == "refusal"
    assert refusal("Use kill -9. " + "x" * 200 + " I'm sorry") == "answer"
    assert refusal("  ") == ""


def test_f1_and_exact_normalised_as_squad() -> None:
    assert f1("The Eiffel Tower!", "eiffel tower") == 1.0
    assert f1("tower of Pisa", "Eiffel tower") == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert f1("", "tower") == 0.0
    assert exact_normalised("An apple.", "apple") == 1.0
    assert exact_normalised("the", "a") == 0.0
