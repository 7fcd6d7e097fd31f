"""What screening costs by corpus and language: CPU ms/MB of every per-document filter of ``configs/data/web.toml`` together, and what is kept.

``python -m bench.data_screen [DIRECTORY] [--megabytes 2] [--rounds 3]``. Corpora are documentation of the installed packages and their source
code; languages are those of :mod:`bench.languages`, whose DIRECTORY is made by pip into ``.modelyard/bench/translations`` where none is given. A
language with less text is read several times over, so copies are not looked for: that costs the same in every language. Every document is a web page
that one language is accepted of. One thread of one process, the least of the rounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bench import languages
from bench.data_stage import FILTERS, ROOT
from bench.program import program
from bench.real_text import WEB, sources, texts
from modelyard.data.corpus.document import Document, Kind, to_table
from modelyard.data.corpus.trained import abuse_filter, open_abuse_filter
from modelyard.data.filters.abuse import AbuseFilter
from modelyard.data.filters.languages import LANGUAGES
from modelyard.data.filters.screen import FiltersConfig, Screen
from modelyard.store.artifacts import Store

PACKAGES = ("kolibri==0.19.5", "wagtail==8.0.1")
TRANSLATIONS = ROOT / ".modelyard/bench/translations"


class Cost(NamedTuple):
    """What was measured of a corpus."""

    milliseconds: float
    """CPU ms/MB."""
    kept: float
    """Share of the bytes."""
    read: float
    """Bytes in UTF-8, in millions, each document counted once."""
    documents: int


def main(
    directory: Annotated[Path | None, typer.Argument(help="Where the translations are.")] = None,
    megabytes: float = 2.0,
    rounds: int = 3,
) -> None:
    """Measure and print a Markdown table."""
    directory = directory or _translations()
    abuse = _abuse()
    print("| corpus | text, MB | documents | bytes each | CPU ms/MB | bytes kept |\n| --- | --- | --- | --- | --- | --- |")
    _show("documentation", cost(texts(megabytes), "text", "en", abuse, megabytes, rounds))
    _show("source code", cost(sources(megabytes), "code", "en", abuse, megabytes, rounds))
    for code in sorted(LANGUAGES):
        if len(documents := languages.material(directory, code).good) >= 5:
            _show(code, cost(documents, "text", code, abuse, megabytes, rounds))


def cost(documents: Sequence[str], kind: Kind, code: str, abuse: AbuseFilter, megabytes: float, rounds: int) -> Cost:
    """Screen ``megabytes`` of the documents, again and again where they are less."""
    settings = {**WEB, "language": {**WEB["language"], "accepted": [code]}}
    screen = Screen(FiltersConfig.model_validate(settings), abuse)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents) / 1e6
    times = max(1, round(megabytes / size))
    table = to_table(
        Document(str(number), "bench", kind, "und", "various", "", text, web=kind == "text")
        for number, text in enumerate(list(documents) * times)
    )
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        screened = screen(table)
        spent.append(time.process_time() - begun)
    kept = [
        text for text, reason in zip(*(screened.column(name).to_pylist() for name in ("text", "reason")), strict=True) if reason is None
    ]
    return Cost(1000 * min(spent) / size / times, sum(len(text.encode()) for text in kept) / 1e6 / size / times, size, len(documents))


def _show(name: str, found: Cost) -> None:
    each = 1e6 * found.read / found.documents
    print(f"| {name} | {found.read:.2f} | {found.documents} | {each:.0f} | {found.milliseconds:.0f} | {found.kept:.1%} |", flush=True)


def _translations() -> Path:
    if not TRANSLATIONS.is_dir():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(TRANSLATIONS), *PACKAGES]
        subprocess.run(install, check=True)
    return TRANSLATIONS


def _abuse() -> AbuseFilter:
    """The filter that the packaged model teaches, as every run of :mod:`bench.data_stage` finds it."""
    config = FiltersConfig.model_validate(WEB).abuse
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(f"file://{FILTERS}", scratch)
        return open_abuse_filter(store.fetch(abuse_filter(config, store, store.scratch / "sources", [""]).artifact), config)


if __name__ == "__main__":
    sys.exit(program(main))
