"""What a misspelt name was likely meant to be, as the end of an error's line. The commands' own names are typer's to compare."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'policy'?`` with the closest of the ``known`` names, whatever their case; "" where none is close."""
    spelled = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {spelled[found[0]]!r}?" if found else ""
