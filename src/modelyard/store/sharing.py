"""Who may read and write what is made in a store on a disk that several users of a machine share.

A store's directory that its group may write in is shared: what is made in it belongs to the directory's group and lets group and others do
what the directory lets them, whatever group and umask its maker has (as git's ``core.sharedRepository`` does, with the directory in place of a
setting). Directories keep their group for what is made inside. In any other store group and umask of the maker hold. What is made is
shared before it stands where others look, so nobody meets it half.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from itertools import takewhile
from pathlib import Path

GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
EXECUTE = stat.S_IXGRP | stat.S_IXOTH


def share(root: str, path: str) -> None:
    """Give the file or tree at ``path``, which this user has made, to all who share the store at ``root``."""
    told = _shared(root)
    if told is None:
        return
    _give(path, told)
    if os.path.isdir(path) and not os.path.islink(path):
        for directory, folders, files in os.walk(path):
            for name in (*folders, *files):
                _give(os.path.join(directory, name), told)


def make_room(root: str, path: str) -> None:
    """The directories above ``path``. Raises NotADirectoryError where a file stands in the place of one."""
    parents = list(takewhile(lambda place: not place.exists(), Path(path).parents))
    for directory in reversed(parents):
        if directory.is_relative_to(root) and _shared(root):
            partial = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}.partial")
            partial.mkdir()
            share(root, str(partial))
            try:
                partial.rename(directory)
            except OSError:  # somebody else has made it and put something into it
                partial.rmdir()
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
    with contextlib.suppress(FileNotFoundError):  # removed by somebody meanwhile: whoever writes there finds out
        if not stat.S_ISDIR(os.stat(Path(path).parent).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file stands where a directory is wanted", str(Path(path).parent))


def _shared(root: str) -> os.stat_result | None:
    """The store's directory where it is shared; None where it is not, or not there."""
    try:
        told = os.stat(root)
    except OSError:
        return None
    return told if told.st_mode & stat.S_IWGRP else None


def _give(path: str, told: os.stat_result) -> None:
    mine = os.lstat(path)
    if stat.S_ISLNK(mine.st_mode):
        return
    if mine.st_gid != told.st_gid:
        with contextlib.suppress(PermissionError):  # a user outside of the group, in a store that all may write in
            os.chown(path, -1, told.st_gid)
    bits = told.st_mode & GROUP_AND_OTHERS
    if stat.S_ISDIR(mine.st_mode):
        os.chmod(path, stat.S_IMODE(mine.st_mode) | bits | stat.S_ISGID)
    else:
        runs = bits & EXECUTE if mine.st_mode & stat.S_IXUSR else 0
        os.chmod(path, stat.S_IMODE(mine.st_mode) | (bits & ~EXECUTE) | runs)
