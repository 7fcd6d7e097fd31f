"""A model that others pretrained as the base of a line: a Hugging Face directory (:mod:`modelyard.model.hf.families`) or a GGUF file of Llama's.

What it is follows from the declared hash of its weights and, of a directory, from how it reads (:mod:`modelyard.model.reading`), which is looked up
there: an edited chat template makes another artifact. Where it lies is said by ``execution.inputs``. It runs on one rank, and what it writes is
loaded at any layout. Left out: fetching it, and what :mod:`modelyard.model.hf.conversion` leaves out.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from modelyard.config import Config, canonical_json
from modelyard.execution import ExecutionConfig
from modelyard.model import control_tokens
from modelyard.model.encoder import Encoder
from modelyard.model.hf import gguf
from modelyard.model.hf.conversion import import_hf
from modelyard.model.hf.shape import shape_of
from modelyard.model.hf.tokenizer import HubEncoder
from modelyard.model.network.model_config import Precision
from modelyard.model.reading import reading
from modelyard.progress import Report
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_weights
from modelyard.store.inputs import find_input
from modelyard.store.manifest import Artifact, ArtifactError

NAME = "imported"


class ImportedModel(Config):
    """A model that others pretrained."""

    path: str
    """Hugging Face directory with ``*.safetensors``, or a ``.gguf`` file; a relative path starts at ``execution.inputs``."""
    sha256: str
    """Hash of the weights' file; of several, what ``sha256sum *.safetensors | sha256sum`` prints in the directory."""
    seq_len: int = Field(ge=2)
    """Longest sequence from here on; at most what the model was made for."""
    licence: str
    """Licence of the weights."""
    allowed_special: tuple[str, ...] = ()
    """Control tokens that text may spell, in documents, prompts and answers alike; any other is encoded as the characters it is."""


class ImportConfig(ImportedModel):
    """An imported model as it is."""

    kind: Literal["import"] = "import"
    """A base model that others pretrained."""
    precision: Precision | None = None
    """``bf16`` or ``fp32`` weights from here on; absent: bf16 where all of them are stored so, else fp32, as of a quantised file."""


class ImportIdentity(ImportConfig):
    """What defines the artifact: the config, and how the model reads."""

    reading: str
    """Hash of shape, tokenizer, chat template and ends; "" of a GGUF file, whose own hash is of them too."""


def defined(config: ImportConfig, roots: Sequence[str], store: Store) -> ImportIdentity:
    """The config with how the model reads: as it lies there, or where nothing does, as what ``store`` has of it was read.

    Raises:
        ValueError: it is nowhere, or no model that is imported.
    """
    try:
        path = find_input(config.path, roots, "base.path")
    except ValueError:
        if before := _before(config, store):
            return before
        raise
    how = "" if path.is_file() else reading(shape_of(path), HubEncoder(path))
    return ImportIdentity(**dict(config), reading=how)


def can_be_read(config: ImportConfig, roots: Sequence[str], store: Store) -> bool:
    """Whether :func:`defined` can say what it is."""
    try:
        defined(config, roots, store)
    except (ValueError, OSError):
        return False
    return True


def _before(config: ImportConfig, store: Store) -> ImportIdentity | None:
    """The identity of the newest import by this config that the store has."""
    wanted, found = json.loads(canonical_json(config)), list[Artifact]()
    for ref in [ref for ref in store.refs() if ref.startswith(f"{NAME}/")]:
        with contextlib.suppress(ArtifactError):  # not finished, or not readable
            found.append(store.get(ref))
    same = [one for one in found if {key: value for key, value in one.config.items() if key != "reading"} == wanted]
    newest = max(same, key=lambda one: one.finished or 0.0, default=None)
    return ImportIdentity(**dict(config), reading=newest.config["reading"]) if newest else None


def found(config: ImportedModel, roots: Sequence[str]) -> Path:
    """The directory or file that holds the declared weights. Raises ValueError: nothing is there, or the weights are others."""
    path = find_input(config.path, roots, "base.path")
    if (actual := sha256_weights(path)) != config.sha256:
        said = "are not declared yet" if config.sha256 == "0" * 64 else "have changed"
        raise ValueError(f"base.path: the weights of {path} {said}: sha256 {actual}, the config says {config.sha256}")
    return path


def run(
    config: ImportConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Write the model as a model directory.

    Raises:
        ValueError: nothing is there, the weights are others than declared, or of no family that is imported; one line naming path and cause.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # the line has its own
    checkpoints.mkdir(parents=True, exist_ok=True)
    for left in checkpoints.glob(".gguf-*"):  # of an import that was killed
        shutil.rmtree(left)
    with gguf.as_directory(found(config, execution.roots), checkpoints) as path:
        model = import_hf(path, out, seq_len=config.seq_len, precision=config.precision)
    control_tokens.allow(out, config.allowed_special)
    Encoder(out)  # refuses a token that it does not have
    report(1, 1, unit="model")
    return {"imported/model/parameters": float(model.parameters())}
