"""The ``export`` stage: the policy as a Hugging Face directory, as it is registered and loaded by everyone else.

A model of ours is closed by its document end; an imported one keeps its own generation config where it brought one. Left out: other formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelyard.config import Config
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
from modelyard.progress import Report


class ExportConfig(Config):
    """An export has no choices: format and special tokens follow from the model."""


def run(config: ExportConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Write ``inputs["policy"]`` to ``out``. Raises ValueError where the model is none that Hugging Face's Llama can hold."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # the line has its own
    encoder = Encoder(inputs["policy"])
    export_hf(inputs["policy"], out, end_id=encoder.document_end, pad_id=encoder.padding)
    report(1, 1, unit="model")
    return {}
