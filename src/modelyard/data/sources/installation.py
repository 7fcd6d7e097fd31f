"""Docstrings and code of the running Python installation: the standard library and a named list of installed packages.

The list stands in the config and the packages in the constraints file, so the corpus is the same on equal
installations; versions and licences are recorded. Files are taken in the order of a hash of their path until the size
cap, which samples every package without parsing all of it. Only packages whose licence is permissive are read; test
suites and generated tables are left out.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, cast

from modelyard.data.corpus.document import DataError, Document, Kind, one_line
from modelyard.data.sources.licences import NAMES, is_permissive, licence_of
from modelyard.data.sources.record import Broken

_SKIPPED = {"test", "tests", "testing", "site-packages", "idlelib", "lib2to3", "encodings", "turtledemo", "_vendor", "vendored", "vendor"}
STDLIB = "python"


class Package(NamedTuple):
    """An installed package whose files may be read."""

    name: str
    version: str
    licence: str
    files: list[tuple[str, Path]]
    """(path inside the package, where it lies)."""


def versions(packages: list[str]) -> dict[str, str]:
    """Package -> installed version; raises DataError for one that is not installed."""
    return {name: _found(name).version for name in packages}


def read(packages: list[str], code: bool, size: int, passage: int) -> Iterator[Document | Broken]:
    """Code in pieces of about ``passage`` characters, or docstrings (kind text), file by file until ``size`` characters; files that cannot be
    read, or parsed for their docstrings, are set aside."""
    found = [_found(name) for name in packages]
    files = sorted(((package, relative, path) for package in found for relative, path in package.files), key=lambda item: _order(item[1]))
    kind, language = ("code", "python") if code else ("text", "und")
    read_so_far = 0
    for package, relative, path in files:
        if read_so_far >= size:
            return
        try:
            source = path.read_text("utf-8")
            texts = _pieces(source, passage) if code else _docstrings(ast.parse(source))
        except (UnicodeDecodeError, OSError, SyntaxError, ValueError) as error:
            reason = "read/invalid_python" if isinstance(error, SyntaxError) else "read/damaged_file"
            yield Broken(relative, reason, one_line(error), "")
            continue
        for number, text in enumerate(texts):
            read_so_far += len(text)
            yield Document(f"{relative}-{number}", STDLIB, cast(Kind, kind), language, package.licence, relative, text)


@cache
def _found(name: str) -> Package:
    """A package, whose files are listed once a process."""
    return _stdlib() if name == STDLIB else _package(name)


def _stdlib() -> Package:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [(f"{STDLIB}/{path.relative_to(root).as_posix()}", path) for path in root.rglob("*.py") if _wanted(path.relative_to(root))]
    return Package(STDLIB, sys.version.split()[0], "PSF-2.0", files)


def _package(name: str) -> Package:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise DataError(f"source installation: package {name} is not installed") from None
    licence = licence_of(distribution)
    if not is_permissive(licence):
        raise DataError(f"source installation: package {name} has licence {licence!r}; read are only {', '.join(NAMES)}")
    files = [
        (file.as_posix(), Path(str(file.locate()))) for file in distribution.files or [] if file.suffix == ".py" and _wanted(Path(file))
    ]
    return Package(name, distribution.version, licence, [(relative, path) for relative, path in files if path.is_file()])


def _wanted(relative: Path) -> bool:
    return not _SKIPPED.intersection(relative.parts) and not relative.name.startswith("test_") and ".." not in relative.parts


def _order(relative: str) -> bytes:
    return hashlib.sha256(relative.encode()).digest()


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)


def _pieces(source: str, size: int) -> Iterator[str]:
    """Source cut at top-level blank lines into pieces of about ``size`` characters."""
    current = ""
    for block in source.split("\n\n\n"):
        if current and len(current) + len(block) > size:
            yield current
            current = ""
        current = f"{current}\n\n\n{block}" if current else block
    if current.strip():
        yield current
