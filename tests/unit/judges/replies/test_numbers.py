"""Numbers as people write them, by their near misses; and that no spelling of a number changes what it is."""

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.evals.catalog.mgsm import LANGUAGES, mgsm
from modelyard.formats.json_file import text_of
from modelyard.judges.replies.numbers import final_number, same_number, same_number_grouped

DATA = Path(os.environ.get("MODELYARD_EVAL_DATA") or Path(__file__).parents[4].parent / "shared" / "data")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("She has 3.\n#### 18", "18"),
        ("#### 18\n\nQuestion: 5 and 6", "18"),
        ("#### Step 1: add\n4 + 5 = 9\n#### 2. Stop\nso 9", "9"),
        ("The answer is $1,234.50.", "1234.5"),
        ("So 3 + 4 = 7. The answer is 7.", "7"),
        ("first 12 then 25", "25"),
        ("it is -4", "-4"),
        ("From 2 it falls by 5: \u22123", "-3"),
        ("8-3 are left, not 5-2", "2"),
        ("Die Antwort lautet 29.", "29"),
        (r"Total: $19 \times 500 = 9{,}500$. So it is $\boxed{9{,}500}$. Done in 2 steps.", "9500"),
        (r"The answer is $\boxed{42\text{ apples}}$ because 40 + 2 is that.", "42"),
        (r"\boxed{\frac{3}{4}} of 8", "0.75"),
        ("To answer 2 things at once: 4+5 = 9 loaves. He has 9 loaves.", "9"),
        ("The answer is **18**. Ask again within 24 hours!", "18"),
        ("**Answer:** 18 eggs\nAsk me 2 more", "18"),
        ("Answer: She sells 16 - 3 = 13 eggs, so 26 dollars", "26"),
        ("The answer to the 2nd question is 5.", "5"),
        ("The answer is 5 + 6 = 11.", "11"),
        ("The answer is 2^3 = 8, of 9.", "8"),
        ("The answer is 2**3 = 8, of 9.", "8"),
        ("The answer is $2^{10} - 24 = 1000$ of 2000", "1000"),
        ("The answer is 5 apples + 6 apples = 11 apples.", "11"),
        ("The answer is 5, since 5 x 2 = 10.", "5"),
        ("The answer is 18 or 20.", ""),
        ("The answer is .5", "0.5"),
        ("The answer is...18", "18"),
        ("The answer is 2 1/2 hours.", "2.5"),
        ("The answer is 2\u00bd hours.", "2.5"),
        ("The answer is 1/3.", "1/3"),
        ("The answer is \uff11\uff12.", "12"),
        ("\u0909\u0924\u094d\u0924\u0930 \u0967\u0968", "12"),
        ("uttar 1,23,456 rupees", "123456"),
        ("\u0e04\u0e33\u0e15\u0e2d\u0e1a\u0e04\u0e37\u0e2d 12 \u0e08\u0e32\u0e01 20", "12"),
        ("\u0e04\u0e33\u0e15\u0e2d\u0e1a: 12 \u0e08\u0e32\u0e01 20", "12"),
        ("co\u00fbte 70\u202f000 \u20ac", "70000"),
        ("costs US$70 000.", "70000"),
        ("Rs. 500, or 70'000 francs", "70000"),
        ("5 * 300 is 1500", "1500"),
        ("1.234,50 Euro", "1234.5"),
        ("3,5 Meter", "3.5"),
        ("um 1.450.000", "1450000"),
        ("\u7b54\u6848\u662f 7\u4e07\u3002\u5171 3 \u4eba", "70000"),
        ("\u7b54\u3048\u306f7\u4e075000\u5186\u3067\u3059\u30022\u65e5\u5206\u3002", "75000"),
        ("about 1.5 million people", "1500000"),
        ("\u5168\u90e8\u30671\u4e072\u5343\u5186", "12000"),
        ("7\u4e075000", "75000"),
        ("Das sind 3 Mio. Euro", "3000000"),
        ("so she earns $2.5k", "2500"),
        ("it boils at 300 K", "300"),
        ("on 12.05.2024 it was 7, see 1,2,3", "7"),
        ("none in A4 or CO2", ""),
        ("**18** per day; ask in 24 hours", "18"),
        ("<b>18</b> of 24", "18"),
        ("**Total: $18** in 24 hours", "18"),
        ("**3 + 4 = 7** of 8", "7"),
        ("\u662f**18**\u4e2a\uff0c\u517124", "18"),
        ("**5** and **6** make 11", "11"),
        ("**Step 1:** 4 + 5, so 9", "9"),
        ("**1.** Add: 9", "9"),
        ("**1. Add** them: 9", "9"),
        ("by **10:30** on **2024-05-01** there are 9", "9"),
        ("**18 or 20** of 30", ""),
        ("2**3 is 8, 3**2 is 9", "9"),
        ("It is 10^3", "1000"),
        ("10\u00b3", "1000"),
        ("10**3", "1000"),
        ("1e3", "1000"),
        ("1.5E-2 m", "0.015"),
        (r"$5 \times 10^{3}$", "5000"),
        ("The answer is 10^3 = 1000 of 4.", "1000"),
        ("10^n", ""),
        ("(-2)^3", ""),
        ("10^3^2", ""),
        ("10^400", ""),
        ("2^{-1}", ""),
        ("12 cm^2", "12"),
        ("x^2", ""),
        ("La risposta \u00e8 42, non 43", "42"),
        ("A resposta final \u00e9: 42, n\u00e3o 43", "42"),
        ("Risposta: 42 di 43", "42"),
        ("La respuesta correcta es 42 de 43", "42"),
        ("\u0110\u00e1p \u00e1n l\u00e0 42, kh\u00f4ng ph\u1ea3i 43", "42"),
        ("\u041e\u0442\u0432\u0435\u0442: 18 \u0438\u043b\u0438 20", ""),
        ("", ""),
    ],
)
def test_final_number(output: str, expected: str) -> None:
    assert final_number(output) == expected


