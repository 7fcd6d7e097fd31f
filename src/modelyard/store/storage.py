"""The artifact store's filesystem by URL: ``file://`` and ``s3://`` through fsspec, alike in what they do and in how they fail.

Files that users name are :mod:`modelyard.store.inputs`'. Here is only what the store needs: list, read,
upload, download, an atomic small write and an exclusive one. Credentials and endpoints come from the
environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``), never from a config.
Every request waits out an outage (:mod:`modelyard.store.outage`); nothing is remembered between two requests,
so a reader sees what others have written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from modelyard.progress import beat
from modelyard.store import local_files
from modelyard.store.outage import code_of, patiently

T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""A connection that is not made or says nothing for so long is given up and tried again."""
ONE_REQUEST = {"max_concurrency": 1}
"""s3fs asks for the size first where it might read in parallel."""
TRANSFERS = 8
"""Files on their way at once."""
IDENTITY = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


class Storage:
    """A directory tree under ``url``; keys are relative POSIX paths.

    Every method raises StorageError (one line naming the place) when the store cannot be used, and FileNotFoundError where a key has to exist.
    """

    def __init__(self, url: str) -> None:
        if "://" not in url:
            raise ValueError(f"store {url!r}: expected a URL such as file://.modelyard/store or s3://bucket/prefix")
        scheme, _, rest = url.partition("://")
        if scheme not in ("file", "s3"):
            raise ValueError(f"store {url!r}: scheme {scheme!r} is not file or s3")
        if not rest.strip("/"):
            raise ValueError(f"store {url!r}: names no {'directory' if scheme == 'file' else 'bucket'}")
        self.is_local = scheme == "file"
        if not self.is_local and "@" in rest.split("/")[0]:
            raise ValueError(
                "store s3://...@...: credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), not from a URL"
            )
        self.root = str(Path(rest).absolute()) if self.is_local else rest.rstrip("/")
        self._renewals = 0

    @property
    def fs(self) -> Any:
        """The fsspec filesystem, made for the credentials that the environment holds now."""
        if self.is_local:
            import fsspec

            return fsspec.filesystem("file")
        identity = hashlib.sha256("\0".join(os.environ.get(name, "") for name in IDENTITY).encode()).hexdigest()
        return _s3(identity, self._renewals, os.getpid())

    @property
    def url(self) -> str:
        """``file://`` or ``s3://`` URL that means the same from every directory."""
        return f"{'file' if self.is_local else 's3'}://{self.root}"

    def path(self, key: str) -> str:
        """Full path of ``key``; refuses keys that leave the store."""
        if key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise ValueError(f"key {key!r} leaves the store")
        return f"{self.root}/{key}" if key else self.root

    def exists(self, key: str) -> bool:
        """Whether a file or directory stands at ``key``."""
        return bool(self._try(key, lambda path: self.fs.exists(path)))

    def names(self, key: str) -> list[str]:
        """Sorted names of the entries directly under ``key`` (empty if there is none)."""
        try:
            found = self._try(key, lambda path: self.fs.ls(path, detail=False))
        except FileNotFoundError:
            return []
        inside = f"{self.path(key)}/"  # a server may list an empty directory as itself
        return sorted(name.rsplit("/", 1)[-1] for name in (str(entry).rstrip("/") for entry in found) if name.startswith(inside))

    def read(self, key: str) -> bytes:
        """The whole file at ``key``. Raises FileNotFoundError."""
        return bytes(self._try(key, lambda path: self.fs.cat_file(path, **({} if self.is_local else ONE_REQUEST))))

    def write(self, key: str, data: bytes) -> None:
        """Write a small file so that a reader sees all of it or nothing."""
        if not self.is_local:
            self._try(key, lambda path: self.fs.pipe_file(path, data))
            return
        self._try(key, lambda path: local_files.write_aside(self.root, path, data, os.replace))

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file unless there is one; False if somebody else's is there. Of two who try at once exactly one succeeds.

        ``data`` must be nobody else's words: a request whose answer was lost is told from another writer's by them.
        """
        try:
            if self.is_local:
                self._try(key, lambda path: local_files.write_aside(self.root, path, data, os.link))
            else:
                self._try(key, lambda path: _create_object(self.fs, path, data))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                return self.read(key) == data
            return False
        return True

    def put_file(self, file: Path, key: str) -> None:
        """Copy one local file to ``key``; a reader sees all of it or nothing."""
        if self.is_local:
            self._try(key, lambda path: local_files.copy_aside(self.root, file, path))
        else:
            self._try(key, lambda path: _upload(self.fs, file, path))

    def size(self, key: str) -> int:
        """Bytes of the file or tree at ``key``, 0 where there is none."""
        return int(self._try(key, lambda path: self.fs.du(path)))

    def remove(self, key: str) -> None:
        """Delete the file or tree at ``key``; nothing there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._try(key, local_files.remove_tree if self.is_local else lambda path: _delete(self.fs, path))

    def put(self, directory: Path, key: str) -> None:
        """Bring a finished local directory to ``key`` in place of what stands there (moved on a local store, uploaded file by file elsewhere)."""
        self.remove(key)
        if self.is_local:
            self._try(key, lambda path: local_files.move(self.root, directory, path))
            return
        self.put_files(directory, sorted(file for file in directory.rglob("*") if file.is_file()), key)

    def put_files(self, directory: Path, files: Iterable[Path], key: str) -> None:
        """Upload ``files`` of ``directory`` to their places under ``key``, several at once."""
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(lambda file: self.put_file(file, f"{key}/{file.relative_to(directory).as_posix()}"), files))

    def get(self, key: str, directory: Path) -> None:
        """Download the tree at ``key`` into ``directory``. Raises FileNotFoundError."""
        inside = f"{self.path(key)}/"
        found = self._try(key, lambda path: self.fs.find(path))
        if not found:
            raise FileNotFoundError(f"{self.path(key)}: nothing there")
        self.get_files(key, [str(name).removeprefix(inside) for name in found], directory)

    def get_files(self, key: str, names: Iterable[str], directory: Path) -> None:
        """Download the files ``names`` under ``key`` to the same places under ``directory``, several at once. What arrives is a sign of life of this
        process. Raises FileNotFoundError."""
        arriving = _arriving()

        def one(name: str) -> None:
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._try(f"{key}/{name}", lambda path: self.fs.get_file(path, str(target), callback=arriving))
            beat(stop=False)

        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(one, names))

    def _try(self, key: str, do: Callable[[str], T]) -> T:
        path = self.path(key)
        renew = None if self.is_local else self._renew
        return patiently(f"{'file' if self.is_local else 's3'}://{path}", lambda: do(path), renew, remote=not self.is_local)

    def _renew(self) -> None:
        """A new session reads credentials again: a file or a role may hold newer ones."""
        self._renewals += 1


