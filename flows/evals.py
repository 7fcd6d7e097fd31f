"""What the models can do, measured on data that none of them was trained on."""

from __future__ import annotations

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from flows.posttrain import Aligned
from modelyard.artifacts import Built
from tasks.evals import evals_task
from tasks.stage import Place


def measure(config: PipelineConfig, place: Place, data: Data, base: Built, models: Aligned) -> Built:
    """Score base, SFT model and policy; the scorer judges, having seen neither PPO nor its reward."""
    made = {"base": base, "sft": models.sft, "policy": models.policy, "scorer": models.scorer}
    read = {"corpus": data.corpus, "tokens": data.tokens, "contamination": data.contamination}
    return evals_task(config.evals, place, {role: built.artifact for role, built in {**made, **read}.items()})
