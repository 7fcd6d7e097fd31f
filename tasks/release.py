"""Release tasks."""

from __future__ import annotations


class GateError(RuntimeError):
    """The line ended without a promotion; the message is the decision with its reasons."""
