"""Files that a user names: a path, a pattern or a URL (``s3://``, ``hf://``), or a name below the directory of inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.complaint import complaint, without_password
from modelyard.store.local_lock import alone
from modelyard.store.outage import StorageRefusedError, patiently
from modelyard.store.storage import Storage
from modelyard.whole_file import require_regular

_VERSION = ("ETag", "VersionId", "blob_id", "LastModified", "mtime", "size")
"""What a filesystem may tell of the version of a file."""


def expand(url: str) -> list[str]:
    """Sorted URLs of the files that a path, a directory or a pattern with ``*`` names; local, ``s3://`` or ``hf://``."""
    fs, path = _opened(url)
    local = _is_local(url)

    def find() -> list[str]:
        found = fs.glob(path) if "*" in path else fs.find(path)
        return sorted(str(name) if local else fs.unstrip_protocol(name) for name in found if fs.isfile(name))

    return patiently(url, find, remote=not local)


def _is_local(url: str) -> bool:
    """Whether ``url`` is a path or a ``file://`` URL."""
    return "://" not in url or url.startswith("file://")


def _opened(url: str) -> tuple[Any, str]:
    """The filesystem of ``url`` and the path in it. Raises StorageRefusedError for a scheme that nobody here reads, and for a secret in it,
    which would stand in manifests and on cards.
    """
    import fsspec

    if not _is_local(url) and (said := without_password(url)) != url:
        raise StorageRefusedError(f"{said}: credentials come from the environment, not from a URL")
    try:
        if url.startswith("s3://"):
            storage = Storage(url)
            return storage.fs, storage.root
        fs, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StorageRefusedError(f"{url}: {complaint(error)}") from error
    return fs, str(path)


def local_copy(url: str, directory: Path) -> Path:
    """The file itself when it is local, else a copy of it in ``directory`` (made once for every version of it)."""
    fs, path = _opened(url)
    if _is_local(url):
        return Path(path)
    info = patiently(url, lambda: fs.info(path))
    version = "\0".join([url, *(str(info.get(name)) for name in _VERSION)])
    target = directory / f"{hashlib.sha256(version.encode()).hexdigest()[:16]}-{path.rsplit('/', 1)[-1]}"
    if not target.exists():
        with alone(target):
            if not target.exists():  # another process may have brought it meanwhile
                partial = target.with_name(target.name + ".partial")
                patiently(url, lambda: _download(fs, path, partial, None if url.startswith("http") else info.get("size")))
                os.replace(partial, target)
    return target


def _download(fs: Any, path: str, target: Path, size: int | None) -> None:
    """One file, whole: ``size`` is what its place says, where that is what arrives (a web server may send it compressed)."""
    fs.get_file(path, str(target))
    arrived = target.stat().st_size
    if size is not None and arrived != size:
        raise ConnectionError(f"{arrived} of {size} bytes arrived")


def inputs_directory(inputs: str) -> Path:
    """Where a user's own files lie: ``inputs``, or where that is empty the environment's ``MODELYARD_DATA``, else here."""
    return Path(inputs or os.environ.get("MODELYARD_DATA", "."))


def find_input(path: str, roots: str | Sequence[str], what: str) -> Path:
    """A user's own file or directory: as it is named, or below the first of ``roots`` that has it.

    A root is a directory, "" the one that the environment names (:func:`inputs_directory`).

    Raises:
        ValueError: nothing is there; the line names what was wanted and where it was looked for.
    """
    places = [inputs_directory(root) / path for root in ([roots] if isinstance(roots, str) else roots)]
    for place in places:  # an absolute path stays as it is
        if place.exists():
            require_regular(place)
            return place
    beside = " nor beside the config" if len(places) > 1 else ""
    raise ValueError(f"{what}: {places[-1]}: no such file{beside} (a relative path starts at execution.inputs or MODELYARD_DATA)")
