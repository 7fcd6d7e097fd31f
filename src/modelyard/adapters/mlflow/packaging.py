"""A release as an MLflow logged model: code that chats, signature, input example, the hash of every file, and
how it was evaluated.

The weights stay safetensors under ``artifacts/model``, where transformers loads them as they are. What lies beside them
(the code that chats, what it needs, the list of the weights' hashes) is run before it can check anything, so its hashes are
a tag of the logged model. Logging runs the example once, so a directory that cannot chat is never registered. Left out: a
container image.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient

from modelyard.adapters.mlflow.server import active_run
from modelyard.stats.estimate import Estimate
from modelyard.store.file_hash import sha256_file
from modelyard.store.manifest import MANIFEST

WEIGHTS = "artifacts/model"
"""Where the Hugging Face directory lies in an MLflow model."""
EVALUATION = "evaluation.json"
"""The table of the evaluation, among the run's artifacts."""
COLUMNS = ("model", "benchmark", "metric", *Estimate._fields)
OWN = "evals/policy/"
CODE = "code_sha256"
"""Tag of a logged model: file beside the weights -> its sha256, as JSON."""
REQUIREMENTS = ["mlflow", "torch", "transformers", "jinja2"]


def log_release(server: MlflowClient, export: Path, run_id: str, evaluation: Mapping[str, Estimate]) -> str:
    """Log the Hugging Face directory ``export`` as a model of the run; returns the logged model's id.

    ``evaluation`` (``evals/{model}/{benchmark}/{metric}`` -> estimate) becomes the table ``evaluation.json``
    of the run, and the policy's part of it the model's metrics. Raises whatever loading or chatting raises.
    """
    from transformers.utils import logging

    from modelyard.adapters.mlflow import chat_model

    logging.disable_progress_bar()
    with (
        TemporaryDirectory() as directory,
        warnings.catch_warnings(),
        active_run(server.tracking_uri, run_id),
    ):
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        weights = Path(shutil.copytree(export, Path(directory) / "model", ignore=shutil.ignore_patterns(MANIFEST)))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(chat_model.__file__),
            artifacts={"model": str(weights)},
            model_config={"sha256": tree_hashes(weights)},
            input_example=(chat_model.EXAMPLE, chat_model.PARAMETERS),
            pip_requirements=REQUIREMENTS,
        )
        mlflow.set_logged_model_tags(logged.model_id, {CODE: json.dumps(code_hashes(server, logged.model_id), sort_keys=True)})
        own = {key: estimate.value for key, estimate in evaluation.items() if key.startswith(OWN)}
        if evaluation:
            mlflow.log_metrics(own, model_id=logged.model_id)
            mlflow.log_table(evaluation_table(evaluation), EVALUATION)
    return str(logged.model_id)


def code_hashes(server: MlflowClient, model_id: str) -> dict[str, str]:
    """sha256 of every file of a logged model beside its weights, by path."""
    location = server.get_logged_model(model_id).artifact_location
    names = [Path(one.path).name for one in mlflow.artifacts.list_artifacts(artifact_uri=location, tracking_uri=server.tracking_uri)]
    with TemporaryDirectory(prefix="modelyard-code-") as directory:
        for name in names:
            if name != WEIGHTS.partition("/")[0]:
                mlflow.artifacts.download_artifacts(f"{location}/{name}", dst_path=directory, tracking_uri=server.tracking_uri)
        return tree_hashes(Path(directory))


def tree_hashes(directory: Path) -> dict[str, str]:
    """sha256 of every file below ``directory``, by path."""
    return {file.relative_to(directory).as_posix(): sha256_file(file) for file in sorted(directory.rglob("*")) if file.is_file()}


def evaluation_table(evaluation: Mapping[str, Estimate]) -> dict[str, list[Any]]:
    """Columns of the table: model, benchmark, metric, value, low, high, n; a row each key
    ``evals/{model}/{benchmark}/{metric}``.
    """
    names = [(*key.split("/", 3)[1:], *estimate) for key, estimate in evaluation.items()]
    return {column: list(values) for column, values in zip(COLUMNS, zip(*names, strict=True), strict=True)}
