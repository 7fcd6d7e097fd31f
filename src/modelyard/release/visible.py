"""Names and reasons that stand on a card, in a registry and on a terminal are visible text: what is shown is what was written.

Refused are control characters (newline, ESC, NUL), marks that turn the direction of text, and characters of no width. Joiners stay
where a script needs them (between letters that are not ASCII). Left out: letters of one script that look like another's.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from modelyard.printable import BLANK, HIDDEN, JOINERS

LONGEST = 2000
UNSEEN = (*HIDDEN, "Co", "Cn")
"""Unicode categories of what is not shown."""


def visible(text: str) -> str:
    """``text`` without spaces around it. Raises ValueError where a character of it is not shown, or none is a letter or digit."""
    text = shown(text.strip(" "))
    if not any(letter.isalnum() for letter in text):
        raise ValueError("needs visible text")
    return text


def visible_lines(text: str) -> str:
    """The lines of ``text`` that are not empty. Raises ValueError where a character of them is not shown."""
    return "\n".join(shown(line.strip(" ")) for line in text.splitlines() if line.strip())


def shown(text: str) -> str:
    """``text`` itself. Raises ValueError where a character of it is not shown, or where it is too long for any page."""
    for place, letter in enumerate(text):
        joins = letter in JOINERS and is_script(text[place - 1 : place]) and is_script(text[place + 1 : place + 2])
        if letter in BLANK or (unicodedata.category(letter) in UNSEEN and not joins):
            raise ValueError(f"character {place + 1} (U+{ord(letter):04X}) is not visible")
    if len(text) > LONGEST:
        raise ValueError(f"is {len(text)} characters long, at most {LONGEST} are shown")
    return text


def is_script(letter: str) -> bool:
    """Whether it is a letter or mark of another script than ASCII's."""
    return bool(letter) and not letter.isascii() and unicodedata.category(letter)[0] in "LM"


Visible = Annotated[str, AfterValidator(visible)]
"""A line."""
Paragraph = Annotated[str, AfterValidator(visible_lines)]
"""Lines, or nothing."""
