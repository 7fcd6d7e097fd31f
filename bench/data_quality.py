"""What the data filters find of the copies and near copies that were planted in real text, with recall.

``python -m bench.data_quality [--megabytes 5]``. Personal data has a page of its own
(:mod:`bench.personal_data`); the abuse filter is measured on labelled text in
``tests/integration/test_abuse_filter.py``.
"""

from __future__ import annotations

import random
import sys

from bench.program import program
from bench.real_text import WEB, texts
from modelyard.data.filters import duplicates
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.stats.estimate import proportion

COPIES = DuplicatesConfig.model_validate(WEB["duplicates"])


def copies(documents: list[str], rng: random.Random) -> None:
    """Print recall of exact and near copies, and how many of those found name the document they were made from."""
    chosen = rng.sample(range(len(documents)), len(documents) // 10)
    for name, every in (("exact copies", 0), ("1 word in 100", 100), ("1 word in 40", 40), ("1 word in 20", 20)):
        planted = [changed(documents[index], every, rng) for index in chosen]
        material = [*documents, *planted]
        found = duplicates.find([duplicates.exact_key(t) for t in material], duplicates.signatures(material, COPIES), COPIES)
        hits = sum(copy is not None for copy in found[len(documents) :])
        named = sum(copy is not None and copy.original == index for copy, index in zip(found[len(documents) :], chosen, strict=True))
        print(f"{name:14s} recall {shown(hits, len(chosen))}   names the original {shown(named, max(hits, 1))}")


def changed(text: str, every: int, rng: random.Random) -> str:
    """The text with one word in ``every`` another."""
    pieces = text.split(" ")
    for start in range(0, len(pieces), every) if every else ():
        pieces[min(len(pieces) - 1, start + rng.randrange(every))] = rng.choice(("changed", "other", "another"))
    return " ".join(pieces)


def shown(hits: int, n: int) -> str:
    """A share with its interval."""
    found = proportion(hits, n)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] of {n}"


def main(
    megabytes: float = 5.0,
) -> None:
    """Measure and print."""
    documents, rng = texts(megabytes), random.Random(0)
    copies(documents, rng)


if __name__ == "__main__":
    sys.exit(program(main))
