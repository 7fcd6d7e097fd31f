"""Rankings of a model's own samples: K answers to each prompt, put in order by rubrics, as people's rankings of K answers are.

InstructGPT (arXiv:2203.02155, section 3.5) ranks K = 4 to 9 samples of one prompt and trains on all C(K, 2) pairs as one element. Here a judge orders
them by what the rules of GPT-4's rule-based reward models (arXiv:2303.08774, system card, section 3.1) say of each, in both stances: where a prompt
asks for what is not given, a refusal in the desired style stands above another refusal and that above disallowed content; where it is safe, an
answer stands above refusals. Nearly equal answers tie. Only rubrics whose judge agrees with people's labels are used. A prompt that people
compared answers to stays on their side of the split, so the gold reward model learns from other prompts than the reward model, and both are
measured on prompts that neither was shown. Left out: answers of several models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from modelyard.config import Config, digest
from modelyard.formats.feedback import Comparison, PromptRecord, prompt_text
from modelyard.judges.judge import Judge, likeliest
from modelyard.judges.open_judge import JudgeConfig
from modelyard.posttrain.judged.candidates import Candidates, SampledConfig
from modelyard.posttrain.judged.rlaif import ranked
from modelyard.posttrain.judged.rules import Rule, RuleBasedReward, Ruled

SOURCE = "rankings"
SPLITS = ("reward", "gold", "test")


class PromptCounts(Config):
    """Most prompts of each rule whose answers are ranked."""

    reward: int = Field(ge=1)
    """For the reward model."""
    gold: int = Field(ge=0)
    """For the gold reward model."""
    test: int = Field(ge=1)
    """Held out from both: what they are measured on."""


class RankingsConfig(SampledConfig):
    """Which prompts are answered, and how the answers are put in order."""

    judge: JudgeConfig
    """Who judges; ``policy`` is the SFT model."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """Which rubric orders answers to the prompts of which categories; weights play no part."""
    min_kappa: float = Field(ge=-1, le=1)
    """Least agreement with a rubric's labels (Cohen's kappa); a rubric below it is set aside."""
    prompts: PromptCounts
    """How many."""
    max_prompt_tokens: int = Field(ge=1)
    """Longest prompt that is answered."""
    tie: float = Field(ge=0, le=2)
    """Difference of value under which two answers tie; values go from -1 to 1."""


class Chosen(NamedTuple):
    """A prompt and what its ranking is for."""

    prompt: PromptRecord
    split: str


class Rankings(NamedTuple):
    """What a judge made of answers."""

    comparisons: list[Comparison]
    tied: int
    """Prompts all of whose answers tie."""


def chosen(config: RankingsConfig, rules: Sequence[Rule], fitting: Sequence[PromptRecord], given: Sequence[Comparison]) -> list[Chosen]:
    """The first prompts of every rule and split; people's comparisons say on which side a prompt lies."""
    sides = {prompt_text(one.prompt): one.split for one in given}
    wanted = dict(zip(SPLITS, (config.prompts.reward, config.prompts.gold, config.prompts.test), strict=True))
    left = [dict(wanted) for _ in rules]
    found = []
    for prompt in fitting:
        split = side(prompt, sides.get(prompt_text(prompt.prompt)), config.prompts)
        speaking = [counts for rule, counts in zip(rules, left, strict=True) if prompt.category in rule.categories]
        if any(counts[split] > 0 for counts in speaking):
            for counts in speaking:
                counts[split] -= 1
            found.append(Chosen(prompt, split))
    return found


def side(prompt: PromptRecord, compared: str | None, counts: PromptCounts) -> str:
    """What the ranking of a prompt is for: what people's comparison of it is for, else a draw by its id in proportion to ``counts``."""
    if prompt.split == "validation":
        return "test"
    if compared is not None:
        return compared
    drawn = int(digest([SOURCE, prompt.id])[:8], 16) / 2**32
    return "gold" if drawn < counts.gold / (counts.gold + counts.reward) else "reward"


def order(candidates: Sequence[Candidates], splits: Sequence[str], rules: Sequence[Rule], judge: Judge, tie: float) -> Rankings:
    """Each prompt's answers in the order of what their likeliest classes are worth, on average over the rules of its category."""
    compared = [(one, split) for one, split in zip(candidates, splits, strict=True) if len(one.completions) > 1]
    flat = [Ruled(prompt_text(one.prompt), one.category, text) for one, _ in compared for text in one.completions]
    classes = iter(RuleBasedReward(rules, judge)(flat).classes)
    comparisons = []
    for one, split in compared:
        speaking = [rule for rule in rules if one.category in rule.categories]
        scores = [worth(speaking, next(classes)) for _ in one.completions]
        if len(set(ranks := ranked(scores, tie))) > 1:
            comparisons.append(_comparison(one, split, judge.identity, ranks, scores))
    return Rankings(comparisons, len(compared) - len(comparisons))


def worth(rules: Sequence[Rule], classes: Mapping[str, Sequence[float]]) -> float:
    """Mean worth of the likeliest class of a response's rubrics, from -1 to 1: what the judge's agreement was measured on; of several that tie
    their mean. Its probabilities are not: a small judge's are nearly flat, so their means order answers by noise."""
    values = []
    for rule in rules:
        worths, found = rule.rubric.worth(rule.stance), classes[rule.rubric.id]
        assert worths is not None
        places = likeliest(found)
        values.append(sum(worths[place] for place in places) / len(places))
    return sum(values) / len(values)


def _comparison(one: Candidates, split: str, rater: str, ranks: Sequence[int], scores: Sequence[float]) -> Comparison:
    fields = {"id": f"{SOURCE}-{one.id}", "split": split, "source": SOURCE, "category": one.category, "rater": rater, "ranked_by": "judge"}
    found = {"prompt": one.prompt, "completions": one.completions, "ranks": tuple(ranks), "scores": tuple(scores)}
    return Comparison.model_validate({**fields, **found})
