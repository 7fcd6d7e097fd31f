"""The one place that touches a filesystem by URL: ``file://`` and ``s3://`` through fsspec.

Only what the artifact store needs: list, read, upload, download and an atomic small write. Credentials and endpoints come from the
environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``), never from a config.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec


class Storage:
    """A directory tree under ``url``; keys are relative POSIX paths."""

    def __init__(self, url: str) -> None:
        if "://" not in url:
            raise ValueError(f"store {url!r}: expected a URL such as file://.modelyard/store or s3://bucket/prefix")
        scheme, _, rest = url.partition("://")
        if scheme not in ("file", "s3"):
            raise ValueError(f"store {url!r}: scheme {scheme!r} is not file or s3")
        self.is_local = scheme == "file"
        self.root = str(Path(rest).absolute()) if self.is_local else rest.rstrip("/")
        self.fs: Any = fsspec.filesystem(scheme)

    @property
    def url(self) -> str:
        """``file://`` or ``s3://`` URL that means the same from every directory."""
        return f"{'file' if self.is_local else 's3'}://{self.root}"

    def path(self, key: str) -> str:
        """Full path of ``key``; refuses keys that leave the store."""
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"key {key!r} leaves the store")
        return f"{self.root}/{key}" if key else self.root

    def exists(self, key: str) -> bool:
        """Whether a file or directory stands at ``key``."""
        return bool(self.fs.exists(self.path(key)))

    def names(self, key: str) -> list[str]:
        """Sorted names of the entries directly under ``key`` (empty if there is none)."""
        try:
            return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in self.fs.ls(self.path(key), detail=False))
        except FileNotFoundError:
            return []

    def read(self, key: str) -> bytes:
        """The whole file at ``key``."""
        return bytes(self.fs.cat_file(self.path(key)))

    def write(self, key: str, data: bytes) -> None:
        """Write a small file so that a reader sees all of it or nothing."""
        target = self.path(key)
        if not self.is_local:
            self.fs.pipe_file(target, data)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        partial = f"{target}.{uuid.uuid4().hex}.partial"
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)

    def put_file(self, file: Path, key: str) -> None:
        """Copy one local file to ``key``; a reader may see a part of it while that lasts."""
        target = self.path(key)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        self.fs.put_file(str(file), target)

    def remove(self, key: str) -> None:
        """Delete the file or tree at ``key``; nothing there is no error."""
        self.forget()
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path(key), recursive=True)

    def forget(self) -> None:
        """Look again at what others may have changed: s3fs remembers listings."""
        self.fs.invalidate_cache()

    def put(self, directory: Path, key: str) -> None:
        """Bring a finished local directory to ``key`` (moved on a local store, uploaded file by file elsewhere)."""
        target = self.path(key)
        if self.is_local:
            shutil.rmtree(target, ignore_errors=True)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(str(directory), target)
            return
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                self.fs.put_file(str(file), f"{target}/{file.relative_to(directory).as_posix()}")

    def get(self, key: str, directory: Path) -> None:
        """Download the tree at ``key`` into ``directory``."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get(self.path(key), str(directory), recursive=True)


def expand(url: str) -> list[str]:
    """Sorted URLs of the files that a path, a directory or a pattern with ``*`` names; local, ``s3://`` or ``hf://``."""
    fs, path = fsspec.core.url_to_fs(url)
    found = fs.glob(path) if "*" in path else fs.find(path)
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    return sorted(str(name) if local else fs.unstrip_protocol(name) for name in found if fs.isfile(name))


def local_copy(url: str, directory: Path) -> Path:
    """The file itself when it is local, else a copy of it in ``directory`` (made once)."""
    fs, path = fsspec.core.url_to_fs(url)
    if "://" not in url or url.startswith("file://"):
        return Path(path)
    target = directory / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{path.rsplit('/', 1)[-1]}"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        fs.get_file(path, str(partial))
        os.replace(partial, target)
    return target


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a local file, read in 1 MiB pieces."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def sha256_tree(directory: Path) -> str:
    """sha256 (hex) of a directory: every file's relative path and hash, in order. The identity of a checkpoint's weights.

    Raises:
        ValueError: there are no files.
    """
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    if not files:
        raise ValueError(f"{directory}: no files to fingerprint")
    listing = "\n".join(f"{file.relative_to(directory).as_posix()} {sha256_file(file)}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()
