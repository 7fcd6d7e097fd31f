"""What C4's rules keep of text that is wrapped by hand: lines as they stand, as the paper has it, beside paragraphs, as the filter does.

``python -m bench.hard_wrapped NAME=FILE ...``: plain text, in documents of about 5,000 characters that end with a paragraph; without a file the
benchmark text alone is measured. The paper's rules cut each line by itself and refuse a page for its sentences alone; the filter joins what is
wrapped, counts what it cuts and refuses a page that would lose more than half. Only documents that are declared web pages are asked either.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from unittest import mock

import typer

from bench.program import program
from bench.real_text import WEB, texts
from modelyard.data.filters import c4, wrapped
from modelyard.data.filters.c4 import C4Config

CONFIG = C4Config.model_validate(WEB["c4"]["text"])
_DOCUMENT = 5000


def main(corpora: Annotated[list[str], typer.Argument(metavar="NAME=FILE")] = [], megabytes: float = 5.0) -> None:
    """Measure and print a Markdown table."""
    print("| corpus | documents | lines, kept | paragraphs, kept | of the documents that stay | refused as mostly cut |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, documents in [("documentation", texts(megabytes)), *((one.partition("=")[0], _documents(one)) for one in corpora)]:
        documents = [text for text in documents if "{" not in text]
        size = sum(map(len, documents))
        with mock.patch.object(wrapped, "paragraphs", lambda text: text.split("\n")):
            lines = _kept(documents, CONFIG.model_copy(update={"max_cut": 1.0}))
        whole = [c4.cut(text, CONFIG) for text in documents]
        stay = [(cut.text, text) for cut, text in zip(whole, documents, strict=True) if cut.refusal is None]
        kept, before = (sum(len(pair[side]) for pair in stay) for side in (0, 1))
        refused = sum(cut.refusal is not None and cut.refusal.reason == "c4/mostly_cut" for cut in whole)
        print(
            f"| {name} | {len(documents)} | {lines / size:.1%} | {kept / size:.1%} | {kept / max(1, before):.1%} | {refused} |", flush=True
        )


def _kept(documents: list[str], config: C4Config) -> int:
    cuts = (c4.cut(text, config) for text in documents)
    return sum(len(cut.text) for cut in cuts if cut.refusal is None)


def _documents(corpus: str) -> list[str]:
    """A file in pieces."""
    return list(_pieces(Path(corpus.partition("=")[2])))


def _pieces(path: Path) -> Iterator[str]:
    piece: list[str] = []
    for paragraph in path.read_text("utf-8", errors="replace").split("\n\n"):
        piece.append(paragraph)
        if sum(map(len, piece)) >= _DOCUMENT:
            yield "\n\n".join(piece)
            piece = []


if __name__ == "__main__":
    sys.exit(program(main))