def test_point_before_three_digits_is_read_in_the_benchmarks_language() -> None:
    written = final_number("Es sind 1.450 Euro.")

    assert (same_number(written, "1450"), same_number_grouped(written, "1450")) == (0.0, 1.0)
    assert (same_number(written, "1.45"), same_number_grouped(written, "1.45")) == (1.0, 0.0)
    assert same_number_grouped(final_number("0.125"), "0.125") == 1.0
    assert same_number_grouped(final_number("2,5"), "2.5") == 1.0


def test_same_number_knows_spellings_but_not_near_ones() -> None:
    assert same_number(final_number("70,000.00"), "70000") == 1.0
    assert same_number(final_number("2,125"), "2,125") == 1.0
    assert same_number("25", "5") == 0.0
    assert same_number("", "0") == 0.0
    assert same_number("1/3", "3") == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.decimals(min_value=0, max_value=10**12, places=2, allow_nan=False),
    st.sampled_from([",", ".", " ", "'", "\u00a0", "\u202f", "{,}"]),
    st.sampled_from(["{}", "**{}**", "$\\boxed{{{}}}$", "The answer is ${}.", "#### {}", "so {} kg.", "\u7b54\u6848\uff1a{}\u3002"]),
    st.sampled_from([0x30, 0xFF10, 0x0966, 0x0E50]),
)
def test_final_number_is_the_same_in_every_dress(value: Decimal, separator: str, dress: str, zero: int) -> None:
    whole, _, part = f"{value:,.2f}".partition(".")
    spelled = whole.replace(",", separator) + ("," if separator == "." else ".") + part
    digits = "".join(chr(zero + int(c)) if c.isdigit() else c for c in spelled)

    assert same_number(final_number(dress.format(digits)), str(value)) == 1.0


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")
@pytest.mark.parametrize("language", LANGUAGES)
def test_final_number_reads_the_examples_of_every_language(language: str) -> None:
    rows = [json.loads(line) for line in text_of(DATA / "mgsm" / f"fewshot_{language}.jsonl").splitlines()]

    found = [final_number(row["answer"]) for row in rows]

    assert found == ["11", "29", "39", "9", "33", "8", "8", "5"], "the same eight problems in every language"
    assert mgsm(DATA, None, language).items[0].target == "18"
