"""The images of a stage's feedback, for a model that is shown them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from modelyard.formats.stored_images import ImageFiles
from modelyard.model.encoder import Encoder
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.tiles import Tiles
from modelyard.model.pictures import Pictures


class Album(NamedTuple):
    """Pictures, and the token that they stand as."""

    pictures: Pictures | None
    """None where there are none, or the model reads text only."""
    placeholder: int = -1

    @classmethod
    def of(cls, encoder: Encoder, model: ModelConfig, feedback: Path, blank: bool) -> Album:
        """The images that ``feedback`` carries, made known to the encoder; ``blank``: all of them grey."""
        if model.vision is None or encoder.placeholder is None or not (feedback / "images").is_dir():
            return NO_ALBUM
        encoder.pictures = pictures = Pictures(model.vision, ImageFiles(feedback), blank)
        return cls(pictures, encoder.placeholder)

    def tiles(self, tokens: Tensor, images: Sequence[Sequence[str]]) -> Tiles | None:
        """Those of rows of tokens [B, S], each with its images; None without any."""
        return self.pictures.shown(tokens, images, self.placeholder) if self.pictures else None


NO_ALBUM = Album(None)
