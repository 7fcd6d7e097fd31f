"""The phrase that follows ``the answer is``, by its near misses."""

import pytest

from modelyard.judges.replies.letters import stated_answer


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
