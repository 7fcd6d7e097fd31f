"""The ``rbrm`` stage: measure a judge on the rubrics' labelled responses, and fit the weights of rule-based rewards against the reward model.

GPT-4 Technical Report (arXiv:2303.08774, system card, section 3.1). A rubric on which the judge does not agree with people well enough
is set aside, with the reason on the record: a rule whose judge errs is a wrong reward. Where none is left, the stage fails. Weights are
fitted on the labelled responses of part of the prompts (:mod:`modelyard.posttrain.judged.overruling`) and shown on the rest. Labels are of
responses people wrote; how far the judge agrees on a policy's own responses is not known. Left out: labelling more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Message
from modelyard.judges.judge import Judge, Response
from modelyard.judges.open_judge import JudgeConfig, open_judge
from modelyard.judges.rubric import Labelled, Stance
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.subject import Subject
from modelyard.model.training.engine import Engine
from modelyard.posttrain.judged import rules
from modelyard.posttrain.judged.overruling import Floats, fit_weights, ruling
from modelyard.posttrain.judged.rules import Rule, RuleBook
from modelyard.posttrain.judged.trusted import trusted
from modelyard.posttrain.rows.encoding import whole
from modelyard.posttrain.scores import score
from modelyard.progress import Report


class RBRMConfig(Config):
    """Rule-based reward models."""

    seed: int = Field(ge=0)
    """Of bootstraps and of which prompts are held out."""
    judge: JudgeConfig
    """Who judges."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """Which rubric applies to which prompts."""
    min_kappa: float = Field(ge=-1, le=1)
    """Least agreement with the labels (Cohen's kappa) that a rubric's judge must have; a rubric below it is set aside."""
    margin: float = Field(gt=0)
    """By how much reward model and rules together should prefer the better response, in standard deviations of the reward model's scores."""
    penalty: float = Field(gt=0)
    """Price of a unit of weight: of weights that do equally well the smaller ones are taken."""
    test_share: float = Field(ge=0, lt=1)
    """Share of the labelled prompts that no weight is fitted on."""

    @model_validator(mode="after")
    def _labelled(self) -> RBRMConfig:
        for number, rule in enumerate(self.rules):
            if not rule.rubric.labelled(self.judge.shots):
                raise ValueError(f"rules.{number}: rubric {rule.rubric.name} has no labelled examples that the judge is not shown")
        return self


class Case(NamedTuple):
    """A labelled response with its worth under its own rubric."""

    group: str
    """Rubric and prompt: only responses of one group are compared."""
    labelled: Labelled
    worth: float


class Gaps(NamedTuple):
    """Pairs of labelled responses, better less worse."""

    rules: Floats
    """[P, K] of the rules' values."""
    model: Floats
    """[P] of the reward model's scores and the rules with a weight of their own."""


def run(
    config: RBRMConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Judge the labelled responses, score them by ``inputs["reward"]``, fit; ``inputs["sft"]`` is the policy that may judge itself.

    Raises:
        ValueError: the judge cannot be opened, or agrees too little with the labels of every rubric.
    """
    encoder = Encoder(inputs["sft"])
    encoder.require_same("reward", inputs["reward"])
    judge = open_judge(
        config.judge, execution, lambda: Subject.open(rules.POLICY, inputs["sft"], execution, config.judge.micro_batch), checkpoints, report
    )
    good = trusted(judge, config.rules, config.min_kappa, config.seed, report)
    good.require("rbrm.rules")
    cases = labelled_cases(good.rules, config.judge.shots)
    engine = model_directory.load(inputs["reward"], execution, head="scalar")
    model = np.array(model_scores(engine, encoder, cases))
    values = rule_values(good.rules, judge, cases)
    held = held_out([case.labelled.prompt for case in cases], config)
    fixed = np.array([rule.weight or 0.0 for rule in good.rules])
    free = [k for k, rule in enumerate(good.rules) if rule.weight is None]
    weights = fixed.copy()
    known = model + values @ fixed
    fitted_on, tested_on = (gaps(cases, values[:, free], known, [h == side for h in held]) for side in (False, True))
    if free:
        weights[free] = fit_weights(fitted_on.rules, fitted_on.model, config.margin * float(model.std()), config.penalty)
    chosen = tuple(rule.model_copy(update={"weight": float(w)}) for rule, w in zip(good.rules, weights, strict=True))
    if dist.get_rank() == 0:
        book = RuleBook(judge=config.judge, judged_by=judge.identity, rules=chosen, agreement=good.agreement, set_aside=good.set_aside)
        rules.write(out, book)
    metrics = {f"rbrm/weight/{rule.rubric.name}_{rule.stance}": float(rule.weight or 0.0) for rule in chosen}
    metrics |= good.metrics("rbrm") | {f"rbrm/{key}": value for key, value in judge.unread.items()}
    for name, part in (("fit", fitted_on), ("test", tested_on)):
        if len(part.model):
            found = ruling(part.rules, part.model, weights[free], engine.precision)
            metrics |= {f"rbrm/{name}/{key}": float(value) for key, value in found._asdict().items()}
    return metrics


def labelled_cases(chosen: Sequence[Rule], shots: int) -> list[Case]:
    """Every labelled response of every rubric whose stance a rule has, but those that the judge is shown with their classes."""
    stances: dict[str, set[Stance]] = {}
    for rule in chosen:
        stances.setdefault(rule.rubric.id, set()).add(rule.stance)
    cases = []
    for rubric in rules.rubrics_of(chosen):
        for one in rubric.labelled(shots):
            worth = rubric.worth(one.stance)
            if one.stance in stances[rubric.id] and worth is not None:
                cases.append(Case(f"{rubric.id} {one.prompt}", one, worth[one.label]))
    if not cases:
        raise ValueError("rbrm.rules: no rubric has labelled examples of a rule's stance that the judge is not shown")
    return cases


def model_scores(engine: Engine, encoder: Encoder, cases: Sequence[Case]) -> list[float]:
    """The reward model's score of every case, read as a conversation where the model has a chat template."""
    documents = []
    for case in cases:
        prompt = (Message(role="user", content=case.labelled.prompt),) if encoder.template else case.labelled.prompt + "\n"
        documents.append(whole(encoder, prompt, case.labelled.response))
    return score(engine, documents, encoder.padding)


def rule_values(chosen: Sequence[Rule], judge: Judge, cases: Sequence[Case]) -> Floats:
    """[cases, rules]: value of each case under each rule of its stance, 0 under the others."""
    values = np.zeros((len(cases), len(chosen)))
    for rubric in rules.rubrics_of(chosen):
        mine = [k for k, rule in enumerate(chosen) if rule.rubric.id == rubric.id]
        asked = [i for i, case in enumerate(cases) if case.labelled.stance in {chosen[k].stance for k in mine}]
        found = judge.classify(rubric, [Response(cases[i].labelled.prompt, cases[i].labelled.response) for i in asked])
        for i, probabilities in zip(asked, found, strict=True):
            for k in mine:
                if chosen[k].stance == cases[i].labelled.stance:
                    values[i, k] = chosen[k].value(probabilities)
    return values


def held_out(prompts: Sequence[str], config: RBRMConfig) -> list[bool]:
    """Whether each case's prompt is kept from the fit; cases of one prompt stay together."""
    names = sorted(set(prompts))
    order = np.random.default_rng(config.seed).permutation(len(names))
    held = {names[i] for i in order[: round(config.test_share * len(names))]}
    return [prompt in held for prompt in prompts]


def gaps(cases: Sequence[Case], values: Floats, model: Floats, chosen: Sequence[bool]) -> Gaps:
    """Every pair of chosen cases of one group whose worth differs."""
    places = [i for i, one in enumerate(chosen) if one]
    pairs = [(i, j) for i in places for j in places if cases[i].group == cases[j].group and cases[i].worth > cases[j].worth]
    better, worse = ([pair[side] for pair in pairs] for side in (0, 1))
    return Gaps(values[better] - values[worse], model[better] - model[worse])
