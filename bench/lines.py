"""What benches that compare lines have in common: a line up to its results, and how long many of them take."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from flows.data import prepare_data
from flows.pretrain import train_base
from modelyard.model.network import processor
from tasks.line import DECISION, Line
from tasks.stage import Name


def at_home(home: Path) -> Path:
    """The directory, from here on that of servers and databases too; prints what it is measured on."""
    home = home.absolute()
    os.environ["MODELYARD_HOME"] = str(home)
    print(processor.description(), flush=True)
    return home


def measure(line: Line, *left_out: Name) -> None:
    """Build what the line's config asks for, but ``left_out``, up to its results: nothing is decided, exported or registered."""
    prepare_data(line)
    train_base(line)
    for name in line.order:
        if not line.has(name) and name not in (DECISION, "export", *left_out):
            line.build(name)


class Progress:
    """Says before each line where it stands and how long the rest takes, by the lines of the same kind that were built so far."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds, self.began = kinds, time.monotonic()
        self.took: dict[str, float] = {}
        """Kind -> seconds of its latest build."""

    def before(self, place: int, what: str) -> str:
        """The text that announces line number ``place``, from 0."""
        rest = self.kinds[place:]
        unknown = [kind for kind in dict.fromkeys(rest) if kind not in self.took]
        left = f"about {sum(self.took[kind] for kind in rest) / 60:.0f} min left" if not unknown else f"no {unknown[0]} timed yet"
        return f"{place + 1} of {len(self.kinds)}: {what}; {(time.monotonic() - self.began) / 60:.1f} min so far, {left}"
