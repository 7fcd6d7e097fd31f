"""C4's rules (Raffel et al. 2020, section 2.2): lines that are no prose are cut, pages that are no prose are refused.

Lines stay that end in terminal punctuation of any script, hold enough words and speak of neither JavaScript nor cookies nor terms of use; a page
goes when it holds a brace or "lorem ipsum", or when too few sentences are left. Wikipedia's citation marks are taken out. Left out: the list of
bad words (the abuse filter's task) and the three-sentence duplicates (:mod:`modelyard.data.filters.passages` and near duplicates do that).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters.languages import SENTENCE_END, ends_sentence, line_words

_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_SENTENCE_END = re.compile(SENTENCE_END)


class C4Config(Config):
    """Which rules hold."""

    min_line_words: int
    """Lines with fewer words are cut (C4: 5; datatrove: 3)."""
    min_sentences: int
    """Pages with fewer sentences left are refused (C4: 3; datatrove: 5)."""
    terminal_punctuation: bool
    """Cut lines that do not end a sentence."""
    braces: bool
    """Refuse pages with a brace."""


class Cut(NamedTuple):
    """What is left of a text, or why nothing is."""

    text: str
    refusal: Refusal | None


def cut(text: str, config: C4Config) -> Cut:
    """The text without its lines that are no prose."""
    if config.braces and "{" in text:
        return Cut(text, Refusal("c4/brace", ""))
    if "orem ipsum" in text or "OREM IPSUM" in text:
        return Cut(text, Refusal("c4/lorem_ipsum", ""))
    if "[" in text:
        text = _CITATION.sub("", text)
    lower = text.lower()
    suspicious = "javascript" in lower or any(phrase in lower for phrase in _POLICY)
    lines = [line for line in text.split("\n") if _kept(line.strip(), config, suspicious)]
    left = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    sentences = len(_SENTENCE_END.findall(left))
    if sentences < config.min_sentences:
        return Cut(text, Refusal("c4/few_sentences", f"{sentences} after cutting lines"))
    return Cut(left, None)


def _kept(line: str, config: C4Config, suspicious: bool) -> bool:
    if not line:
        return True
    if config.terminal_punctuation and (not ends_sentence(line) or line.endswith("...")):
        return False
    if line_words(line) < config.min_line_words:
        return False
    lower = line.lower() if suspicious else ""
    return not (suspicious and ("javascript" in lower or any(phrase in lower for phrase in _POLICY)))
