"""What the production model can do on the benchmarks of a candidate, and on today's."""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.pipeline_config import Given, PipelineConfig, resolve
from flows.tracked import tracked
from tasks.evals import drift_task, serving_task
from tasks.line import Line
from tasks.release import Baseline, opponent_task, scores_task


def measure_production(config: PipelineConfig, line: Line) -> Baseline | None:
    """What the candidate is compared with; production is measured again where the benchmarks have changed since. None: a first release."""
    opponent = opponent_task(line.place, line.released)
    if opponent is None:
        return None
    scores = scores_task(line.place, opponent, line.artifact("results"))
    if scores.weights is None:
        return Baseline(opponent, scores.found, scores.problem)
    measured = line.build_from("baseline", config.evals, {"policy": scores.weights}).artifact
    return Baseline(opponent._replace(scores=measured.ref), measured, None)


@flow(name="evals", flow_run_name="evals of {config.name}")
@tracked
def evals_flow(config: Given) -> None:
    """What serves, measured by today's code on the data of its release, beside what was measured then.

    Args:
        config: the line whose production it is, or its file with overrides.
    """
    config = resolve(config)
    line = Line(config)
    serving = serving_task(line.place)
    if serving is None:
        get_run_logger().info("nothing of %s is in production", config.name)
        return
    drift_task(serving, line.build_from("baseline", config.evals, serving.evidence).artifact)
