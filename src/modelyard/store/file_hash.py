"""What a file is: hashes of files and directories."""

from __future__ import annotations

import hashlib
from pathlib import Path


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


def sha256_weights(path: Path) -> str:
    """sha256 (hex) of a model's weights: of the file ``path``, or of the one ``*.safetensors`` in the directory ``path``.

    Of several it is what ``sha256sum *.safetensors | sha256sum`` prints there.

    Raises:
        ValueError: the directory has none.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path}: no such file, and no *.safetensors in it")
    if len(files) == 1:
        return sha256_file(files[0])
    return hashlib.sha256("".join(f"{sha256_file(file)}  {file.name}\n" for file in files).encode()).hexdigest()


def require_sha256(path: Path, sha256: str, what: str) -> None:
    """Raise ValueError in one line where the file is another than the config says."""
    if (actual := sha256_file(path)) != sha256:
        raise ValueError(f"{what}: {path} has changed: sha256 {actual}, the config says {sha256}")
