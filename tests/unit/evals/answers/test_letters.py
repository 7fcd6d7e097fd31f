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
        ("Answer=B", "B"),
        ("The answer is:B", "B"),
        ("(A) is wrong; (C) is right.", "C"),
        ("(A) is incorrect. The correct choice is (C).", "C"),
        ("(A) is incorrect.", ""),
        ("Option A is wrong, so I choose B.", "B"),
        ("Option A is wrong. Option B fits.", "B"),
        ("B isn't it. C is correct.", "C"),
        ("B is not right.", ""),
        ("B is correct, C is not correct.", "B"),
        ("B or possibly C", ""),
        ("B, or maybe C", ""),
        ("The answer is B or perhaps C.", ""),
        ("It's C.", "C"),
        ("It is clear: A is correct.", "A"),
        ("It\u2019s A.", "A"),
        ("It's a cat.", ""),
        ("It's B or C.", ""),
        ("I choose B.", "B"),
        ("I choose A cat.", ""),
        ("I would go with (C).", "C"),
        ("I'd pick D because it floats", "D"),
        ("Hence (D).", "D"),
        ("It floats, so B.", "B"),
        ("So a man came.", ""),
        ("La respuesta correcta es B.", "B"),
        ("La respuesta es la A.", "A"),
        ("La bonne r\u00e9ponse est la B.", "B"),
        ("La r\u00e9ponse est la lettre C, pas B", "C"),
        ("A resposta \u00e9 B", "B"),
        ("A resposta correta \u00e9 a letra C.", "C"),
        ("La risposta corretta \u00e8 la B.", "B"),
        ("\u041e\u0442\u0432\u0435\u0442: B", "B"),
        ("\u041f\u0440\u0430\u0432\u0438\u043b\u044c\u043d\u044b\u0439 \u043e\u0442\u0432\u0435\u0442 \u2014 (C).", "C"),
        ("\u0627\u0644\u0625\u062c\u0627\u0628\u0629: B", "B"),
        ("\u0627\u0644\u0625\u062c\u0627\u0628\u0629 \u0627\u0644\u0635\u062d\u064a\u062d\u0629 \u0647\u064a A.", "A"),
        ("Jibu sahihi ni B.", "B"),
        ("\u0989\u09a4\u09cd\u09a4\u09b0 \u09b9\u09b2 B\u0964", "B"),
        ("\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02: B", "B"),
        ("\u0e04\u0e33\u0e15\u0e2d\u0e1a\u0e04\u0e37\u0e2d B", "B"),
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
