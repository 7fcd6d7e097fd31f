"""The ``harm_features`` stage: what the line's own frozen decoder makes of every labelled text and probe, kept so that heads train in seconds.

Features are hidden states of some layers (:mod:`modelyard.model.inference.representations`): Markov et al. (2022, arXiv:2208.03274, section 3.6)
put their heads on a light decoder; small decoders tell more in the middle than at the end, so the layers are the config's. Left out:
fine-tuning the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from pydantic import Field, TypeAdapter

from modelyard.complaint import complaint
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats import json_file
from modelyard.formats.harms import read_probes, read_texts
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.inference.representations import Representations, cut
from modelyard.model.kept import KeptRows
from modelyard.model.training.engine import Engine
from modelyard.progress import Report
from modelyard.store.file_hash import sha256_tree

FILE, SETTINGS = "features.npz", "features.json"
Reals = npt.NDArray[np.float32]


class FeaturesConfig(Config):
    """What is read of the decoder."""

    depths: tuple[float, ...] = Field(default=(0.5, 0.75), min_length=1)
    """Shares of the decoder's layers after which its hidden states are taken."""
    max_tokens: int = Field(default=192, ge=8)
    """Longest window of a text; a longer text is several, and as harmful as the worst of them."""
    max_windows: int = Field(default=8, ge=1)
    """Windows of a text that are read; what stands behind them is not seen in training."""


class Features(NamedTuple):
    """Windows of texts as vectors."""

    values: Reals
    """[windows, d]"""
    owner: npt.NDArray[np.int64]
    """[windows] number of the text, ascending from 0; every text has a window."""

    def some(self, texts: npt.NDArray[np.int64]) -> Features:
        """The windows of these texts, which are numbered anew."""
        place = np.full(int(self.owner.max(initial=-1)) + 1, -1, np.int64)
        place[texts] = np.arange(len(texts))
        mine = np.flatnonzero(place[self.owner] >= 0)
        order = mine[np.argsort(place[self.owner[mine]], kind="stable")]
        return Features(self.values[order], place[self.owner[order]])


class Reader:
    """Texts to features, by one decoder."""

    def __init__(self, engine: Engine, encoder: Encoder, config: FeaturesConfig) -> None:
        layers = engine.model.layers
        taken = sorted({min(layers, max(1, round(depth * layers))) for depth in config.depths})
        self.model, self.encoder = Representations(engine, taken), encoder
        self.width = min(config.max_tokens, engine.model.seq_len - 1)

    def read(
        self, texts: Sequence[str], max_windows: int | None = None, report: Report | None = None, kept: Path | None = None
    ) -> Features:
        """Every window of every text, or the first so many; ``kept``: a file with those that were read before a run was killed."""
        start = self.encoder.beginning or [self.encoder.document_end]
        rows, owner = list[list[int]](), list[int]()
        for number, text in enumerate(texts):
            for window in cut(self.encoder.ids(text), self.width)[:max_windows]:
                rows.append([*start, *window][: self.width + 1])
                owner.append(number)

        def told(done: int, total: int) -> None:
            if report:
                report(done, total, unit="window")

        known = {"once": KeptRows(kept, self.model.width).once} if kept else {}
        return Features(self.model.of(rows, told, **known).numpy(), np.array(owner, np.int64))


def run(
    config: FeaturesConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Read the texts and probes of ``inputs["harm_labels"]`` by ``inputs["decoder"]``."""
    engine = model_directory.load(inputs["decoder"], execution)
    labelled, probes = read_texts(inputs["harm_labels"]), read_probes(inputs["harm_labels"])
    texts = [*(one.text for one in labelled), *(one.text for one in probes)]
    found = Reader(engine, Encoder(inputs["decoder"]), config).read(texts, config.max_windows, report, checkpoints / "windows")
    if dist.get_rank() == 0:
        write(out, found, decoder=sha256_tree(inputs["decoder"] / "checkpoint"), config=config)
    return {
        "harm_features/windows": float(len(found.owner)),
        "harm_features/texts": float(len(texts)),
        "harm_features/width": float(found.values.shape[1]),
    }


def write(out: Path, found: Features, decoder: str, config: FeaturesConfig) -> None:
    """``features.npz`` and, beside it, how more of them are made."""
    np.savez(out / FILE, values=found.values.astype(np.float16), owner=found.owner)
    (out / SETTINGS).write_text(Settings(**dict(config), decoder=decoder).model_dump_json(indent=1), "utf-8")


class Settings(FeaturesConfig):
    """By what the features were made."""

    decoder: str
    """Fingerprint of its weights."""


_SETTINGS = TypeAdapter(Settings)


def read(directory: Path) -> tuple[Features, Settings]:
    """A ``harm_features`` artifact. Raises ValueError naming the file that is missing or damaged."""
    path = directory / FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = Features(stored["values"].astype(np.float32), stored["owner"].astype(np.int64))
    except Exception as error:  # numpy and zipfile raise a dozen types for damaged bytes
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {complaint(error)})") from None
    return found, read_settings(directory)


def read_settings(directory: Path) -> Settings:
    """By what the features of an artifact were made. Raises ValueError naming the file."""
    return json_file.read(directory / SETTINGS, _SETTINGS)
