"""Letters and stated answers as people write them, by their near misses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.evals.answers.letters import letter, stated_answer


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (" B", "B"),
        ("(C)", "C"),
        ("(a)", "A"),
        ("D. because", "D"),
        ("B - Paris", "B"),
        ("B because it floats", "B"),
        ("A\nQuestion: next", "A"),
        (" **B**", "B"),
        (" **(C)** Paris", "C"),
        (" $\\boxed{D}$", "D"),
        ("so \\boxed{\\text{D}} and not B", "D"),
        ("\\boxed{7}", ""),
        ("The answer is (B).", "B"),
        ("The answer is **B**.", "B"),
        ("The correct answer is option C, not B.", "C"),
        ("**Answer:** C", "C"),
        ("The correct answer: C", "C"),
        ("Option A is wrong, so the answer is B.", "B"),
        ("I would take choice D.", "D"),
        ("It melts.\n\n**C**", "C"),
        ("\u7b54\u6848\uff1aB\u3002", "B"),
        ("\u6b63\u786e\u7b54\u6848\u662f\uff08B\uff09\uff0c\u56e0\u4e3a A \u4e0d\u5bf9", "B"),
        ("\u6211\u9009 C", "C"),
        ("\u7b54\u3048\u306f\uff22\u3067\u3059", "B"),
        ("B\u3067\u3059\u3002", "B"),
        ("\uc815\ub2f5\uc740 D\uc785\ub2c8\ub2e4", "D"),
        ("(B) or (C)", ""),
        ("B or C", ""),
        ("A and B", ""),
        ("A, B", ""),
        ("The answer is B or C.", ""),
        ("The answer is A or the answer is B", ""),
        ("\u7b54\u6848\u662fA\u6216B", ""),
        ("The answer is not B.", ""),
        ("The answer is a cat.", ""),
        ("The answer is A cat.", ""),
        ("A cat sat", ""),
        ("E.g. this one", ""),
        ("Because of it", ""),
        ("I think so", ""),
        ("I'm sure", ""),
        ("a", ""),
        ("N", ""),
        ("L", "L"),
        ("(A) is wrong. The answer is (B).", "B"),
        ("A) is incorrect, since x.\nB) is correct.\nThe answer is B.", "B"),
        ("A. Paris: no.\nB. Rome: yes.\nAnswer: B", "B"),
        ("E. coli is the right bacterium so the answer is B", "B"),
        ("B, so the answer is B.", "B"),
        ("B\n\nQuestion: Which next?\nAnswer: C", "B"),
        ("", ""),
    ],
)
def test_letter(output: str, expected: str) -> None:
    assert letter(output) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from("ABCDEFGHIJ"),
    st.sampled_from(
        [
            "{}",
            "({})",
            "[{}]",
            "**{}**",
            "{}.",
            "{}) it floats",
            "\\boxed{{{}}}",
            "Answer: {}",
            "The answer is ({}).",
            "\u7b54\u6848\u662f{}\u3002",
        ]
    ),
    st.sampled_from(["", " ", "\n"]),
)
def test_letter_is_the_same_in_every_dress(right: str, dress: str, before: str) -> None:
    assert letter(before + dress.format(right)) == right


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Thus. So the answer is (B).\n\nQ: more", "(B)"),
        ("So the answer is ] ].", "] ]"),
        ("The answer is Yes.", "Yes"),
        ("So the answer is **No**.", "No"),
        ("So the answer is (B). The others do not fit.", "(B)"),
        ("the answer is 3.5. Next", "3.5"),
        ("I say (B).", ""),
    ],
)
def test_stated_answer_needs_the_phrase_and_ends_with_the_sentence(output: str, expected: str) -> None:
    assert stated_answer(output) == expected
