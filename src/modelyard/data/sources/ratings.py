"""Human-rated snippets (Hutto and Gilbert, VADER, ICWSM 2014): 23,702 short texts, each with the raw votes (-4..4) of
some 20 people.

An inner tar holds, per domain, ``*_GroundTruth.txt`` (id, mean, text; CRLF, ASCII or UTF-8) and
``*_anonDataRatings.txt`` (a BOM, id, mean, standard deviation, ``[vote, vote, ...]``). The mean columns of the two
files disagree for some tweets, so only the raw votes are used. Ids such as ``12_3`` (amazon, nyt) name the third
sentence of text 12: the text is the group that a split must keep together.
"""

from __future__ import annotations

import ast
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

from modelyard.data.corpus.document import DataError, Document, Domain, Kind, Rating
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member

_DOMAINS: dict[Domain, tuple[str, Kind]] = {
    "movie": ("movieReviewSnippets", "review"),
    "amazon": ("amazonReviewSnippets", "review"),
    "nyt": ("nytEditorialSnippets", "text"),
    "tweets": ("tweets", "text"),
}


class Rated(NamedTuple):
    """Texts and, aligned with them, their ratings."""

    documents: list[Document]
    ratings: list[Rating]


def read(source: Source, archive: Path) -> Rated:
    """All domains. Raises DataError for a file that is not what it was, naming file and line."""
    with tarfile.open(fileobj=io.BytesIO(member(source, archive, "hutto_ICWSM_2014.tar.gz"))) as inner:
        return _read(source, inner)


def _read(source: Source, inner: tarfile.TarFile) -> Rated:
    documents: list[Document] = []
    ratings: list[Rating] = []
    for domain, (stem, kind) in _DOMAINS.items():
        votes = {row[0]: row[3] for row in _rows(source, inner, f"{stem}_anonDataRatings.txt", 4)}
        for key, _, text in _rows(source, inner, f"{stem}_GroundTruth.txt", 3):
            if key not in votes:
                raise DataError(f"source {source.name}: {stem}_GroundTruth.txt: item {key} has no votes")
            name = f"{domain}-{key}"
            group = f"{domain}-{key.partition('_')[0]}"
            documents.append(Document(name, source.name, kind, "en", source.licence, group, text))
            ratings.append(Rating(name, domain, parse_votes(votes[key], f"source {source.name}: {stem}_anonDataRatings.txt: item {key}")))
    return Rated(documents, ratings)


def parse_votes(text: str, where: str) -> list[int]:
    """``"[3, -1, 0]"`` -> votes; DataError when it is no list of whole numbers in -4..4."""
    try:
        votes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise DataError(f"{where}: {text[:40]!r} is no list of votes") from None
    if not isinstance(votes, list) or not votes or not all(isinstance(vote, int) and -4 <= vote <= 4 for vote in votes):
        raise DataError(f"{where}: votes must be whole numbers in -4..4, got {text[:40]!r}")
    return votes


def _rows(source: Source, inner: tarfile.TarFile, name: str, columns: int) -> list[list[str]]:
    try:
        file = inner.extractfile(f"hutto_ICWSM_2014/{name}")
    except KeyError:
        raise DataError(f"source {source.name}: {name} is missing from the archive") from None
    assert file is not None
    rows = []
    for number, line in enumerate(file.read().decode("utf-8-sig").split("\r\n"), 1):
        if not line:
            continue
        row = line.split("\t")
        if len(row) != columns:
            raise DataError(f"source {source.name}: {name}: line {number}: {len(row)} columns instead of {columns}")
        rows.append(row)
    return rows
