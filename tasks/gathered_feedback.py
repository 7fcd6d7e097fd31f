"""What only the gathered feedback tells of a line's tables: whether categories that they name are there, and whether comparisons fill their batches.

Looked at before anything is trained. Left out: comparisons that turn out too long for a model, and how many of those that it can make ``ai_feedback``
will, which the stages themselves count.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from modelyard.formats.feedback import COMPARISONS, PROMPTS, THUMBS, json_lines
from modelyard.posttrain import categories
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.policy.config import PolicyConfig
from modelyard.posttrain.preference.config import KTOConfig, PreferenceConfig
from modelyard.posttrain.reward import RewardConfig
from tasks.line import Line
from tasks.line_config import LineConfig
from tasks.stages import SHOWN


class Gathered(NamedTuple):
    """What is counted."""

    prompts: Counter[str]
    """By category."""
    ranked: Counter[str]
    """The reward model's comparisons by category."""
    comparisons: Counter[str]
    """By split."""
    thumbs: int
    """For training."""
    most: int
    """Completions of one of the reward model's comparisons."""


def require_fitting_feedback(line: Line) -> None:
    """Raise ValueError naming the key that the gathered feedback does not fit."""
    config = line.config
    if config.of("policy") is None and config.of("reward") is None:
        return
    shown, feedback = line.artifact(*SHOWN), line.artifact("feedback")
    prompts = line.place.store.fetch(shown, [PROMPTS]) / PROMPTS
    rated = line.place.store.fetch(feedback, [COMPARISONS, THUMBS])
    found = gathered(prompts, rated)
    check_categories(config, found)
    check_batches(config, found)


def gathered(prompts: Path, rated: Path) -> Gathered:
    """Count the records of files that the ``feedback`` stage wrote."""
    compared = [line.fields for line in json_lines(rated / COMPARISONS)]
    trained = [one for one in compared if one["split"] == "reward"]
    return Gathered(
        prompts=Counter(line.fields["category"] for line in json_lines(prompts)),
        ranked=Counter(one["category"] for one in trained),
        comparisons=Counter(one["split"] for one in compared),
        thumbs=sum(line.fields["split"] == "train" for line in json_lines(rated / THUMBS)),
        most=max((len(one["completions"]) for one in trained), default=0),
    )


def check_categories(config: LineConfig, found: Gathered) -> None:
    """No table names a category that nothing has."""
    policy, rbrm, made = config.of("policy"), config.of("rbrm"), config.of("ai_feedback")
    assert isinstance(policy, PolicyConfig | None)
    assert isinstance(rbrm, RBRMConfig | None)
    assert isinstance(made, AIFeedbackConfig | None)
    categories.require_known(categories.of_prompts(policy, rbrm, made), found.prompts, "prompt")
    categories.require_known(categories.of_comparisons(made), found.ranked, "comparison")


def check_batches(config: LineConfig, found: Gathered) -> None:
    """Comparisons can fill a batch of what learns from them, and each a micro-batch at most."""
    policy, made = config.of("policy"), config.of("ai_feedback")
    assert isinstance(made, AIFeedbackConfig | None)
    learns, keeps = policy if isinstance(policy, PreferenceConfig) else None, made is None or made.keep_comparisons
    if learns and keeps and found.most > learns.micro_batch:
        together = f"the {found.most} completions of a comparison of feedback, which stay together"
        raise ValueError(f"policy.micro_batch {learns.micro_batch} is less than {together}")
    further = most_made(made, found.prompts.total()) if made else 0
    there = {"reward": found.comparisons["reward"] * keeps + further, "gold": found.comparisons["gold"] + further}
    thumbs = found.thumbs if isinstance(learns, KTOConfig) else 0
    batches = {"policy": (learns.batch, there["reward"] + thumbs)} if learns else {}
    for name in ("reward", "gold"):
        if isinstance(table := config.of(name), RewardConfig):
            batches[name] = (table.batch, there[table.split])
    for name, (batch, most) in batches.items():
        if most < batch:
            raise ValueError(f"{name}.batch {batch} is more than the {most:g} comparisons that there can be for it")


def most_made(made: AIFeedbackConfig, prompts: int) -> float:
    """Comparisons that a model can make of so many prompts, one of each by every source; flags are not counted."""
    return math.inf if made.open_domain else prompts * sum(table is not None for table in (made.rankings, made.rlaif, made.closed_domain))
