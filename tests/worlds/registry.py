"""A registry's models without the weights."""

from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient

from modelyard.stats.estimate import Estimate


def log_directory(server: MlflowClient, export: Path, run_id: str, evaluation: Mapping[str, Estimate]) -> str:
    """A directory as a logged model, as it is: these candidates need not chat."""
    model = server.create_logged_model(server.get_run(run_id).info.experiment_id, source_run_id=run_id)
    server.log_model_artifacts(model.model_id, str(export))
    return str(server.finalize_logged_model(model.model_id, "READY").model_id)
