"""The country whose numbering plans a text follows, by the language it is written in.

The script says more than a declaration: text in kana is Japanese whatever its source claims. Languages of one script
(Chinese beside Japanese characters, Ukrainian beside Russian) are distinguished by what the document declares, those in
Latin letters that declare nothing by the detector. A
language of many countries goes to the one with most of its speakers online, as CLDR's likely subtags do, except
English: where an English text is from is a config's decision. Left out: dialects and minorities across borders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from modelyard.data.filters.language import detected

COUNTRIES = {
    "ar": "EG", "be": "BY", "bg": "BG", "bn": "BD", "ca": "ES", "cs": "CZ", "da": "DK", "de": "DE", "el": "GR", "es": "ES", "et": "EE",
    "eu": "ES", "fa": "IR", "fi": "FI", "fr": "FR", "gl": "ES", "gu": "IN", "he": "IL", "hi": "IN", "hr": "HR", "hu": "HU", "hy": "AM",
    "id": "ID", "is": "IS", "it": "IT", "ja": "JP", "ka": "GE", "kk": "KZ", "km": "KH", "kn": "IN", "ko": "KR", "lo": "LA", "lt": "LT",
    "lv": "LV", "mk": "MK", "ml": "IN", "mr": "IN", "ms": "MY", "my": "MM", "nb": "NO", "ne": "NP", "nl": "NL", "nn": "NO", "no": "NO",
    "pa": "IN", "pl": "PL", "pt": "BR", "ro": "RO", "ru": "RU", "si": "LK", "sk": "SK", "sl": "SI", "sq": "AL", "sr": "RS", "sv": "SE",
    "ta": "IN", "te": "IN", "th": "TH", "tl": "PH", "tr": "TR", "uk": "UA", "ur": "PK", "vi": "VN", "zh": "CN",
}  # fmt: skip
"""ISO 639-1 language -> ISO 3166 country."""


class Script(NamedTuple):
    """A script's letters and the languages written in it."""

    letters: re.Pattern[str]
    likely: tuple[str, ...]
    """What a text of it is taken for that declares nothing."""
    also: tuple[str, ...]
    """Languages that are believed where a document declares them."""


SCRIPTS = tuple(
    Script(re.compile(f"[{letters}]"), *(tuple(part.split()) for part in f"{languages} |".split("|")[:2]))
    for letters, languages in (
        ("\u3040-\u30ff", "ja"),
        ("\u1100-\u11ff\uac00-\ud7a3", "ko"),
        ("\u4e00-\u9fff", "zh ja | ko"),
        ("\u0400-\u04ff", "ru | uk be bg kk mk sr"),
        ("\u0900-\u097f", "hi | mr ne"),
        ("\u0600-\u06ff", "ar | fa ur"),
        ("\u0370-\u03ff", "el"),
        ("\u0590-\u05ff", "he"),
        ("\u0e00-\u0e7f", "th"),
        ("\u0980-\u09ff", "bn"),
        ("\u0b80-\u0bff", "ta"),
        ("\u0c00-\u0c7f", "te"),
        ("\u0530-\u058f", "hy"),
        ("\u10a0-\u10ff", "ka"),
        ("\u0e80-\u0eff", "lo"),
        ("\u1000-\u109f", "my"),
        ("\u1780-\u17ff", "km"),
    )
)
"""Kana and hangul come before the Chinese characters that stand among them."""
_NOT_LATIN = re.compile("[\u0370-\u1dff\u3040-\ud7ff]")
_LETTER = re.compile(r"[^\W\d_]")
_SHOWN = 2000
_SHARE = 0.1
_SURE = 0.6
"""Probability from which the detector is believed about text in Latin letters."""


def regions_of(text: str, language: str, default: str, chosen: Mapping[str, str] = {}) -> tuple[str, ...]:
    """ISO 3166 countries of a text, the likeliest first; more than one where Chinese characters alone leave it open.

    Args:
        text: the document; its first 2,000 characters are looked at.
        language: what the document declares, ISO 639-1; ``und`` where it declares nothing.
        default: the country of English and of languages without an entry.
        chosen: language -> country, over :data:`COUNTRIES`.
    """
    languages = languages_of(text[:_SHOWN], language)
    if languages == ("und",):
        found, score = detected(text)
        languages = (found,) if score >= _SURE else languages
    return tuple(chosen.get(one) or COUNTRIES.get(one, default) for one in languages)


def languages_of(text: str, language: str) -> tuple[str, ...]:
    """The languages that the text's script leaves possible, ``language`` alone where it is one of them or the script is Latin."""
    if text.isascii() or _NOT_LATIN.search(text) is None:
        return (language,)
    letters = len(_LETTER.findall(text))
    for script in SCRIPTS:
        if len(script.letters.findall(text)) > _SHARE * letters:
            return (language,) if language in script.likely + script.also else script.likely
    return (language,)
