"""Files that a command writes: refused before any work is done where they cannot be written, then written with the directories above them."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import typer


def json_option(help: str, *names: str) -> Any:
    """An option that names the file of a command's answer as JSON."""
    return typer.Option(*names, help=help, callback=writable)


def writable(path: Path | None) -> Path | None:
    """A callback of typer's options: the file that can be written there."""
    from modelyard.complaint import complaint

    try:
        if path is not None:
            require_file(path)
    except OSError as error:
        raise typer.BadParameter(complaint(error)) from None
    return path


def require_file(path: Path) -> None:
    """Raises OSError where no file can be written at ``path``; nothing of it is left."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
    require_directory(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_directory(path: Path) -> None:
    """Raises OSError where nothing can be written into ``path``, which need not be there; what is made to find out is removed."""
    made = [place for place in (path, *path.parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "is a file, and no directory", error.filename) from None
    except OSError as error:  # which names a file of its own, or one on the way
        raise OSError(error.errno, f"cannot be written to: {error.strerror}", str(path)) from None
    finally:
        for place in made:
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()


def write(path: Path, text: str) -> None:
    """Write ``text`` to ``path``. Half a surrogate pair, which JSON can spell and UTF-8 cannot, is escaped as JSON does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
