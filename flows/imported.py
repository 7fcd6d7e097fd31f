"""The line whose base model others pretrained: import, align, measure what it refuses before and after.

``modelyard run CONFIG`` runs it where the config names a ``base``. There is no gate and no release: nothing says what such a model must
be able to do.
"""

from __future__ import annotations

from prefect import flow

from flows.imported_config import ImportedConfig
from tasks.build import Place
from tasks.data import feedback_task
from tasks.evals import refusals_task
from tasks.imported import import_task, text_tokens_task
from tasks.ppo import ppo_task
from tasks.reward import reward_task
from tasks.rubrics import rbrm_task
from tasks.sft import feedme_task, selection_task, sft_task
from tasks.summary import refusals_summary_task


@flow(name="imported", flow_run_name="{config.name}")
def imported_flow(config: ImportedConfig) -> None:
    """Import a model, align it and say what became of it; every stage that the store already has is skipped."""
    place = Place(config.name, config.execution)
    base = import_task(config.base, place)
    feedback = feedback_task(config.feedback, place, None)
    tokens = text_tokens_task(config.tokens, place, base.artifact)

    sft = sft_task(config.sft, place, base.artifact, feedback.artifact, tokens.artifact)
    reward = reward_task(config.reward, place, sft.artifact, feedback.artifact)
    stages = [base, feedback, tokens, sft, reward]
    if config.selection:
        sft = selection_task(config.selection, place, sft.artifact, reward.artifact, feedback.artifact)
        stages.append(sft)
    start = sft
    if config.feedme:
        best = feedme_task(config.feedme, place, sft.artifact, reward.artifact, feedback.artifact)
        start = sft_task(config.sft, place, base.artifact, best.artifact, tokens.artifact)
        stages += [best, start]
    rbrm = rbrm_task(config.rbrm, place, start.artifact, reward.artifact) if config.rbrm else None
    stages += [rbrm] if rbrm else []
    rules = rbrm.artifact if rbrm else None
    policy = ppo_task(config.ppo, place, start.artifact, reward.artifact, feedback.artifact, tokens.artifact, rules)

    asked = {"base": base.artifact, "sft": sft.artifact, "policy": policy.artifact}
    refusals = refusals_task(config.refusals, place, asked)
    refusals_summary_task(place, [*stages, policy, refusals], refusals)
