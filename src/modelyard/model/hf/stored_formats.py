"""The formats in which an imported directory holds its tensors, where they are not the one that the model computes in.

A model has one format; a directory may keep its norms in float32 and the rest in bfloat16, or all in float16. The import widens them, exactly, and
notes in ``model.json`` what each tensor was, so that an export of the same weights is the directory again, bit for bit. A model that was trained has
no such note: :func:`modelyard.model.model_directory.write` writes what it was trained in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from modelyard.complaint import first_error
from modelyard.config import Config
from modelyard.formats import json_file

KEY = "stored"
"""Of ``model.json``."""
Format = Literal["float32", "bfloat16", "float16"]
FORMATS: dict[Format, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMES = {dtype: name for name, dtype in FORMATS.items()}


class StoredFormats(Config):
    """What the tensors of a directory were."""

    dtype: Format
    """What its ``config.json`` says, in which transformers opens it."""
    tensors: dict[str, Format]
    """By Hugging Face's names."""


def of(weights: Mapping[str, Tensor], computed: torch.dtype, said: object) -> StoredFormats | None:
    """The formats of a directory's ``weights`` whose config says ``said``; None where all are ``computed``, the model's own."""
    tensors = {name: _NAMES[tensor.dtype] for name, tensor in weights.items()}
    if set(tensors.values()) == {_NAMES[computed]}:
        return None
    kinds = list(tensors.values())
    dtype = _NAMES[said] if isinstance(said, torch.dtype) and said in _NAMES else max(FORMATS, key=kinds.count)
    return StoredFormats(dtype=dtype, tensors=tensors)


def read(directory: Path) -> StoredFormats | None:
    """The note of a model directory, if it has one. Raises ValueError naming the file."""
    path = directory / "model.json"
    note = json_file.table(path).get(KEY)
    if note is None:
        return None
    try:
        return TypeAdapter(StoredFormats).validate_python(note)
    except ValidationError as error:
        raise ValueError(f"{path}: {KEY}: {first_error(error)}") from None


def narrowed(weights: Mapping[str, Tensor], stored: StoredFormats) -> dict[str, Tensor]:
    """Weights under Hugging Face's names, each as it was. Raises ValueError for one whose values are not those of its format."""
    found = {}
    for name, tensor in weights.items():
        dtype = FORMATS[stored.tensors[name]] if name in stored.tensors else tensor.dtype
        found[name] = tensor.to(dtype)
        if not torch.equal(found[name].to(tensor.dtype), tensor):
            raise ValueError(f"{name} was imported in {stored.tensors[name]} and holds values that this format has not")
    return found


def write_dtype(directory: Path, dtype: Format) -> None:
    """Have ``config.json`` of an export say ``dtype``, where transformers has written the format of one of the tensors."""
    path = directory / "config.json"
    config = json_file.table(path)
    path.write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", "utf-8")
