"""What models of a line can be asked without drawing anything: texts with the one right way to go on, one JSON object an item.

The ``continuations`` artifact holds ``continuations/{benchmark}.jsonl``, such as a passage's last word; the ladder asks its small runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelyard.config import Config
from modelyard.formats import benchmark_files

FOLDER = "continuations"


class Continuation(Config):
    """One item."""

    item: str
    """The item's id in the benchmark's records."""
    context: str
    """What the model is shown."""
    text: str
    """What is right after it."""


def write_continuations(directory: Path, benchmark: str, made: Iterable[Continuation]) -> None:
    """The items of one benchmark."""
    benchmark_files.write(directory / FOLDER, benchmark, made)


def read_continuations(directory: Path) -> dict[str, list[Continuation]]:
    """Benchmark -> its items. Raises ValueError naming the file and line that is none."""
    return benchmark_files.read(directory / FOLDER, Continuation)
