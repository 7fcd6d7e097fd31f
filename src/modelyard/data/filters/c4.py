"""C4's rules (Raffel et al. 2020, section 2.2): lines that are no prose are cut, pages that are no prose are refused.

Lines stay that end in terminal punctuation of any script, hold enough words and speak of neither JavaScript nor cookies nor terms of use; a page
goes when it holds a brace or "lorem ipsum", or when too few sentences are left. Wikipedia's citation marks are taken out. A line of the paper is a
paragraph of a page, so where text is wrapped by hand (:mod:`modelyard.data.filters.wrapped`) its paragraphs are judged whole. What is cut is
counted by rule, and a page that would lose too much of itself is refused rather than shredded. Left out: the list of bad words (the
abuse filter's task) and the three-sentence duplicates (:mod:`modelyard.data.filters.passages` and near duplicates do that).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import wrapped
from modelyard.data.filters.languages import ends_sentence, line_words, notices, sentences

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


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
    max_cut: float = Field(default=0.5, ge=0, le=1)
    """Pages that would lose a larger share of their characters are refused; 1 allows any loss, as C4 does."""


class Cut(NamedTuple):
    """What is left of a text, or why nothing is."""

    text: str
    refusal: Refusal | None
    characters: dict[str, int] = {}  # noqa: RUF012 - never written to
    """Rule -> how many it cut."""


def cut(text: str, config: C4Config, language: str = "en") -> Cut:
    """The text without its lines that are no prose; ``language`` says by which phrases lines about terms and cookies are known."""
    if config.braces and "{" in text:
        return Cut(text, Refusal("c4/brace", ""))
    if "orem ipsum" in text or "OREM IPSUM" in text:
        return Cut(text, Refusal("c4/lorem_ipsum", ""))
    size = len(text)
    left = _CITATION.sub("", text) if "[" in text else text
    gone: Counter[str] = Counter({"c4/citation": size - len(left)})
    lower = left.lower()
    phrases = ("javascript", *notices(language).line)
    found = tuple(phrase for phrase in phrases if phrase in lower)
    lines = []
    for line in wrapped.paragraphs(left):
        if rule := _no_prose(line.strip(), config, found):
            gone[rule] += len(line) + 1
        else:
            lines.append(line)
    left = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    if (whole := sentences(left)) < config.min_sentences:
        return Cut(text, Refusal("c4/few_sentences", f"{whole} after cutting lines"))
    if (total := sum(gone.values())) > config.max_cut * size:
        most = max(gone, key=lambda rule: gone[rule])
        return Cut(text, Refusal("c4/mostly_cut", f"{min(1.0, total / size):.0%} of its characters, most by {most}"))
    return Cut(left, None, {rule: count for rule, count in gone.items() if count})


def _no_prose(line: str, config: C4Config, phrases: tuple[str, ...]) -> str | None:
    """The rule that cuts a line, None where it stays; ``phrases`` are those that its page holds."""
    if not line:
        return None
    if config.terminal_punctuation and (not ends_sentence(line) or line.endswith("...")):
        return "c4/unfinished_line"
    if line_words(line) < config.min_line_words:
        return "c4/short_line"
    lower = line.lower() if phrases else ""
    return "c4/policy_line" if any(phrase in lower for phrase in phrases) else None
