"""Formulas that mean the same, by their near misses."""

import pytest

from modelyard.judges.replies.equivalence import equivalent, math_answer


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (r"So $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"First \boxed{1}, then \boxed{2}.", "2"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        ("Final Answer: The final answer is $[2,5)$. I hope it is correct.", "[2,5)"),
        ("The answer is 3.5.", "3.5"),
        ("I do not know.", ""),
    ],
)
def test_math_answer(output: str, expected: str) -> None:
    assert math_answer(output) == expected


@pytest.mark.parametrize(
    ("ours", "right", "same"),
    [
        (r"\dfrac12", r"\frac{1}{2}", True),
        ("0.5", r"\frac{1}{2}", True),
        ("1/3", r"\frac{1}{3}", True),
        ("0.33", r"\frac{1}{3}", False),
        ("1+x", "x+1", True),
        ("x-1", "1-x", False),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        (r"(3,\frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)", True),
        ("(4,3)", "(3,4)", False),
        (r"\{2,1\}", r"\{1,2\}", True),
        (r"[2,5)", r"(2,5)", False),
        (r"10\%", "10", True),
        (r"5^\circ", "5", True),
        (r"5\text{ cm}", "5", True),
        (r"\text{(B)}", r"\text{(C)}", False),
        ("y^2x^2", "x^2y^2", True),
        (r"\frac{a^2}{b^2}", r"\left(\frac{a}{b}\right)^2", True),
        (r"3^5 \cdot 2^{10}", r"2^{10} \cdot 3^5", True),
        ("(x^2+1)^2", "x^4+2x^2+1", True),
        ("x^2y^3", "x^3y^2", False),
        ("25", "5", False),
        ("", "0", False),
        ("11_2", "11", False),
        ("11", "11_2", False),
        ("11_2", "11_3", False),
        ("11_2", "10_2", False),
        (r"11\text{ base 2}", "11", False),
        ("11_2", "11_{2}", True),
        (r"11_{\text{two}}", "11_2", True),
        (r"11\text{ base }2", "11_2", True),
        ("(11)_2", "11_{2}", True),
        ("1A_{16}", "1A_{16}", True),
        ("x_1", "x_1", True),
        ("2x_2", "2x_3", False),
        ("x^2_2+1", "1+x^2_2", True),
        (r"\log_2 8", "3", True),
    ],
)
def test_equivalent(ours: str, right: str, same: bool) -> None:
    pytest.importorskip("math_verify")

    assert equivalent(ours, right) == float(same)


@pytest.mark.parametrize(
    "ours",
    [
        "9^{9^{9^9}}",
        "9^9^9",
        r"9^{\frac{9^9}{2}}",
        r"9^\frac{9^9}{2}",
        r"9^{2(9^{99}+1)}",
        r"\left(\left(9^{999}\right)^{999}\right)^{999}",
        "9^{99999}",
        "9999!",
        "3!!!",
        "1" * 400,
    ],
)
def test_answer_whose_value_would_not_end_is_compared_as_text(ours: str) -> None:
    assert equivalent(ours, "1") == 0.0
    assert equivalent(ours, ours) == 1.0
