"""A Hugging Face directory as an MLflow model: code that chats, signature, input example, and the hash of every file.

The weights stay safetensors under ``artifacts/model``, where transformers loads them as they are. Saving runs the example once, so a
directory that cannot chat is never registered. Left out: a container image.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from modelyard.store.artifacts import MANIFEST
from modelyard.store.file_hash import sha256_file

WEIGHTS = "artifacts/model"
"""Where the Hugging Face directory lies in an MLflow model."""
REQUIREMENTS = ["mlflow", "torch", "transformers", "jinja2"]


def package(export: Path, out: Path) -> None:
    """Write the MLflow model of ``export`` to ``out``, which must not exist. Raises whatever loading or chatting raises."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.pyfunc import save_model
    from transformers.utils import logging

    from modelyard.adapters.mlflow import chat_model

    logging.disable_progress_bar()
    with TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        weights = Path(shutil.copytree(export, Path(directory) / "model", ignore=shutil.ignore_patterns(MANIFEST)))
        hashes = {file.relative_to(weights).as_posix(): sha256_file(file) for file in sorted(weights.rglob("*")) if file.is_file()}
        save_model(
            str(out),
            python_model=str(chat_model.__file__),
            artifacts={"model": str(weights)},
            model_config={"sha256": hashes},
            input_example=(chat_model.EXAMPLE, chat_model.PARAMETERS),
            pip_requirements=REQUIREMENTS,
        )
