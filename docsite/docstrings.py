"""Docstrings as Markdown: roles of Sphinx become code, and shapes such as ``[rows][columns]`` no links."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|mod|meth|attr|data):`~?([^`]+)`")
LITERAL_OR_SHAPE = re.compile(r"(``.+?``|`[^`]+`)|\]\[", re.DOTALL)


def as_markdown(docstring: str) -> str:
    """The docstring with roles as code and brackets side by side kept apart; literals stay as they are."""
    return LITERAL_OR_SHAPE.sub(lambda found: found[1] or r"]\[", ROLE.sub(r"`\1`", docstring))


class Markdown(griffe.Extension):
    """Rewrites every docstring before it is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take an object once all are read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
