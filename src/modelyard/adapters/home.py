"""Where a run keeps what it needs on this machine: ``MODELYARD_HOME``, ``.modelyard`` by default."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Absolute path of the home directory; it need not exist yet."""
    return Path(os.environ.get("MODELYARD_HOME", ".modelyard")).absolute()
