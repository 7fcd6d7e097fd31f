"""The decisions with a heading each, so that the site's contents are their index; newest first."""

from __future__ import annotations

import re

ENTRY = re.compile(r"^\*\*(\d{4}-\d\d-\d\d) · (.+?)\.\*\*\s*", re.MULTILINE | re.DOTALL)


def with_headings(markdown: str) -> str:
    """The page of decisions with each entry's title as a heading and its date below."""
    first = ENTRY.search(markdown)
    if first is None:
        return markdown
    parts = ENTRY.split(markdown[first.start() :])[1:]
    entries = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
    intro = markdown[: first.start()].replace("Newest last", "Newest first")
    shown = [f"## {' '.join(title.split())}\n\n*{date}.* {body.strip()}\n" for date, title, body in reversed(entries)]
    return intro + "\n".join(shown)