@lru_cache(maxsize=8)
def _s3(identity: str, renewals: int, process: int) -> Any:
    """An S3 client for one set of credentials, one attempt a request. ``identity`` is their hash: they themselves are nobody's argument."""
    import fsspec
    from botocore.handlers import add_expect_header

    fs = fsspec.filesystem(
        "s3",
        skip_instance_cache=True,
        use_listings_cache=False,
        cache_regions=False,  # a HEAD of the bucket before everything else; botocore follows redirects
        config_kwargs={"retries": {"total_max_attempts": 1}, "connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS},
    )
    fs.retries = 1
    # While an upload waits for "100 Continue" no time limit runs: a server that stalls there would hold it for ever.
    fs.s3.meta.events.unregister("before-call.s3", add_expect_header)
    return fs


def _arriving() -> Any:
    """Hears of every piece of a download; the thread that hears of it is nobody's to stop."""
    from fsspec.callbacks import Callback

    class Arriving(Callback):
        def relative_update(self, inc: int = 1) -> None:
            beat(stop=False)

    return Arriving()


def _create_object(fs: Any, path: str, data: bytes) -> None:
    """A conditional PUT (``If-None-Match: *``). Raises FileExistsError."""
    try:
        fs.pipe_file(path, data, mode="create")
    except OSError as error:
        if code_of(error) in ("PreconditionFailed", "412"):
            raise FileExistsError(path) from error
        raise


def _delete(fs: Any, path: str) -> None:
    """The objects at and below ``path``. s3fs says nothing of those that a server refuses to delete: each of them is asked for by itself, which tells
    why. Raises FileNotFoundError where nothing is."""
    fs.rm(path, recursive=True)
    for left in fs.find(path):
        fs.rm_file(left)


def _upload(fs: Any, file: Path, path: str) -> None:
    """One object, looked at afterwards: a server that took a cut upload for a whole one must not be believed."""
    fs.put_file(str(file), path)
    stored, size = int(fs.info(path)["size"]), file.stat().st_size
    if stored != size:
        raise ConnectionError(f"{stored} of {size} bytes arrived")
