"""How a model reads and where it stops: what it says besides following from its weights.

Shape, tokenizer with its chat template, and the ids that begin and end texts, each as it is used: a file that is written otherwise and means the
same changes nothing. Left out: how text is drawn, which whoever asks decides.
"""

from __future__ import annotations

from modelyard.config import digest
from modelyard.model.encoder import Encoder
from modelyard.model.network.model_config import ModelConfig


def reading(model: ModelConfig, encoder: Encoder) -> str:
    """Hash of how a model of this shape and tokenizer reads."""
    return digest([model, encoder.fingerprint, encoder.start, encoder.ends, encoder.text_ends])
