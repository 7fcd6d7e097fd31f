"""Text as its content, whatever its spelling: HTML entities resolved, compatibility forms (NFKC) and case folded.

GPT-4's rule keeps case and knows one spelling of a letter; a copy in capitals, full-width letters, decomposed hangul or
escaped HTML is the same text to a model and none to that rule. What stands between letters and digits is dropped, as there.
Left out: look-alike letters of other scripts and transliteration.
"""

from __future__ import annotations

import html
import unicodedata

from modelyard.data.filters.code_points import ALNUM, codes_of, kinds_of

_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_LOWER = bytes.maketrans(_UPPER, _UPPER.lower())
_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_ESCAPES = 3
"""Levels of escaping that are undone (``&amp;quot;`` has two)."""


def strip(text: str) -> str:
    """Letters and digits only, of any script, as written."""
    return stripped(text).decode("utf-8", "surrogatepass")


def stripped(text: str) -> bytes:
    """:func:`strip`, as UTF-8."""
    if text.isascii():
        return text.encode("ascii").translate(None, _DROPPED)
    return _letters(text).encode("utf-8", "surrogatepass")


def fold(text: str) -> str:
    """Letters and digits only, one spelling for each."""
    return folded(text).decode("utf-8", "surrogatepass")


def folded(text: str) -> bytes:
    """:func:`fold`, as UTF-8."""
    for _ in range(_ESCAPES):
        if "&" not in text or (plain := html.unescape(text)) == text:
            break
        text = plain
    if text.isascii():
        return text.encode("ascii").translate(_LOWER, _DROPPED)
    text = unicodedata.normalize("NFKC", text).casefold()
    return _letters(unicodedata.normalize("NFKC", text)).encode("utf-8", "surrogatepass")


def _letters(text: str) -> str:
    codes = codes_of(text)
    kept = codes[(kinds_of(codes) & ALNUM) != 0]
    return kept.tobytes().decode("utf-32-le", "surrogatepass")
