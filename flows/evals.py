"""What the models can do, measured on data that none of them was trained on, and what the production model can do on the same."""

from __future__ import annotations

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from flows.posttrain import Aligned
from modelyard.artifacts import Built
from tasks.evals import baseline_task, evals_task
from tasks.release import Baseline, opponent_task, scores_task
from tasks.stage import Place


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
    measured = baseline_task(config.evals, place, {"policy": scores.weights, **{role: built.artifact for role, built in read.items()}})
    return Baseline(opponent._replace(scores=measured.artifact.ref), measured.artifact, None)
