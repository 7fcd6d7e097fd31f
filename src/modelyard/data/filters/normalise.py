"""Unicode repair and normalisation: every text passes here first and is changed, not refused, unless nothing is left.

ftfy mends mojibake and HTML entities, then NFC; control characters go, line ends become ``\\n``, trailing blanks and
long runs of blank lines shrink. ASCII text without ``&`` cannot change under ftfy and skips it (most of the corpus, and
the slowest step).
"""

from __future__ import annotations

import re

import ftfy

from modelyard.data.corpus.document import Refusal

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TRAILING = re.compile(r"[ \t]+\n")
_BLANK_LINES = re.compile(r"\n{4,}")
_ESCAPES = re.compile(r"[&\x1b]")
_CONFIG = ftfy.TextFixerConfig(normalization="NFC", uncurl_quotes=True, unescape_html="auto")


def normalise(text: str) -> str:
    """The text as the corpus keeps it."""
    if not text.isascii() or _ESCAPES.search(text):
        text = ftfy.fix_text(text, config=_CONFIG)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    text = _CONTROL.sub("", text)
    text = _BLANK_LINES.sub("\n\n\n", _TRAILING.sub("\n", text))
    return text.strip("\n").rstrip()


def refuse(text: str) -> Refusal | None:
    """Refuses a text that normalisation left empty or that holds characters lost before it came here."""
    if not text.strip():
        return Refusal("normalise/empty", "")
    if (lost := text.count("\ufffd")) > 0:
        return Refusal("normalise/undecodable", f"{lost} lost characters")
    return None
