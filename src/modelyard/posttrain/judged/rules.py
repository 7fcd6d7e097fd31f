"""Rule-based rewards as a part of PPO's reward: which rubric speaks about which prompts, and with which weight.

GPT-4 Technical Report (arXiv:2303.08774, system card, section 3.1): on prompts known to ask for what is not given, refusing is rewarded; on
prompts known to be safe, not refusing is. A rule applies one rubric to the prompts of some categories; a response's value is the mean of its
classes' values under the judge's probabilities, so the reward has no steps. Elsewhere a rule is worth 0 and the reward model speaks alone. A
rubric of grades with a weight of its own is a direct judge score (RLAIF, arXiv:2309.00267, section 2.4). Left out: rules for prompts whose
category is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison, PromptRecord, prompt_text
from modelyard.judges.agreement import Agreement
from modelyard.judges.judge import Judge, Response
from modelyard.judges.open_judge import JudgeConfig, open_judge
from modelyard.judges.record import SetAside
from modelyard.judges.rubric import NamedRubric, Rubric, Stance
from modelyard.model.encoder import Encoder
from modelyard.model.subject import Subject
from modelyard.model.training.engine import Engine
from modelyard.store.file_hash import sha256_tree

FILE = "rules.json"
POLICY = "policy"
"""What the model that PPO starts from is called where it judges."""


class Rule(Config):
    """One rubric on the prompts of some categories."""

    rubric: NamedRubric
    """The rubric's file."""
    stance: Stance
    """``refuse``: these prompts ask for what is not given; ``answer``: they are safe."""
    categories: tuple[str, ...] = Field(min_length=1)
    """Categories of the prompts it applies to."""
    weight: float | None = Field(default=None, ge=0)
    """Reward of a response worth 1, on the reward model's scale; absent: fitted so that it overrules the reward model."""

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.rubric.worth(self.stance) is None:
            raise ValueError(f"rubric {self.rubric.name} gives no values for stance {self.stance!r}")
        return self

    def value(self, probabilities: Sequence[float]) -> float:
        """Mean worth of a response under the judge's probabilities of the rubric's classes, from -1 to 1."""
        worth = self.rubric.worth(self.stance)
        assert worth is not None
        return sum(value * p for value, p in zip(worth, probabilities, strict=True))


class Ruled(NamedTuple):
    """A response that rules are asked about."""

    prompt: str
    category: str
    text: str


class RuleBook(Config):
    """Rules with their weights: what the ``rbrm`` artifact holds and PPO reads."""

    judge: JudgeConfig
    """Who judges."""
    judged_by: str
    """Identity of the judge that agreement and weights are of; PPO refuses another."""
    rules: tuple[Rule, ...]
    """Every one with a weight."""
    agreement: tuple[Agreement, ...]
    """The judge beside the labels of every rubric, those set aside included."""
    set_aside: tuple[SetAside, ...] = ()
    """Rubrics of the config of which no rule is left, each with the reason."""


class Judged(NamedTuple):
    """What the rules say of responses."""

    reward: list[float]
    """Sum of weight x value over the rules that apply; 0 where none does."""
    classes: list[dict[str, list[float]]]
    """For each response: rubric -> probabilities of its classes, for the rubrics that were asked."""


class RuleBasedReward:
    """Rules with a judge: responses in, rewards out."""

    name = "rules"

    def __init__(self, rules: Sequence[Rule], judge: Judge) -> None:
        self.rules, self.judge = tuple(rules), judge

    def __call__(self, responses: Sequence[Ruled]) -> Judged:
        """Ask every rubric about the responses that one of its rules applies to, each once."""
        classes: list[dict[str, list[float]]] = [{} for _ in responses]
        for rubric in {rule.rubric.id: rule.rubric for rule in self.rules}.values():
            categories = {category for rule in self.rules if rule.rubric.id == rubric.id for category in rule.categories}
            chosen = [i for i, response in enumerate(responses) if response.category in categories]
            found = self.judge.classify(rubric, [Response(responses[i].prompt, responses[i].text) for i in chosen])
            for i, probabilities in zip(chosen, found, strict=True):
                classes[i][rubric.id] = probabilities
        rewards = [
            sum((rule.weight or 0.0) * rule.value(line[rule.rubric.id]) for rule in self.rules if response.category in rule.categories)
            for response, line in zip(responses, classes, strict=True)
        ]
        return Judged(rewards, classes)

    def shares(self, responses: Sequence[Ruled], judged: Judged) -> dict[str, float]:
        """``rules/{category}/{rubric}/{class}`` -> mean probability of the class among the category's responses; ``rules/no_letter``
        of the judge's replies so far, where it generates them."""
        rubrics = {rule.rubric.id: rule.rubric for rule in self.rules}
        sums: dict[str, list[float]] = {}
        for response, classes in zip(responses, judged.classes, strict=True):
            for identity, probabilities in classes.items():
                rubric = rubrics[identity]
                for option, p in zip(rubric.options, probabilities, strict=True):
                    sums.setdefault(f"rules/{response.category}/{rubric.name}/{option.name}", []).append(p)
        unread = {f"rules/{key}": value for key, value in self.judge.unread.items()}
        return {key: sum(values) / len(values) for key, values in sorted(sums.items())} | unread


