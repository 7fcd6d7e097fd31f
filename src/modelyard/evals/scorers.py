"""Parsers and scorers: an output and an item's target become a score in [0, 1]. Pure functions, looked up by name so that a benchmark can
hash them.

Black-box parsing as in GPT-Fathom (arXiv:2309.16583, section 3.3): what a model says is judged, and a reply that does not follow the
format scores 0. Left out: choice letters, F1 and judges, which come with their benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Callable

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
CODE_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint", "\n@", "<|endoftext|>", "<|end|>")


def whole(output: str) -> str:
    """The output without surrounding space."""
    return output.strip()


def first_word(output: str) -> str:
    """The first word of the output, lower case; "" when it begins with none (LAMBADA's question: which word comes next)."""
    match = WORD.match(output.lstrip(" \t\n\"'\u201c\u2018(*-"))
    return match.group().lower() if match else ""


def function_body(output: str) -> str:
    """The output up to where a new top-level statement begins (HumanEval, Chen et al. 2021, section 2.2)."""
    ends = [end for stop in CODE_STOPS if (end := output.find(stop)) >= 0]
    return output[: min(ends)] if ends else output


def exact(parsed: str, target: str) -> float:
    """1.0 when parsed output and target are the same, else 0.0. An empty answer is never right."""
    return float(bool(parsed) and parsed == target)


def last_word(parsed: str, target: str) -> float:
    """1.0 when the predicted word is the target word, whatever the case."""
    return exact(parsed.lower(), first_word(target))


def preference(candidate: float, other: float) -> float:
    """1 when the candidate's score is higher, 0 when lower, 0.5 for a tie."""
    return 0.5 if candidate == other else float(candidate > other)


PARSERS: dict[str, Callable[[str], str]] = {"whole": whole, "first_word": first_word, "function_body": function_body}
SCORERS: dict[str, Callable[[str, str], float]] = {"exact": exact, "last_word": last_word}
