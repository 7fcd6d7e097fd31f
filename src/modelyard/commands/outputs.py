"""Files that a command writes: refused before any work is done where they cannot be written, then written with the directories above them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import typer


def json_option(help: str, *names: str) -> Any:
    """An option that names the file of a command's answer as JSON."""
    return typer.Option(*names, help=help, callback=writable)


def writable(path: Path | None) -> Path | None:
    """A callback of typer's options: the file that can be written there."""
    try:
        if path is not None:
            require_file(path)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    return path


def require_file(path: Path) -> None:
    """Raises OSError where no file can be written at ``path``; nothing is made."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
    require_directory(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_directory(path: Path) -> None:
    """Raises OSError where ``path`` neither is a directory that can be written into nor can become one; nothing is made."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a directory", str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def write(path: Path, text: str) -> None:
    """Write ``text`` to ``path``. Half a surrogate pair, which JSON can spell and UTF-8 cannot, is escaped as JSON does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
