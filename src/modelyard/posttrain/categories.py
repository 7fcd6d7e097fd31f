"""The categories of prompts and comparisons that the tables of alignment name, held against those that there are.

A rule, a reward or a choice of prompts speaks about categories. One that nothing has is a misspelling, and a rule that speaks about nothing is
seen by nobody. Left out: categories of demonstrations, which the ``instructions`` stage refuses before anything is trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modelyard.closest import did_you_mean
from modelyard.posttrain.judged.ai_feedback import CLOSED, AIFeedbackConfig
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.judged.rules import Rule
from modelyard.posttrain.policy.config import PolicyConfig, RewardedConfig

Named = dict[str, tuple[str, ...]]
"""Key of the config -> the categories that it names; none: all."""


def rewarded(policy: PolicyConfig | None, rbrm: RBRMConfig | None) -> Named:
    """Of prompts whose completions rewards and rules speak about."""
    rewards = policy.rewards if isinstance(policy, RewardedConfig) else {}
    return {f"policy.rewards.{name}.categories": one.categories for name, one in rewards.items()} | ruled(
        "rbrm", rbrm.rules if rbrm else ()
    )


def of_prompts(policy: PolicyConfig | None, rbrm: RBRMConfig | None, ai_feedback: AIFeedbackConfig | None) -> Named:
    """Of prompts, in all tables."""
    found = {"policy.prompt_categories": policy.prompt_categories} if policy else {}
    found |= rewarded(policy, rbrm)
    if ai_feedback and ai_feedback.rankings:
        found |= ruled("ai_feedback.rankings", ai_feedback.rankings.rules)
    if ai_feedback and ai_feedback.closed_domain:
        found["ai_feedback.closed_domain"] = (CLOSED,)
    return found


def of_comparisons(ai_feedback: AIFeedbackConfig | None) -> Named:
    """Of people's comparisons that rules may overrule."""
    return ruled("ai_feedback.rewrite", ai_feedback.rewrite.rules) if ai_feedback and ai_feedback.rewrite else {}


def ruled(table: str, rules: Sequence[Rule]) -> Named:
    """Those of the rules of a table."""
    return {f"{table}.rules.{number}.categories": rule.categories for number, rule in enumerate(rules)}


def require_known(named: Mapping[str, Sequence[str]], known: Collection[str], what: str) -> None:
    """Raise ValueError for a category that no ``what`` ("prompt") has."""
    for key, categories in named.items():
        for name in categories:
            if name not in known:
                there = f"there are {', '.join(map(repr, sorted(known)))}" if known else "none has any"
                raise ValueError(f"{key}: no {what} is of category {name!r}; {there}{did_you_mean(name, known)}")
