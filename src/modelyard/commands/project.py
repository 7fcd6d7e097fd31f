"""The parts of the pipeline that lie beside the package, in the project: flows and tasks, imported by name when a command needs one."""

from __future__ import annotations

import importlib
from typing import Any


def part(module: str) -> Any:
    """A module of flows or tasks. Raises ValueError where only the library is installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name in ("flows", "tasks", module):
            raise ValueError(
                f"{error.name}: not installed; the wheel holds the library and the commands, the pipeline's flows/ and tasks/ "
                "are in the project: install it with pip install --editable, or set PYTHONPATH to its directory"
            ) from error
        raise
