"""Items of benchmarks as files of an artifact: ``{folder}/{benchmark}.jsonl``, one JSON object an item."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from modelyard.config import Config
from modelyard.formats.feedback import json_lines, record

T = TypeVar("T", bound=Config)


def write(folder: Path, benchmark: str, items: Iterable[Config]) -> None:
    """The items of one benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{benchmark}.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in items), "utf-8")


def read(folder: Path, shape: type[T]) -> dict[str, list[T]]:
    """Benchmark -> its items. Raises ValueError naming the file and line that is none."""
    return {file.stem: [record(shape, line) for line in json_lines(file)] for file in sorted(folder.glob("*.jsonl"))}