def rewritten(comparisons: Sequence[Comparison], chosen: Sequence[Rule], judge: Judge, gap: float) -> list[Comparison]:
    """The comparisons that rules contradict, put in the rules' order (GPT-4 Technical Report, system card, section 3.1).

    A rule contradicts a comparison of its categories where it values a completion that was ranked lower by more than ``gap`` above one
    that was ranked higher. Completions whose mean values are equal to the hundredth tie; a comparison in which all tie keeps its ranks.
    """
    mine = [one for one in comparisons if any(one.category in rule.categories for rule in chosen)]
    flat = [Ruled(prompt_text(one.prompt), one.category, text) for one in mine for text in one.completions]
    judged = iter(RuleBasedReward([rule.model_copy(update={"weight": 1.0}) for rule in chosen], judge)(flat).reward)
    found = []
    for one in mine:
        rules = sum(one.category in rule.categories for rule in chosen)
        values = [next(judged) / rules for _ in one.completions]
        if any(values[worse] - values[better] > gap for better, worse in one.pairs()):
            order = sorted({round(value, 2) for value in values}, reverse=True)
            if len(order) > 1:
                ranks = tuple(order.index(round(value, 2)) + 1 for value in values)
                by = {"rater": judge.identity, "ranked_by": "judge", "agreement": None}
                found.append(one.model_copy(update={"ranks": ranks, "scores": tuple(values), **by}))
    return found


def write(directory: Path, book: RuleBook) -> None:
    """``rules.json``: rules with weights and rubrics whole, and how far the judge agrees with people."""
    (directory / FILE).write_text(book.model_dump_json(indent=1), "utf-8")


def read(directory: Path) -> RuleBook:
    """The rules of an ``rbrm`` artifact. Raises ValueError where they are missing or a rule has no weight."""
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    book = RuleBook.model_validate(json.loads(path.read_text("utf-8")))
    if any(rule.weight is None for rule in book.rules):
        raise ValueError(f"{path}: a rule has no weight")
    return book


def opened_rules(
    inputs: Mapping[str, Path], execution: ExecutionConfig, policy: Engine, encoder: Encoder, prompts: Sequence[PromptRecord]
) -> RuleBasedReward:
    """The rules of ``inputs["rbrm"]`` with their judge; ``policy`` is the engine of ``inputs["sft"]``, which may have to judge.

    A rule to which the fit gave no weight is not asked: it would change no reward.

    Raises:
        ValueError: the judge is another than the one that agreement and weights are of, or a rule speaks about none of ``prompts``.
    """
    book = read(inputs["rbrm"])
    there = {prompt.category for prompt in prompts}
    for rule in book.rules:
        if not there & set(rule.categories):
            raise ValueError(
                f"rbrm: no prompt is of category {' or '.join(rule.categories)}; there are {', '.join(sorted(there)) or 'none'}"
            )
    weights = sha256_tree(inputs["sft"] / "checkpoint")
    judge = open_judge(book.judge, execution, lambda: Subject(POLICY, policy, encoder, weights, book.judge.micro_batch))
    if judge.identity != book.judged_by:
        raise ValueError(f"rbrm: the weights of the rules are of judge {book.judged_by}, now it is {judge.identity}")
    return RuleBasedReward([rule for rule in book.rules if rule.weight], judge)


def rubrics_of(rules: Sequence[Rule]) -> list[Rubric]:
    """The rubrics that rules name, each once."""
    return list({rule.rubric.id: rule.rubric for rule in rules}.values())
