"""The forecast sealed in the store and in MLflow, and its judgement once the main run is over."""

from __future__ import annotations

from prefect import get_run_logger, task

from modelyard.formats.forecast import read_forecast
from modelyard.log import logger
from modelyard.store.manifest import Artifact
from tasks.build import Place


@task(name="seal forecast", task_run_name="seal forecast", retries=2, timeout_seconds=300)
def seal_task(place: Place, forecast: Artifact) -> Artifact:
    """Write the prediction into MLflow before what it predicts may start."""
    content = read_forecast(place.store.fetch(forecast))
    if content.objection:
        get_run_logger().warning(content.objection)
        logger("modelyard.scaling").warning("forecast: %s", content.objection)
    place.tracker.seal(forecast, place.link(forecast), content.model_dump(mode="json"))
    return forecast


@task(name="judge forecast", task_run_name="judge forecast", retries=2, timeout_seconds=300)
def judge_forecast_task(place: Place, forecast: Artifact, base: Artifact) -> float:
    """Relative error of the sealed prediction, written into both MLflow runs' tags and Prefect's log; the gate decides later."""
    predicted, measured = forecast.metrics["forecast/main/loss"], base.metrics["base/validation/loss"]
    error = measured / predicted - 1
    low, high = forecast.metrics["forecast/main/loss_low"], forecast.metrics["forecast/main/loss_high"]
    verdict = f"forecast {predicted:.4f} [{low:.4f}, {high:.4f}], measured {measured:.4f}: {error:+.2%}"
    for artifact in (forecast, base):
        place.note(artifact, "forecast", verdict)
    get_run_logger().info(verdict)
    return error
