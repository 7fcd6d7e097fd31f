r"""Mathematical answers that mean the same: MATH (Hendrycks et al. 2021), compared by the library math-verify.

An answer is what the last ``\boxed{}`` holds, or what a sentence calls the (final) answer. Equal spellings are equal; the
library, which parses LaTeX and compares with SymPy, decides the rest. Left out: its clock, which works in the main thread
only; instead an answer that is long or towers powers and factorials, whose evaluation may not end, is compared as text.
"""

from __future__ import annotations

import re

from modelyard.evals.answers.spelling import boxed

LONGEST = 300
"""Characters of an answer that is parsed."""
ENDLESS = re.compile(r"\^[^+\-=,]*\^|\^\s*\{?\s*\d{4,}|\d{3,}\s*!|!\s*!|\d{40,}")
"""Towers of powers, large exponents and factorials."""
FINAL = re.compile(r"(?:final answer|the answer)\s+is\s*:?\s*(.+?)(?:\.\s*I hope it is correct|\.?\s*(?:\n|$))", re.I)


def math_answer(output: str) -> str:
    """The answer that a solution gives, as LaTeX without dollars; "" without one."""
    if (inside := boxed(output)) is not None:
        return inside.strip()
    found = FINAL.findall(output)
    return str(found[-1]).strip().strip("$").strip() if found else ""


def equivalent(parsed: str, target: str) -> float:
    """1.0 when both mean the same. Raises ValueError where math-verify is not installed."""
    if not parsed:
        return 0.0
    if bare(parsed) == bare(target):
        return 1.0
    if any(len(one) > LONGEST or ENDLESS.search(one) for one in (parsed, target)):
        return 0.0
    try:
        from math_verify import parse, verify
    except ImportError:
        raise ValueError("equivalence of mathematical answers needs the package math-verify") from None
    gold, ours = (parse(f"\\boxed{{{one}}}", parsing_timeout=None) for one in (target, parsed))
    return float(verify(gold, ours, timeout_seconds=None))


def bare(answer: str) -> str:
    """Without spaces, sizes of brackets, units in words and a final full stop."""
    text = re.sub(r"\\left|\\right|\\[,!; ]|\\text\{\s[^{}]*\}|\s|\$|\\%|%|\^\{?\\circ\}?", "", answer)
    return re.sub(r"\\[dt]frac", r"\\frac", text).removesuffix(".")
