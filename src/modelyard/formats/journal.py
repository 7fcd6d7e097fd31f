"""Answers that cost something, kept in a file as they come: a run that was killed asks only for what is left.

One JSON object a line: the key of a question (a hash of all that decides its answer) and the answer. A line that a crash cut is dropped. Left out:
several processes at one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from modelyard.complaint import first_error
from modelyard.formats import json_file
from modelyard.formats.json_file import Line

Value = TypeVar("Value")


class Journal(Generic[Value]):
    """A file of answers by their keys."""

    def __init__(self, path: Path, kind: type[Value]) -> None:
        """``path`` need not be there. Raises ValueError naming file and line where the file is no journal of such answers."""
        self.path, self._shape = path, TypeAdapter(kind, config=ConfigDict(ser_json_inf_nan="constants"))
        self._known = dict(self._entry(line) for line in json_file.lines(path)) if _whole(path) else {}

    def _entry(self, line: Line) -> tuple[str, Value]:
        if not isinstance(key := line.fields.get("key"), str):
            raise ValueError(f"{line.where}: no key")
        try:
            return key, self._shape.validate_python(line.fields.get("value"))
        except ValidationError as error:
            raise ValueError(f"{line.where}: value: {first_error(error).removeprefix('config: ')}") from None

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Value:
        return self._known[key]

    def add(self, answers: Mapping[str, Value]) -> None:
        """Write answers down; they are on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = ({"key": key, "value": self._shape.dump_python(value, mode="json")} for key, value in answers.items())
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        self._known |= answers

    def remove(self) -> None:
        """The file, once what is made of the answers is written."""
        self.path.unlink(missing_ok=True)


def _whole(path: Path) -> bool:
    """Whether there is such a file; a last line without its end is cut off it."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    if (end := content.rfind(b"\n") + 1) < len(content):
        os.truncate(path, end)
    return True
