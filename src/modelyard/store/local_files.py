"""Writing to and removing from a store on a disk: whole or not at all, for all who share it, whoever else writes and removes there meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from modelyard.store.sharing import make_room, share

CROSSINGS = 20
"""Times that somebody who removes a directory and somebody who writes into it may cross before it counts as an error."""
CROSSED = (errno.ENOENT, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR)
"""What the one who removes is told then."""


def write_aside(root: str, path: str, data: bytes, finish: Callable[[str, str], None]) -> None:
    """Write beside ``path`` and bring it there whole (``os.replace``: in place of what stands there; ``os.link``: only where nothing does)."""

    def write(partial: str) -> None:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    _in_room(root, path, lambda: _aside(root, path, write, finish))


def copy_aside(root: str, file: Path, path: str) -> None:
    """Copy ``file`` beside ``path`` and put it there whole, in place of what stands there."""
    _in_room(root, path, lambda: _aside(root, path, lambda partial: shutil.copyfile(file, partial), os.replace))


def move(root: str, directory: Path, path: str) -> None:
    """Bring a finished ``directory`` to ``path``, where nothing may stand."""
    share(root, str(directory))
    _in_room(root, path, lambda: shutil.move(str(directory), path))


def remove_tree(path: str) -> None:
    """Delete a local file or tree, what somebody puts into it or takes from it meanwhile included. Raises FileNotFoundError where nothing is."""
    for left in reversed(range(CROSSINGS)):
        try:
            (shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
            return
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) and not os.path.lexists(path)
            if gone or not left or error.errno not in CROSSED:
                raise


def _aside(root: str, path: str, write: Callable[[str], object], finish: Callable[[str, str], None]) -> None:
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    try:
        write(partial)
        share(root, partial)
        finish(partial, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)


def _in_room(root: str, path: str, do: Callable[[], object]) -> None:
    """``do`` with the directories above ``path`` there; once more where somebody removes one, empty as it still is, in between."""
    for left in reversed(range(CROSSINGS)):
        try:
            make_room(root, path)
            do()
            return
        except FileNotFoundError:
            if not left:
                raise
