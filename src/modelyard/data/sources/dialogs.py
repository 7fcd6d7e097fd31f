"""Dialogs (``chatterbot-corpus`` YAML): each conversation is a list of turns, user first.

English is what is used; Japanese, Korean and Chinese are read too, because a corpus that meets no other language never tests its language
filter. A document is the turns joined by newlines; :func:`turns` gives them back.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from modelyard.data.corpus.document import DataError, Document, one_line
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import members

_LANGUAGES = ("english", "japanese", "korean", "traditionalchinese")


def read(source: Source, archive: Path) -> list[Document]:
    """One document a conversation; a damaged YAML file is a DataError naming it."""
    documents = []
    for path, data in members(archive):
        parts = path.split("/")
        if not path.endswith(".yml") or parts[-2] not in _LANGUAGES:
            continue
        topic = parts[-1].removesuffix(".yml")
        for number, conversation in enumerate(_conversations(source, path, data)):
            lines = [" ".join(str(turn).split()) for turn in conversation if turn is not None]
            name = f"{parts[-2]}-{topic}-{number}"
            text = "\n".join(line for line in lines if line)
            documents.append(Document(name, source.name, "dialog", "und", source.licence, "", text))
    return documents


def turns(text: str) -> list[str]:
    """The turns of a dialog document."""
    return text.split("\n")


def _conversations(source: Source, path: str, data: bytes) -> list[list[object]]:
    try:
        tree = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"source {source.name}: {path}: not valid YAML: {one_line(error)}") from None
    return [conversation for conversation in tree["conversations"] if isinstance(conversation, list)]
