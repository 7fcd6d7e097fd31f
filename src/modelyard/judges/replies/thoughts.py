"""A reply without what a reasoning model thought before it: ``<think>...</think>`` is no part of an answer.

Templates that open the block themselves leave only ``</think>`` in the reply, so everything before it was thought. A block that
was opened and never closed was cut: there is no answer. Left out: other marks, which servers take off themselves.
"""

from __future__ import annotations

OPENED, CLOSED = "<think>", "</think>"


def without_thoughts(reply: str) -> str:
    """The reply without what was thought; "" where thinking was cut, and a reply without thoughts as it is."""
    *thoughts, last = reply.split(CLOSED)
    said = ""
    for piece in thoughts:
        before, opened, _ = piece.partition(OPENED)
        said = said + before if opened else ""
    return "" if OPENED in last else said + last
