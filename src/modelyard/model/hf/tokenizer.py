"""The tokenizer of a Hugging Face directory as transformers loads it, for asking the model that lies there and for importing it.

Which tokens a text becomes is spread over a directory's files, and some of it (``add_bos_token``, a class's own normalizer, special tokens of
``special_tokens_map.json``, a list of chat templates) is known to transformers only. :func:`resolved` asks it once; from then on the tokenizer
is two files that say everything. No code of the directory is run. Left out: tokenizers that are not the ``tokenizers`` library's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from modelyard.complaint import complaint
from modelyard.formats import json_file, tokenizer_files
from modelyard.model.encoder import END_IDS, Encoder, ids_of
from modelyard.model.hf.llava import PARTS

GENERATION, KEY = "generation_config.json", "eos_token_id"
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def check(directory: Path) -> None:
    """Raises ValueError naming the tokenizer's file that is there and cannot be read."""
    for name in tokenizer_files.FILES:
        if (directory / name).is_file():
            json_file.table(directory / name)
    if (path := directory / tokenizer_files.TOKENIZER).is_file():
        try:
            Tokenizer.from_file(str(path))
        except Exception as error:  # what tokenizers raises is nothing narrower
            raise ValueError(f"{path}: no tokenizer: {complaint(error)}") from None


def resolved(directory: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The directory's tokenizer and its settings: ``tokenizer_config.json`` with special tokens, the one chat template and
    :func:`released_ends` in it.

    Raises:
        ValueError: a file cannot be read, transformers does not load it, or none of several chat templates is the default; one line.
    """
    from transformers import AutoTokenizer

    check(directory)
    try:
        theirs: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # whatever a class of tokenizers does with a file it does not expect
        raise ValueError(f"{directory}: transformers does not load its tokenizer: {complaint(error)}") from None
    if not getattr(theirs, "is_fast", False):
        raise ValueError(f"{directory}: its tokenizer is none of the tokenizers library's")
    path = directory / tokenizer_files.SETTINGS
    settings = json_file.table(path) if path.is_file() else {}
    settings.pop("auto_map", None)
    settings |= {key: str(token) for key in SPECIAL if (token := getattr(theirs, key)) is not None}
    if (ends := released_ends(directory)) is not None:
        settings = {key: value for key, value in settings.items() if key != END_IDS} | ({END_IDS: ends} if ends else {})
    template = theirs.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise ValueError(f"{path}: chat_template: none of {', '.join(sorted(template))} is called default")
        template = template["default"]
    if template:
        settings["chat_template"] = template.removeprefix(PARTS)
    return theirs.backend_tokenizer, settings


def released_ends(directory: Path) -> list[int] | None:
    """The ids at which ``transformers.generate`` stops by itself, as ``generation_config.json`` says, or without one ``config.json``.

    None where neither is there. Raises ValueError naming the file and the key.
    """
    path = next((directory / name for name in (GENERATION, "config.json") if (directory / name).is_file()), None)
    if path is None:
        return None
    settings = json_file.table(path)
    if path.name != GENERATION and KEY not in settings and isinstance(language := settings.get("text_config"), dict):
        settings = language  # of a model that is shown images
    try:
        return ids_of(settings.get(KEY), KEY)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class HubEncoder(Encoder):
    """The encoder of a Hugging Face directory: what :class:`~modelyard.model.encoder.Encoder` is for its import."""

    def __init__(self, directory: Path) -> None:
        """Raises ValueError as :func:`resolved`, and where no token ends a document."""
        self.directory = directory
        try:
            self._take(*resolved(directory))
        except ValueError as error:
            raise ValueError(str(error) if str(directory) in str(error) else f"{directory}: {error}") from None

    def require_rows(self, rows: int) -> None:
        """Raise ValueError where the tokenizer has an id beyond an embedding of ``rows``."""
        token, largest = max(self._tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1], default=("", -1))
        if largest >= rows:
            raise ValueError(f"{self.directory}: the tokenizer has id {largest} ({token}), the embedding {rows} rows")

    def save(self, out: Path) -> None:
        """Write ``tokenizer.json``, as it lies there if that says all, and ``tokenizer_config.json``."""
        file = self.directory / tokenizer_files.TOKENIZER
        own = Tokenizer.from_file(str(file))
        own.no_padding()
        own.no_truncation()
        if own.to_str() == self._tokenizer.to_str():
            shutil.copyfile(file, out / file.name)
        else:
            self._tokenizer.save(str(out / file.name))
        (out / tokenizer_files.SETTINGS).write_text(json.dumps(self._settings, indent=2, ensure_ascii=False), "utf-8")
