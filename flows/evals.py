"""What the models can do, measured on data that none of them was trained on, and what the production model can do on the same."""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.data import Data
from flows.pipeline_config import ConfigFile, PipelineConfig, resolve
from flows.posttrain import Aligned
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.evals import baseline_task, drift_task, evals_task, serving_task
from tasks.release import Baseline, opponent_task, scores_task


def measure(config: PipelineConfig, place: Place, data: Data, base: Built, models: Aligned) -> Built:
    """Score base, SFT model and policy; the scorer judges, having seen neither PPO nor its reward."""
    made = {"base": base, "sft": models.sft, "policy": models.policy, "scorer": models.scorer}
    read = {"corpus": data.corpus, "tokens": data.tokens, "contamination": data.contamination}
    return evals_task(config.evals, place, {role: built.artifact for role, built in {**made, **read}.items()})


def measure_production(config: PipelineConfig, place: Place, data: Data, models: Aligned, results: Built) -> Baseline | None:
    """What the candidate is compared with; production is measured again where the benchmarks have changed since. None: a first release."""
    opponent = opponent_task(place, models.policy.artifact)
    if opponent is None:
        return None
    scores = scores_task(place, opponent, results.artifact)
    if scores.weights is None:
        return Baseline(opponent, scores.found, scores.problem)
    read = {"corpus": data.corpus, "tokens": data.tokens, "contamination": data.contamination, "scorer": models.scorer}
    if config.evals.conduct:
        read["sft"] = models.sft  # who may have to judge
    measured = baseline_task(config.evals, place, {"policy": scores.weights, **{role: built.artifact for role, built in read.items()}})
    return Baseline(opponent._replace(scores=measured.artifact.ref), measured.artifact, None)


@flow(name="evals", flow_run_name="evals of {config.name}")
def evals_flow(config: PipelineConfig | ConfigFile) -> None:
    """What serves, measured by today's code on the data of its release, beside what was measured then.

    Args:
        config: the line whose production it is, or its file with overrides.
    """
    config = resolve(config)
    place = Place(config.name, config.execution)
    serving = serving_task(config.evals, place)
    if serving is None:
        get_run_logger().info("nothing of %s is in production", config.name)
        return
    measured = baseline_task(config.evals, place, serving.evidence)
    drift_task(serving, measured.artifact)
