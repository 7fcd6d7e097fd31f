"""The ``export`` stage: the policy as a Hugging Face directory, as it is registered and loaded by everyone else.

Its generation config says what begins a text and every token that ends one or an answer, as the policy was trained. An
export belongs to a policy by content: :func:`difference` writes it again and compares file by file. Left out: other formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from modelyard.config import Config
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
from modelyard.progress import Report, silent
from modelyard.store.file_hash import sha256_file


class ExportConfig(Config):
    """An export has no choices: format and special tokens follow from the model."""


def run(config: ExportConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Write ``inputs["policy"]`` to ``out``. Raises ValueError where the model is none that Hugging Face's Llama can hold."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # the line has its own
    encoder = Encoder(inputs["policy"])
    export_hf(inputs["policy"], out, start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
    report(1, 1, unit="model")
    return {}


def difference(policy: Path, hashes: Mapping[str, str]) -> str:
    """The first file of an export, given by its files' sha256, that is not what ``policy`` exports to; "" where there is none."""
    with TemporaryDirectory(prefix="modelyard-export-") as directory:
        out = Path(directory)
        run(ExportConfig(), {"policy": policy}, out, silent)
        again = {file.relative_to(out).as_posix(): sha256_file(file) for file in out.rglob("*") if file.is_file()}
    return next((name for name in sorted({*again, *hashes}) if again.get(name) != hashes.get(name)), "")
