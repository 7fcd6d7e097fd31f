"""JSON from files that others may have written: whatever is wrong with one is a ValueError in one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelyard.config import complaint


def parse(text: str | bytes, where: str) -> Any:
    """The value that ``text`` spells; ``where`` begins the error's line. Raises ValueError.

    Python's parser has two ways to fail besides JSONDecodeError: numbers of more digits than it converts and nesting deeper than its stack.
    """
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {complaint(error)}") from None
    except RecursionError:
        raise ValueError(f"{where}: not JSON: nested too deeply") from None


def load(path: Path) -> Any:
    """The value in the file at ``path``. Raises ValueError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(data, str(path))


def table(path: Path, *keys: str) -> dict[str, Any]:
    """The object in the file at ``path``, which has ``keys``. Raises ValueError."""
    value = load(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")
    if lacking := [key for key in keys if key not in value]:
        raise ValueError(f"{path}: no {lacking[0]!r}")
    return value
