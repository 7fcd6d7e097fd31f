"""People's training comparisons that rules contradict, put in the rules' order (GPT-4 Technical Report, system card, section 3.1).

Only rules whose judge agrees with people's labels overrule people (:mod:`modelyard.posttrain.judged.trusted`). Left out: telling who of the two is
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.formats.feedback import Comparison
from modelyard.judges.agreement import Agreement
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import JudgeConfig
from modelyard.judges.record import SetAside
from modelyard.posttrain.judged.rules import Rule, rewritten
from modelyard.posttrain.judged.trusted import trusted
from modelyard.progress import Report


class RewriteConfig(Config):
    """Rules that put people's training comparisons in another order where they contradict them."""

    judge: JudgeConfig
    """Who judges; ``policy`` is the SFT model."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """Which rubric speaks about which categories of comparisons."""
    min_kappa: float = Field(ge=-1, le=1)
    """Least agreement with the labels of a rubric (Cohen's kappa); one below it is set aside with its rules."""
    gap: float = Field(ge=0, le=2)
    """By how much a completion that people ranked lower must be worth more (values go from -1 to 1)."""


class Rewritten(NamedTuple):
    """People's comparisons after the rules."""

    comparisons: list[Comparison]
    """All of them, in their order."""
    metrics: dict[str, float]
    agreement: tuple[Agreement, ...]
    """Of the judge, by rubric."""
    set_aside: tuple[SetAside, ...]
    """Rubrics that overruled nobody, each with the reason."""


def overruled(config: RewriteConfig, judge: Judge, comparisons: Sequence[Comparison], seed: int, report: Report) -> Rewritten:
    """The comparisons, of which those for training follow the rules whose judge agrees with people."""
    good = trusted(judge, config.rules, config.min_kappa, seed, report)
    training = [one for one in comparisons if one.split == "reward"] if good.rules else []
    turned = {one.id: one for one in rewritten(training, good.rules, judge, config.gap)}
    kept = [turned.get(one.id, one) if one.split == "reward" else one for one in comparisons]
    aside = tuple(SetAside(what=f"comparisons put in the order of {one.what}", reason=one.reason) for one in good.set_aside)
    return Rewritten(kept, {"comparisons": float(len(turned)), **good.metrics("agreement"), **judge.unread}, good.agreement, aside)
