"""Contamination check beside a naive loop and beside ahocorasick_rs: the same patterns, the same text, one thread, normalising included.

``python -m bench.contamination [--megabytes 50] [--items 15000] [--runs 3] [--json OUT]``. The items are
pieces of other documents of the same kind, and one in fifty is planted in the text, so hits exist; every
method must give the same items. The loop runs on a sample. Processor seconds are counted, so other work on
the machine disturbs little.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import ahocorasick_rs
import typer

from bench.program import REPORT, program
from bench.real_text import texts
from modelyard.data.contamination.folding import strip, stripped
from modelyard.data.contamination.overlap import ContaminationConfig, batches, check, draw
from modelyard.data.contamination.substrings import Finder
from modelyard.model.network import processor

CONFIG = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
_SYMBOLS = re.compile(r"[\W_]+")


def main(
    megabytes: float = 50.0,
    count: Annotated[int, typer.Option("--items")] = 15_000,
    runs: int = 3,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    print(processor.description(), flush=True)
    documents, items = _material(megabytes, count)
    size = sum(len(text.encode()) for text in documents) / 1e6
    patterns = [(n, s) for n, item in enumerate(items) for s in draw(strip(item), n, CONFIG) if s]
    methods: dict[str, Callable[[], set[int]]] = {
        "modelyard, substrings": lambda: _ours(patterns, documents),
        "ahocorasick_rs": lambda: _automaton(patterns, documents),
        "modelyard, with 13-grams and documents": lambda: {m.item for m in check([items], documents, CONFIG)[0].written.matches},
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    results = {}
    for _ in range(runs):
        for name, method in methods.items():
            started = time.process_time()
            results[name] = method()
            seconds[name].append(time.process_time() - started)
    sample = documents[:: max(1, len(documents) // 20)][:20]
    started = time.process_time()
    naive = {n for text in map(strip, sample) for n, pattern in patterns if pattern in text}
    naive_rate = sum(len(text.encode()) for text in sample) / 1e6 / (time.process_time() - started)
    assert naive == _ours(patterns, sample) == _automaton(patterns, sample)
    assert len({frozenset(found) for found in results.values()}) == 1, "the methods disagree"
    rates = {name: size / statistics.median(values) for name, values in seconds.items()} | {"naive loop (20 documents)": naive_rate}
    print(f"{size:.1f} MB, {len(documents)} documents, {len(patterns)} patterns, {len(results['ahocorasick_rs'])} items hit")
    for name, rate in rates.items():
        print(f"{name:42s} {rate:9.2f} MB/s   {rate / rates['ahocorasick_rs']:7.2f} x ahocorasick_rs")
    if report:
        report.write_text(json.dumps({"megabytes": size, "patterns": len(patterns), "rates": rates}, indent=1) + "\n")


def _material(megabytes: float, count: int) -> tuple[list[str], list[str]]:
    """Documents, and items cut from documents that are not among them, some of them planted."""
    generator = random.Random(0)
    every = texts(1e9)
    generator.shuffle(every)
    others, documents, size = every[: len(every) // 4], [], 0.0
    for text in every[len(every) // 4 :]:
        documents.append(text)
        size += len(text) / 1e6
        if size > megabytes:
            break
    items = []
    for number in range(count):
        source = generator.choice(others)
        start = generator.randrange(max(1, len(source) - 300))
        items.append(source[start : start + 300])
        if number % 50 == 0:
            place = generator.randrange(len(documents))
            documents[place] += "\n" + items[-1]
    return documents, items


def _ours(patterns: list[tuple[int, str]], documents: list[str]) -> set[int]:
    items: dict[str, set[int]] = {}
    for item, pattern in patterns:
        items.setdefault(pattern, set()).add(item)
    strings = list(items)
    finder = Finder([string.encode() for string in strings])
    found: set[int] = set()
    for batch in batches(documents):
        for index in set(finder.search([stripped(text) for text in batch]).patterns.tolist()):
            found |= items[strings[index]]
    return found


def _automaton(patterns: list[tuple[int, str]], documents: list[str]) -> set[int]:
    automaton = ahocorasick_rs.AhoCorasick([pattern for _, pattern in patterns])
    found = set()
    for text in documents:
        found |= {patterns[index][0] for index, _, _ in automaton.find_matches_as_indexes(_SYMBOLS.sub("", text), overlapping=True)}
    return found


if __name__ == "__main__":
    sys.exit(program(main))
