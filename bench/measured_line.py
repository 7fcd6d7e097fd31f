"""A line up to its results, for benches that compare lines."""

from __future__ import annotations

from flows.data import prepare_data
from flows.pretrain import train_base
from tasks.line import DECISION, Line
from tasks.stages import Name


def measure(line: Line, *left_out: Name) -> None:
    """Build what the line's config asks for, but ``left_out``, up to its results: nothing is decided, exported or registered."""
    prepare_data(line)
    train_base(line)
    for name in line.order:
        if not line.has(name) and name not in (DECISION, "export", *left_out):
            line.build(name)
