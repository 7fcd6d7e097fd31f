"""Dialogs (``chatterbot-corpus`` YAML): each conversation is a list of turns, user first.

English is what is used; Japanese, Korean and Chinese are read too, because a corpus that meets no other language never tests its language
filter. A document is the turns joined by newlines; :func:`turns` gives them back, of any document of a dialog.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from modelyard.data.corpus.document import DataError, Document, one_line
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import members
from modelyard.data.sources.record import Broken

_LANGUAGES = ("english", "japanese", "korean", "traditionalchinese")


def read(source: Source, archive: Path) -> list[Document | Broken]:
    """One document a conversation, and what is no list of turns set aside; a damaged YAML file is a DataError naming it."""
    documents: list[Document | Broken] = []
    for path, data in members(archive):
        parts = path.split("/")
        if not path.endswith(".yml") or parts[-2] not in _LANGUAGES:
            continue
        topic = parts[-1].removesuffix(".yml")
        conversations = _conversations(source, path, data)
        documents += [
            Broken(f"{parts[-2]}-{topic}", "read/no_dialog", f"{type(one).__name__} instead of a list of turns", str(one)[:2000])
            for one in conversations
            if not isinstance(one, list)
        ]
        for number, conversation in enumerate(one for one in conversations if isinstance(one, list)):
            lines = [" ".join(str(turn).split()) for turn in conversation if turn is not None]
            name = f"{parts[-2]}-{topic}-{number}"
            text = "\n".join(line for line in lines if line)
            documents.append(Document(name, source.name, "dialog", "und", source.licence, "", text))
    return documents


def turns(text: str) -> list[str]:
    """The turns of a dialog document, between which blank lines may stand."""
    return [line for line in text.split("\n") if line.strip()]


def _conversations(source: Source, path: str, data: bytes) -> list[object]:
    try:
        tree = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"source {source.name}: {path}: not valid YAML: {one_line(error)}") from None
    found = tree.get("conversations") if isinstance(tree, dict) else None
    if not isinstance(found, list):
        raise DataError(f"source {source.name}: {path}: no list of conversations in it")
    return found
