"""Parsers and scorers: an output and an item's target become a score in [0, 1]. Pure functions, looked up by name so that a benchmark can
hash them.

Black-box parsing as in GPT-Fathom (arXiv:2309.16583, section 3.3): what a model says is judged, and a reply that does not follow the
format scores 0. Numbers and letters as people write them are :mod:`modelyard.judges.replies`. Left out: paraphrase, which needs a judge.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from textwrap import dedent

from modelyard.judges.refusal import refusal
from modelyard.judges.replies.equivalence import equivalent, math_answer
from modelyard.judges.replies.letters import letter, stated_answer
from modelyard.judges.replies.numbers import final_number, same_number, same_number_grouped
from modelyard.judges.replies.spans import any_f1_arabic, any_f1_english, any_f1_words, drop_f1
from modelyard.judges.replies.spelling import plain
from modelyard.stats import ties

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
RELAXED = 0.05
"""By how much of a chart's number an answer may be off."""
CODE_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint", "\n@", "\n```", "<|endoftext|>", "<|end|>")
LEAD = re.compile(
    r"(?:(?:so|thus|therefore),?\s+)?(?:(?:the|my)\s+)?(?:(?:short|final|correct|right)\s+)?(?:answer|A)\s*(?:is\b|:)\s*:?\s*", re.I
)
"""What comes before a short answer."""
FENCE = re.compile(
    r"^[ \t]*(?P<mark>```|~~~)(?:[^\n`~]+\n(?P<named>.*?)(?:^[ \t]*(?P=mark)|\Z)|\n(?P<plain>.*?)^[ \t]*(?P=mark))", re.S | re.M
)
"""A block between code fences, in a list perhaps; one that names its language may be cut off."""

ENDED = re.compile(r"\n*[ \t][^`]*\S[^`]*\n```[ \t]*(?:\n|\Z)")
"""A body that goes on from its prompt and is closed by a fence that nothing opened."""


def whole(output: str) -> str:
    """The output without surrounding space."""
    return output.strip()


def short_answer(output: str) -> str:
    """What a chat model gives as a name, a number or a few words: of the first line that says something, what follows ``the answer is``, or all of
    it, without a full stop at its end."""
    line = next((one.strip() for one in plain(output).splitlines() if one.strip()), "")
    return LEAD.sub("", line).removesuffix(".").strip("\"'\u201c\u201d \t")


def first_word(output: str) -> str:
    """The first word of the output, lower case; "" when it begins with none (LAMBADA's question: which word comes next)."""
    match = WORD.match(output.lstrip(" \t\n\"'\u201c\u2018(*-"))
    return match.group().lower() if match else ""


def function_body(output: str) -> str:
    """The output up to where a new top-level statement begins (HumanEval, Chen et al. 2021, section 2.2); what a chat model
    puts between code fences, whole function or body, as it is."""
    if not ENDED.match(output) and (code := fenced(output)) is not None:
        return f"\n{code}"
    ends = [end for stop in CODE_STOPS if (end := output.find(stop)) >= 0]
    return output[: min(ends)] if ends else output


def program(output: str) -> str:
    """The code between the output's fences, or all of it."""
    return output.strip() if (code := fenced(output)) is None else code


def fenced(output: str) -> str | None:
    """The first block between code fences that defines something, else the first of all; None without one."""
    blocks = [dedent(match["named"] or match["plain"] or "") for match in FENCE.finditer(output)]
    return next((block for block in blocks if re.search(r"^\s*(?:def|class) ", block, re.M)), blocks[0]) if blocks else None


def exact(parsed: str, target: str) -> float:
    """1.0 when parsed output and target are the same, else 0.0. An empty answer is never right."""
    return float(bool(parsed) and parsed == target)


def last_word(parsed: str, target: str) -> float:
    """1.0 when the predicted word is the target word, whatever the case."""
    return exact(parsed.lower(), first_word(target))


def preference(candidate: float, other: float, precision: ties.Format) -> float:
    """1 when the candidate's score is higher, 0 when lower, 0.5 for a tie; ``precision``: the scorer model's."""
    return ties.preferred(candidate, other, precision)


def rating(output: str) -> str:
    """The judge's ``[[7]]``; "" when it gives none or one outside 1 to 10."""
    found = re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", output)
    return found[-1] if found and 1 <= float(found[-1]) <= 10 else ""


def f1(parsed: str, target: str) -> float:
    """Word F1 after SQuAD's normalisation (lower case, no punctuation of any script, no articles); 1 for two empty answers, 0 for one."""
    ours, theirs = (normalised(text).split() for text in (parsed, target))
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs))


def normalised(text: str) -> str:
    """Lower case, without punctuation of any script, articles and double spaces."""
    return normalised_ascii("".join(c for c in text if not unicodedata.category(c).startswith("P")))


def normalised_ascii(text: str) -> str:
    """Lower case, without ASCII's punctuation, articles and double spaces: SQuAD's."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


def exact_normalised(parsed: str, target: str) -> float:
    """1.0 when both say the same after :func:`normalised`."""
    return float(bool(normalised(parsed)) and normalised(parsed) == normalised(target))


def any_exact(parsed: str, target: str) -> float:
    """:func:`exact_normalised` with any of the right answers, one a line."""
    return max(exact_normalised(parsed, one) for one in target.split("\n"))


def any_exact_ascii(parsed: str, target: str) -> float:
    """:func:`any_exact` after :func:`normalised_ascii`, as lm-evaluation-harness counts NaturalQuestions and TriviaQA."""
    ours = normalised_ascii(parsed)
    return float(bool(ours) and any(ours == normalised_ascii(one) for one in target.split("\n")))


def any_f1(parsed: str, target: str) -> float:
    """Best :func:`f1` with any of the right answers, one a line."""
    return max(f1(parsed, one) for one in target.split("\n"))


def any_relaxed(parsed: str, target: str) -> float:
    """ChartQA's relaxed accuracy (Masry et al. 2022, section 5): a number within 5% of a right one, any other answer by :func:`any_exact`."""
    said = read_off(parsed)
    for one in target.split("\n"):
        right = read_off(one)
        if said is not None and right is not None and (said == right or (right != 0 and abs(said - right) / abs(right) <= RELAXED)):
            return 1.0
    return any_exact(parsed, target)


def read_off(text: str) -> float | None:
    """A number as a chart writes it, a percent sign or not; None for anything else."""
    plain = text.strip().removesuffix("%").replace(",", "").strip()
    return float(plain) if re.fullmatch(r"[-+]?\d+(\.\d+)?", plain) else None


def tenths(parsed: str, target: str) -> float:
    """A judge's rating of 1 to 10 as a share of 10; no rating is 0."""
    return float(parsed) / 10 if parsed else 0.0


PARSERS: dict[str, Callable[[str], str]] = {
    function.__name__: function
    for function in (
        whole,
        short_answer,
        first_word,
        function_body,
        program,
        letter,
        final_number,
        stated_answer,
        math_answer,
        rating,
        refusal,
    )
}
SCORERS: dict[str, Callable[[str, str], float]] = {
    function.__name__: function
    for function in (
        exact,
        last_word,
        f1,
        exact_normalised,
        any_exact,
        any_exact_ascii,
        any_f1,
        any_relaxed,
        any_f1_words,
        any_f1_english,
        any_f1_arabic,
        drop_f1,
        same_number,
        same_number_grouped,
        equivalent,
        tenths,
    )
}
