"""F1 of short answers: DROP's over aligned spans (Dua et al. 2019), and of words as each language writes them.

Targets hold the right answers one a line; spans of one answer are set apart by :data:`SPANS`. The best answer counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

import numpy as np

SPANS = "\x1f"
"""Between the spans of one right answer (ASCII's unit separator)."""
UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces, so each character is a word."""


def drop_f1(parsed: str, target: str) -> float:
    """F1 over spans aligned one to one; a span whose numbers all differ counts nothing. Rounded to hundredths, as DROP rounds."""
    ours = [drop_words(parsed)]
    return max((aligned(ours, [drop_words(span) for span in answer.split(SPANS)]) for answer in target.split("\n")), default=0.0)


def aligned(ours: list[set[str]], theirs: list[set[str]]) -> float:
    """Mean F1 of the best pairing; a span without a partner counts 0."""
    from scipy.optimize import linear_sum_assignment  # half a second

    scores = np.array([[f1_of_sets(one, two) if numbers_agree(one, two) else 0.0 for one in ours] for two in theirs])
    rows, columns = linear_sum_assignment(-scores)
    return round(float(scores[rows, columns].sum() / max(len(ours), len(theirs))), 2)


def numbers_agree(ours: set[str], right: set[str]) -> bool:
    """Whether the right span has no number, or ours has one of its numbers."""
    numbers = {word for word in right if is_number(word)}
    return not numbers or bool(numbers & ours)


def f1_of_sets(ours: set[str], right: set[str]) -> float:
    """Harmonic mean of precision and recall; an empty side has all of nothing."""
    same = len(ours & right)
    precision, recall = same / len(ours) if ours else 1.0, same / len(right) if right else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def drop_words(text: str) -> set[str]:
    """Words in lower case without punctuation and articles, hyphens dividing, numbers in one spelling."""
    found: list[str] = []
    for token in re.split("[ -]", text.lower()):
        bare = token if is_number(token) else "".join(c for c in token if c not in string.punctuation)
        bare = str(float(bare)) if is_number(bare) else bare
        found += re.sub(r"\b(a|an|the)\b", " ", bare).split()
    return set(found)


def is_number(token: str) -> bool:
    """Whether Python reads it as a number."""
    try:
        float(token)
    except ValueError:
        return False
    return True


def any_f1_words(parsed: str, target: str) -> float:
    """Best F1 of words, in languages without articles that stand apart."""
    return best_f1(parsed, target, "")


def any_f1_english(parsed: str, target: str) -> float:
    """Best F1 of words, articles left out."""
    return best_f1(parsed, target, r"\b(a|an|the)\b")


def any_f1_arabic(parsed: str, target: str) -> float:
    """Best F1 of words without the article that Arabic writes onto them."""
    return best_f1(parsed, target, r"(?:^|\s)\u0627\u0644")


def best_f1(parsed: str, target: str, articles: str) -> float:
    """F1 with the right answer that it is nearest to; nothing in common is 0."""
    ours = words(parsed, articles)
    found = []
    for answer in target.split("\n"):
        right = words(answer, articles)
        same = sum((Counter(ours) & Counter(right)).values())
        found.append(2 * same / (len(ours) + len(right)) if same else 0.0)
    return max(found)


def words(text: str, articles: str) -> list[str]:
    """Lower case without punctuation of any script and without articles; characters where no spaces are written."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return UNSPACED.sub(r" \1 ", re.sub(articles, " ", bare) if articles else bare).split()
