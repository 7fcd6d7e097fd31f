"""Parsers and scorers by their near misses."""

import pytest

from modelyard.evals.scorers import exact_normalised, f1, function_body, program, rating, tenths
from modelyard.judges.refusal import refusal


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


def test_code_between_fences_is_the_program() -> None:
    reply = "Install it:\n```sh\npip install x\n```\nThen:\n```python\ndef f(x):\n    return x\n\nprint(f(1))\n```\nDone."

    assert program(reply) == "def f(x):\n    return x\n\nprint(f(1))\n"
    assert function_body(reply) == "\n" + program(reply)
    assert function_body("    return x\n```\nThis works.") == "    return x"
    assert function_body("    return a + b\n```\n\nThis adds.\n\n```python\nprint(add(1, 2))\n```\n") == "    return a + b"
    assert function_body("    return a + b\n```\nOutput:\n```\n5\n```") == "    return a + b"
    assert function_body("    return x\n\ndef g():\n    pass") == "    return x\n"
    assert program(" def f(x): return x\n") == "def f(x): return x"
    assert program("1. Write it:\n\n   ```python\n   def f(x):\n       return x\n   ```\n2. Call it.") == "def f(x):\n    return x\n"
    assert program("~~~python\ndef f(x):\n    return '```'\n~~~\nDone.") == "def f(x):\n    return '```'\n"
