"""Text that is wrapped by hand: mail, RFCs, books and documentation of plain text, whose line ends are where a column ended.

A line is wrapped there when the first word of the next one would not have fitted. A text is wrapped by hand when most of
its paragraphs' inner line ends are such, at a column that people wrap at. Verse, lists and menus are not: their lines end short of any
column. Left out: text in scripts without spaces between words.
"""

from __future__ import annotations

from collections.abc import Iterator

_NARROWEST, _WIDEST = 40, 132
"""Columns of a hand-wrapped text."""
_SHARE = 0.6
"""Of inner line ends that are wrapped; editors and people leave ragged ones, tables and lists stand between."""
_SLACK = 8
"""Characters that a wrapped line may end short of the column, beside the word that did not fit: people break early."""
_BREAKS = 3
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
    ends = list(_inner_ends(lines))
    return len(ends) >= _BREAKS and sum(end > column - _SLACK for end in ends) >= _SHARE * len(ends)


def _inner_ends(lines: list[str]) -> Iterator[int]:
    """For each line end inside a paragraph, how long the line would be with the next one's first word."""
    for line, after in zip(lines, lines[1:], strict=False):
        if (words := after.split(None, 1)) and line.strip():
            yield len(line.rstrip()) + 1 + len(words[0])
