"""Text that is wrapped by hand: mail, RFCs, books and documentation of plain text, whose line ends are where a column ended.

A line is wrapped there when the first word of the next one would not have fitted, and that word goes on with a sentence: it has no
capital, or, in a script without capitals, the line ends no sentence. A text is wrapped by hand when most of its paragraphs' inner line
ends are such, at a column that people wrap at. Verse, lists and menus are not: their lines end short of a column and begin with
capitals. Left out: scripts without spaces between words.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from modelyard.data.filters.languages import ends_sentence

_NARROWEST, _WIDEST = 40, 132
"""Columns of a hand-wrapped text."""
_SHARE = 0.5
"""Of inner line ends that are wrapped; names have capitals, editors leave ragged ends, tables and lists stand between."""
_SLACK = 8
"""Characters that a wrapped line may end short of the column, beside the word that did not fit: people break early."""
_BREAKS = 5
"""Fewest inner line ends that say anything."""


def paragraphs(text: str) -> list[str]:
    """The lines of a text; of a hand-wrapped one its paragraphs, line ends inside them kept; blank lines as they are."""
    lines = text.split("\n")
    if not is_wrapped(lines):
        return lines
    found: list[str] = []
    inside = False
    for line in lines:
        blank = not line.strip()
        if inside and not blank:
            found[-1] += "\n" + line
        else:
            found.append(line)
        inside = not blank
    return found


def is_wrapped(lines: list[str]) -> bool:
    """Whether the lines are those of a text wrapped by hand."""
    lengths = sorted(len(line.rstrip()) for line in lines if line.strip())
    if not lengths:
        return False
    column = lengths[int(0.95 * (len(lengths) - 1))]
    if not _NARROWEST <= column <= _WIDEST:
        return False
    ends = list(_inner_ends(lines, column - _SLACK))
    return len(ends) >= _BREAKS and sum(ends) >= _SHARE * len(ends)


def _inner_ends(lines: list[str], longest: int) -> Iterator[bool]:
    """For each line end inside a paragraph, whether it was made because ``longest`` was reached."""
    for line, after in pairwise(lines):
        if (words := after.split(None, 1)) and line.strip():
            yield _goes_on(line.rstrip(), words[0][0]) and len(line.rstrip()) + 1 + len(words[0]) > longest


def _goes_on(line: str, letter: str) -> bool:
    """Whether a sentence of ``line`` may go on with a word that begins with ``letter``."""
    has_case = letter.lower() != letter.upper()
    return not (letter.isupper() if has_case or not letter.isalpha() else ends_sentence(line))
