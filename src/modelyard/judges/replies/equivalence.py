r"""Mathematical answers that mean the same: MATH (Hendrycks et al. 2021), compared by the library math-verify.

An answer is what the last ``\boxed{}`` holds, or what a sentence calls the (final) answer. Equal spellings are equal; the
library, which parses LaTeX and compares with SymPy, decides the rest; it passes over a number's base, which is compared here.
Left out: numbers whose values are the same in different bases, and its clock, which works in the main thread
only; instead an answer that is long or towers powers and factorials, whose evaluation may not end, is compared as text.
"""

from __future__ import annotations

import re

from modelyard.judges.replies.spelling import boxed

LONGEST = 300
"""Characters of an answer that is parsed."""
ENDLESS = re.compile(r"\^\s*\{?\s*\d{4,}|\d{3,}\s*!|!\s*!|\d{40,}")
"""Large exponents and factorials."""
GROUP = re.compile(r"[{(\[]([^{}()\[\]]*)[)}\]]")
"""Brackets that hold none."""
FLAT, POWER, POWERS = "\x00", "\x01", "\x02"
"""What stands for a group that was read: without a power, with one, with a power of a power."""
TOWER = re.compile(r"\^(?:\\[A-Za-z]+)?\x00*[\x01\x02]|\^-?(?:\d+|[A-Za-z]|\x00)\^|\x02\^")
"""An exponent that itself holds or takes a power, or a power of a power of a power."""
NAMED_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
DRESS = re.compile(r"\\(?:text|mathrm|left|right)|\\[,!; ]|[{}$\s]")
DIGITS = r"[\dA-F]*\d[\dA-F]*"
BASED = re.compile(
    rf"(?<![A-Za-z_^\d])(?:\(({DIGITS})\)|({DIGITS}))(?:_(?:base)?|\(?(?:in)?base)([2-9](?!\d)|[12]\d|3[0-6]|{'|'.join(NAMED_BASES)})"
)
"""A number with its base, without LaTeX's dress: ``11_2``, ``(11)_2``, ``11_two``, ``11base2``."""
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
    if bases(parsed) != bases(target):
        return 0.0
    if bases(target):
        return equivalent(without_bases(parsed), without_bases(target))
    if bare(parsed) == bare(target):
        return 1.0
    if any(len(one) > LONGEST or ENDLESS.search(one) or towers(one) for one in (parsed, target)):
        return 0.0
    try:
        from math_verify import parse, verify
    except ImportError:
        raise ValueError("equivalence of mathematical answers needs the package math-verify") from None
    gold, ours = (parse(f"\\boxed{{{one}}}", parsing_timeout=None) for one in (target, parsed))
    return float(verify(gold, ours, timeout_seconds=None))


def bases(answer: str) -> list[str]:
    """The bases that the numbers of an answer are written in, for those that say so: two numbers of different bases are not the same."""
    return [NAMED_BASES.get(found[3], found[3]) for found in BASED.finditer(DRESS.sub("", answer))]


def without_bases(answer: str) -> str:
    """The numbers alone."""
    return BASED.sub(lambda found: found[1] or found[2], DRESS.sub("", answer))


def towers(answer: str) -> bool:
    """Whether powers stand in exponents or on one another; those that stand side by side (``x^2y^2``) do not."""
    text = re.sub(r"\\left|\\right|\s", "", answer)
    while True:
        if TOWER.search(text):
            return True
        read = GROUP.sub(lambda group: stand_in(group[1]), text)
        if read == text:
            return False
        text = read


def stand_in(inside: str) -> str:
    """The character for a group of this content."""
    if POWERS in inside or f"{POWER}^" in inside:
        return POWERS
    return POWER if POWER in inside or "^" in inside else FLAT


def bare(answer: str) -> str:
    """Without spaces, sizes of brackets, units in words and a final full stop."""
    text = re.sub(r"\\left|\\right|\\[,!; ]|\\text\{\s[^{}]*\}|\s|\$|\\%|%|\^\{?\\circ\}?", "", answer)
    return re.sub(r"\\[dt]frac", r"\\frac", text).removesuffix(".")
