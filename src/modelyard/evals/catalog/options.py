"""Rows of multiple choice, whatever their fields are called: one shape for every set, ours and the Hub's.

Options are a list (``choices``, ``options``, ``endings``), a list with labels (ARC) or columns ``A``, ``B``...; the right
one is a place from 0, a label, a letter, a text, or a list of them (``answer``, ``answerKey``, ``label``, ``gold``). A row
that cannot be asked is a one-line error that names its file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from modelyard.evals.ways import LETTERS
from modelyard.formats.json_file import Line

TEXTS, RIGHT = ("choices", "options", "endings"), ("answer", "answerKey", "label", "gold")
CONTEXT = ("context", "article", "passage")


class OptionRow(NamedTuple):
    """One question with options."""

    where: str
    """``file:line``."""
    question: str
    choices: tuple[str, ...]
    right: tuple[int, ...]
    """Places of the right options, from 0."""
    context: str
    subject: str

    @property
    def first(self) -> str:
        """The (first) right option's text."""
        return self.choices[self.right[0]]

    @property
    def letter(self) -> str:
        """The (first) right option's letter."""
        return LETTERS[self.right[0]]


def option_rows(lines: Iterable[Line], *, question: Sequence[str] = ("question", "query"), lettered: bool = False) -> list[OptionRow]:
    """Every row. Raises ValueError naming the line; ``lettered``: there are no more options than letters."""
    return [option_row(line, question, lettered) for line in lines]


def option_row(line: Line, question: Sequence[str], lettered: bool) -> OptionRow:
    """One row. Raises ValueError as :func:`option_rows`."""
    where, row = line
    asked = first_of(row, question)
    if not isinstance(asked, str) or not asked.strip():
        raise ValueError(f"{where}: no {' or '.join(map(repr, question))}")
    given = first_of(row, TEXTS)
    labels = given.get("label") if isinstance(given, dict) else None
    texts = given.get("text") if isinstance(given, dict) else given
    if texts is None:
        texts = [row[letter] for letter in LETTERS if letter in row]
    if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(one, str) and one.strip() for one in texts):
        raise ValueError(f"{where}: choices: not a list of at least two texts")
    if lettered and len(texts) > len(LETTERS):
        raise ValueError(f"{where}: choices: {len(texts)} options, and there are letters for {len(LETTERS)}")
    answer = first_of(row, RIGHT)
    try:
        right = tuple(place(one, texts, labels, lettered) for one in (answer if isinstance(answer, list) else [answer]))
    except ValueError as error:
        raise ValueError(f"{where}: answer: {error}") from None
    if not right:
        raise ValueError(f"{where}: answer: no right option")
    return OptionRow(where, asked, tuple(texts), right, str(first_of(row, CONTEXT) or ""), str(row.get("subject") or ""))


def without_options(line: Line) -> bool:
    """Whether a row asks for an answer in words: it has one, and no options."""
    row = line.fields
    return first_of(row, TEXTS) is None and not any(letter in row for letter in LETTERS) and isinstance(row.get("answer"), str)


def first_of(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The first of the fields that is there; None without one."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def place(answer: object, choices: Sequence[Any], labels: Sequence[Any] | None = None, lettered: bool = False) -> int:
    """Which option an answer means: its place from 0, its label, its text or its letter, where answers are letters (``lettered``) its letter
    before its text. Raises ValueError for none.
    """
    if labels and answer in labels:
        return list(labels).index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    texts = [str(one) for one in choices]
    if isinstance(answer, str):
        letter = LETTERS.index(answer) if len(answer) == 1 and answer in LETTERS[: len(choices)] else None
        if lettered and letter is not None:
            return letter
        if texts.count(answer) == 1:
            return texts.index(answer)
        if letter is not None:
            return letter
        if answer.isdecimal() and int(answer) < len(choices):
            return int(answer)
    raise ValueError(f"{answer!r} is no option: neither a place below {len(choices)}, nor a letter, nor one option's text")
