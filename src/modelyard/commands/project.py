"""The parts of the pipeline that lie beside the package: flows and tasks, imported by name when a command needs one.

In a clone they are on the search path. A wheel carries them inside the package, under ``modelyard/project``, since ``flows`` and
``tasks`` are names that other distributions may have; that directory then goes in front of the search path of this process.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import modelyard

CARRIED = Path(modelyard.__file__).with_name("project")
"""Where a wheel has them; not there in a clone."""


def part(module: str) -> Any:
    """A module of flows or tasks. Raises ValueError where neither a wheel nor a project has it."""
    if CARRIED.is_dir() and str(CARRIED) not in sys.path:
        sys.path.insert(0, str(CARRIED))
    try:
        with _lasting():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name in ("flows", "tasks", module):
            raise ValueError(
                f"{error.name}: not found beside the package; install a wheel, or the project with pip install --editable, "
                "or set PYTHONPATH to its directory"
            ) from error
        raise


@contextmanager
def _lasting() -> Iterator[None]:
    """What is made within stays and is not looked through for garbage, now or later, which is a sixth of the time that flows take to import."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
