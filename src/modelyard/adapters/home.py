"""Where a run keeps what it needs on this machine: ``MODELYARD_HOME``, ``.modelyard`` by default. Its user alone reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def home() -> Path:
    """Absolute path of the home directory; it need not exist yet. Raises ValueError for one that a URL of SQLite's cannot name."""
    place = Path(os.environ.get("MODELYARD_HOME") or ".modelyard").absolute()
    if "?" in str(place):
        raise ValueError(f"MODELYARD_HOME {place}: a path with a ? cannot be a home (the URLs of its databases end there)")
    return place


def opened() -> Path:
    """The home directory, made where it is missing. Raises OSError and what :func:`home` raises."""
    return private(home())


def private(directory: Path) -> Path:
    """``directory``, made where it is missing, with mode 0700 where it is ours and not everybody's (as ``/tmp`` is). Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:
        directory.chmod(0o700)
    return directory
