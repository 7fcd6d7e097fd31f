"""Human-rated snippets (Hutto and Gilbert, VADER, ICWSM 2014): 23,702 short texts, each with the raw votes (-4..4) of
some 20 people.

An inner tar holds, for each of four sets, ``*_GroundTruth.txt`` (id, mean, text; CRLF, ASCII or UTF-8) and
``*_anonDataRatings.txt`` (a BOM, id, mean, standard deviation, ``[vote, vote, ...]``). The mean columns of the two
files disagree for some tweets, so only the raw votes are used. Ids such as ``12_3`` (Amazon, NYT) name the third
sentence of text 12: the text is the group that a split must keep together.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from modelyard.data.corpus.document import DataError, Document
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member

SETS = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
"""Beginnings of the files' names."""


def read(source: Source, archive: Path, name: str) -> list[Document]:
    """The texts of one of :data:`SETS` with their votes.

    Raises:
        DataError: no such set, or a file that is not what it was, naming file and line.
    """
    if name not in SETS:
        raise DataError(f"source {source.name}: part {name!r} is none of {', '.join(SETS)}")
    with tarfile.open(fileobj=io.BytesIO(member(source, archive, "hutto_ICWSM_2014.tar.gz"))) as inner:
        votes = {row[0]: row[3] for row in _rows(source, inner, f"{name}_anonDataRatings.txt", 4)}
        texts = _rows(source, inner, f"{name}_GroundTruth.txt", 3)
    documents: list[Document] = []
    for key, _, text in texts:
        if key not in votes:
            raise DataError(f"source {source.name}: {name}_GroundTruth.txt: item {key} has no votes")
        said = parse_votes(votes[key], f"source {source.name}: {name}_anonDataRatings.txt: item {key}")
        documents.append(Document(key, source.name, "text", "en", source.licence, f"{name}-{key.partition('_')[0]}", text, votes=said))
    return documents


def parse_votes(text: str, where: str) -> list[int]:
    """``"[3, -1, 0]"`` -> votes; DataError when it is no list of whole numbers in -4..4."""
    try:
        votes = json.loads(text)
    except ValueError:
        raise DataError(f"{where}: {text[:40]!r} is no list of votes") from None
    if not isinstance(votes, list) or not votes or not all(type(vote) is int and -4 <= vote <= 4 for vote in votes):
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
