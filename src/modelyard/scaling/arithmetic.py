"""Sums in six grades of difficulty, checked by computing them: a capability that models of ten thousand parameters have in part.

A problem is a line such as ``47+8=`` and wants ``55;``. The grades differ in digits and carries, so a model that has learnt one has not learnt
the next, and samples at temperature 1 hit every grade now and then. One problem in five is never trained on. Left out: code that could loop or
import (``judges.sandbox.run`` runs that).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from modelyard.formats.indexed import Integers

ALPHABET = ";0123456789+="
"""A character's token is its place here; ``;`` ends an answer."""
END = 0
LONGEST = 5
"""Most characters of an answer, its end included."""
HELD_OUT = 5
"""One problem in this many is never trained on."""
GRADES = ("d+d", "dd+d", "dd+d carry", "dd+dd", "dd+dd carry", "ddd+dd")


class Problem(NamedTuple):
    """left + right."""

    left: int
    right: int

    @property
    def name(self) -> str:
        """Such as ``47+8``."""
        return f"{self.left}+{self.right}"

    @property
    def prompt(self) -> str:
        """Such as ``47+8=``."""
        return f"{self.name}="

    @property
    def solution(self) -> str:
        """Such as ``55;``."""
        return f"{self.left + self.right};"


def problems(grade: int) -> list[Problem]:
    """All problems of a grade."""
    spans = ((10, 10), (100, 10), (100, 10), (100, 100), (100, 100), (1000, 100))[grade]
    left, right = (range(0 if span == 10 else span // 10, span) for span in spans)
    carry = grade in (2, 4)
    return [Problem(a, b) for a, b in product(left, right) if grade in (0, 5) or (a % 10 + b % 10 > 9) == carry]


def held_out(problem: Problem) -> bool:
    """Whether a problem belongs to the benchmark."""
    return (problem.left * 7 + problem.right * 3) % HELD_OUT == 0


def benchmark(each: int, seed: int) -> list[tuple[int, Problem]]:
    """``each`` problems of every grade (fewer where a grade has not so many) with their grade, none of them trained on."""
    generator = np.random.default_rng(seed)
    chosen = []
    for grade in range(len(GRADES)):
        there = [problem for problem in problems(grade) if held_out(problem)]
        chosen += [(grade, there[i]) for i in sorted(generator.permutation(len(there))[:each])]
    return chosen


def training_rows(count: int, seq_len: int, seed: int, held: bool = False) -> Integers:
    """Packed tokens [count, seq_len + 1] of solved problems, grades in equal shares; ``held``: of held-out problems, for validation."""
    generator = np.random.default_rng(seed)
    pools = [[encode(p.prompt + p.solution) for p in problems(grade) if held_out(p) == held] for grade in range(len(GRADES))]
    needed, stream = count * (seq_len + 1), list[int]()
    while len(stream) < needed:
        pool = pools[int(generator.integers(len(pools)))]
        stream += pool[int(generator.integers(len(pool)))]
    return np.array(stream[:needed], np.uint16).reshape(count, seq_len + 1)


def encode(text: str) -> list[int]:
    """Characters to tokens. Raises ValueError for a character that is not in the alphabet."""
    return [ALPHABET.index(character) for character in text]


def decode(tokens: Sequence[int]) -> str:
    """Tokens to characters; what is beyond the alphabet becomes ``?``."""
    return "".join(ALPHABET[token] if token < len(ALPHABET) else "?" for token in tokens)


def passes(output: str, problem: Problem) -> bool:
    """Whether what stands before the first ``;`` is the sum as a number; an answer that never ends has failed."""
    answer, end, _ = output.partition(";")
    return bool(end) and answer.isascii() and answer.isdigit() and int(answer) == problem.left + problem.right
