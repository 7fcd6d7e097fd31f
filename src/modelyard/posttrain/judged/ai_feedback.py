"""The ``ai_feedback`` stage: comparisons that a model made, beside those that people made, as one ``feedback`` artifact.

Each source where the config asks: rankings of K samples by rules (:mod:`modelyard.posttrain.judged.rankings`), a judge's preferences
among the policy's own samples (:mod:`modelyard.posttrain.judged.rlaif`), the closed-domain loop and flagged outputs against
hallucination (:mod:`modelyard.posttrain.judged.hallucination`); and people's comparisons that rules contradict are put in the rules'
order (:mod:`modelyard.posttrain.judged.contradicted`). The records are people's records with another rater, so a reward model trained on
the artifact has the judge distilled into it. Rankings, the closed-domain loop and rules that overrule people measure their judge on
labelled responses first, RLAIF on people's comparisons; where it agrees too little they change nothing, and ``ai_feedback.json`` says
so beside how many comparisons are whose. What policy and judges say is kept as it comes,
so a stage that was killed asks for the rest. Left out: judging again what was judged before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config, digest
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    PromptRecord,
    prompt_text,
    read,
    records,
    write,
)
from modelyard.formats.flags import Flag, flags_of
from modelyard.judges import pairwise, record
from modelyard.judges.agreement import Agreement
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import JudgeConfig, JudgeModel, open_judge, open_model
from modelyard.judges.record import AIFeedbackRecord, Count, SetAside, below
from modelyard.model.asked import Model
from modelyard.model.subject import Subject
from modelyard.posttrain.judged import hallucination, rankings, rlaif
from modelyard.posttrain.judged.candidates import answers
from modelyard.posttrain.judged.contradicted import RewriteConfig, overruled
from modelyard.posttrain.judged.hallucination import Case, ClosedDomainConfig, End
from modelyard.posttrain.judged.rankings import RankingsConfig
from modelyard.posttrain.judged.rlaif import RLAIFConfig
from modelyard.posttrain.judged.rules import POLICY
from modelyard.posttrain.judged.trusted import trusted
from modelyard.progress import Report

CLOSED = "closed_domain"
"""Category of prompts that hold all that a response may say."""


class AIFeedbackConfig(Config):
    """Which comparisons are made."""

    seed: int = Field(ge=0)
    """Of the samples and of bootstraps."""
    keep_comparisons: bool
    """Whether people's training comparisons stay (mixed) or the model's take their place."""
    rankings: RankingsConfig | None = None
    """Rankings of K samples by rules."""
    rlaif: RLAIFConfig | None = None
    """A judge's preferences."""
    closed_domain: ClosedDomainConfig | None = None
    """The closed-domain loop over the training prompts of category ``closed_domain``."""
    open_domain: bool = False
    """Whether outputs that users flagged (``[[feedback.files]]`` of shape ``flags``) are compared with better ones."""
    rewrite: RewriteConfig | None = None
    """Rules that overrule people's comparisons."""

    @model_validator(mode="after")
    def _something(self) -> AIFeedbackConfig:
        if not any((self.rankings, self.rlaif, self.closed_domain, self.open_domain, self.rewrite)):
            raise ValueError("rankings, rlaif, closed_domain, open_domain and rewrite: at least one must make comparisons")
        if self.rewrite and not self.keep_comparisons:
            raise ValueError("rewrite: puts people's training comparisons in order, and keep_comparisons = false drops them")
        return self


class Made(NamedTuple):
    """What one source gave."""

    comparisons: list[Comparison]
    metrics: dict[str, float]
    agreement: tuple[Agreement, ...] = ()
    """Its judge beside people's labels."""
    set_aside: tuple[SetAside, ...] = ()
    """What it did not use, each with the reason."""


def run(
    config: AIFeedbackConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Comparisons by and about ``inputs["sft"]`` beside those of ``inputs["feedback"]``.

    Raises:
        ValueError: the judge cannot be opened, or there is no prompt of the category that a source needs.
    """
    given = list(records(inputs["feedback"] / COMPARISONS, Comparison))
    policy = Subject.open(POLICY, inputs["sft"], execution, micro_batch=8)
    policy.keep(checkpoints / "policy.jsonl")
    made = made_by(config, policy, inputs["feedback"], given, checkpoints, execution, report)
    comparisons = [comparison for source in made.values() for comparison in source.comparisons]
    kept = [one for one in given if config.keep_comparisons or one.split != "reward"]
    metrics = {f"ai_feedback/{name}/{key}": value for name, source in made.items() for key, value in source.metrics.items()}
    found = [(source.agreement, source.set_aside) for source in made.values()]
    if config.rewrite is not None:
        judge = judge_of(config.rewrite.judge, policy, checkpoints, execution, report)
        rewrite = overruled(config.rewrite, judge, kept, config.seed, report)
        kept = rewrite.comparisons
        metrics |= {f"ai_feedback/rewrite/{key}": value for key, value in rewrite.metrics.items()}
        found.append((rewrite.agreement, rewrite.set_aside))
    if dist.get_rank() == 0:
        write(out / COMPARISONS, [*kept, *comparisons])
        for name in (DEMONSTRATIONS, THUMBS, PROMPTS):
            shutil.copyfile(inputs["feedback"] / name, out / name)
        agreement = tuple(one for measured, _ in found for one in measured)
        set_aside = tuple(one for _, aside in found for one in aside)
        record.write(out, AIFeedbackRecord(counts=counted([*kept, *comparisons]), agreement=agreement, set_aside=set_aside))
    return {"ai_feedback/comparisons/made": float(len(comparisons)), "ai_feedback/comparisons/kept": float(len(kept)), **metrics}


def made_by(
    config: AIFeedbackConfig,
    policy: Subject,
    feedback: Path,
    given: Sequence[Comparison],
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
) -> dict[str, Made]:
    """What each source of the config gave, by its name."""
    prompts = list(records(feedback / PROMPTS, PromptRecord))
    made = {"open_domain": flagged(flags_of(feedback), given)} if config.open_domain else {}
    people = [*(one for source in made.values() for one in source.comparisons), *given]
    others = elsewhere(people)
    training = [one for one in read(feedback / PROMPTS, PromptRecord, "train") if prompt_text(one.prompt) not in others]
    if config.rankings is not None:
        judge = judge_of(config.rankings.judge, policy, checkpoints, execution, report)
        made["rankings"] = ranked_samples(config.rankings, policy, judge, prompts, people, config.seed, report)
    if config.rlaif is not None:
        judge = judge_of(config.rlaif.judge, policy, checkpoints, execution, report)
        made["rlaif"] = preferences(config.rlaif, policy, judge, training, given, config.seed)
    if config.closed_domain is not None:
        model = open_model(config.closed_domain.judge, execution, lambda: policy, kept_of(config.closed_domain.judge, checkpoints))
        made["closed_domain"] = faithful(config.closed_domain, policy, model, training)
    return made


def judge_of(config: JudgeConfig, policy: Subject, checkpoints: Path, execution: ExecutionConfig, report: Report) -> Judge:
    """The judge of a source."""
    return open_judge(config, execution, lambda: policy, kept_of(config, checkpoints), report)


def kept_of(config: JudgeModel, checkpoints: Path) -> Path | None:
    """Where what a judge says is kept; None for the policy, which keeps what it says already."""
    return None if config.kind == "policy" else checkpoints / digest(config)[:16]


def counted(comparisons: Sequence[Comparison]) -> tuple[Count, ...]:
    """Comparisons and their pairs by split, source and who ranked them."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for one in comparisons:
        groups.setdefault((one.split, one.source, one.ranked_by), []).append(sum(1 for _ in one.pairs()))
    return tuple(
        Count(split=split, source=source, ranked_by=by, comparisons=len(pairs), pairs=sum(pairs))
        for (split, source, by), pairs in sorted(groups.items())
    )


def ranked_samples(
    config: RankingsConfig,
    policy: Subject,
    judge: Judge,
    prompts: Sequence[PromptRecord],
    given: Sequence[Comparison],
    seed: int,
    report: Report,
) -> Made:
    """Rankings of the policy's samples by the rules whose judge agrees with people."""
    good = trusted(judge, config.rules, config.min_kappa, seed, report)
    aside = tuple(SetAside(what=f"rankings by {one.what}", reason=one.reason) for one in good.set_aside)
    if not good.rules:
        return Made([], good.metrics("agreement"), good.agreement, aside)
    fitting = [one for one in prompts if len(policy.encoder.prompt(one.prompt)) <= config.max_prompt_tokens]
    chosen = rankings.chosen(config, good.rules, fitting, given)
    for rule in good.rules:
        if not any(one.prompt.category in rule.categories for one in chosen):
            raise ValueError(
                f"ai_feedback.rankings: no prompt of at most {config.max_prompt_tokens} tokens is of category {' or '.join(rule.categories)}"
            )
    answered = answers(config, policy, [one.prompt for one in chosen], seed)
    report(len(chosen), len(chosen), unit="prompt")
    found = rankings.order(answered.candidates, [one.split for one in chosen], good.rules, judge, config.tie)
    metrics = {"prompts": float(len(chosen)), "tied": float(found.tied), **answered.metrics(), **judge.unread}
    for split in rankings.SPLITS:
        metrics[f"comparisons/{split}"] = float(sum(one.split == split for one in found.comparisons))
    return Made(found.comparisons, {**metrics, **good.metrics("agreement")}, good.agreement, aside)


def preferences(
    config: RLAIFConfig, policy: Subject, judge: Judge, prompts: Sequence[PromptRecord], given: Sequence[Comparison], seed: int
) -> Made:
    """The judge's rankings of the policy's samples; none where it agrees too little with people's test comparisons."""
    people = pairwise.of_comparisons([one for one in given if one.split == "test"][: config.agreement_comparisons])
    what = "preferences among the policy's samples"
    if not people:
        return Made(
            [], {"set_aside": 1.0}, (), (SetAside(what=what, reason="people's test comparisons have no pair to measure the judge on"),)
        )
    measured = pairwise.judged(judge, people, seed)[1].agreement
    assert measured
    found = {key: float(getattr(measured, key)) for key in ("accuracy", "kappa", "kappa_low", "kappa_high", "n")}
    metrics = {f"agreement_{key}": value for key, value in found.items()} | judge.unread
    if not measured.kappa >= config.min_kappa:
        return Made([], {**metrics, "set_aside": 1.0}, (measured,), (SetAside(what=what, reason=below(measured, config.min_kappa)),))
    chosen = prompts[: config.prompts]
    answered = answers(config, policy, chosen, seed)
    candidates = [one for one in answered.candidates if len(one.completions) > 1]
    if not candidates:
        alike = SetAside(what=what, reason="no prompt has two different answers of the policy")
        return Made([], {**metrics, **answered.metrics(), "set_aside": 1.0}, (measured,), (alike,))
    labels = rlaif.label(judge, candidates, "reward", config.tie)
    metrics |= {"tied": float(labels.tied), **answered.metrics(), **labels.contradicted.flat("contradicted"), **judge.unread}
    return Made(labels.comparisons, {**metrics, "set_aside": 0.0}, (measured,))


def faithful(config: ClosedDomainConfig, policy: Subject, judge: Model, prompts: Sequence[PromptRecord]) -> Made:
    """What the closed-domain loop made of the prompts that hold all that a response may say; nothing where its judge cannot tell."""
    cases = [Case(one.id, one.prompt) for one in prompts if one.category == CLOSED][: config.prompts]
    if not cases:
        raise ValueError(f"ai_feedback.closed_domain: no training prompt is of category {CLOSED!r}")
    agreement = hallucination.agreement(judge, config)
    measured = {key: float(getattr(agreement, key)) for key in ("accuracy", "kappa", "kappa_low", "kappa_high", "n")}
    if not agreement.kappa >= config.min_kappa:
        aside = SetAside(what=f"comparisons against hallucination by {agreement.rubric}", reason=below(agreement, config.min_kappa))
        return Made([], {**measured, "set_aside": 1.0}, (agreement,), (aside,))
    outcomes = hallucination.closed_domain(policy, judge, cases, config)
    ends = {end: float(sum(one.end == end for one in outcomes)) for end in get_args(End)}
    ends |= {"cut": float(sum(one.cut for one in outcomes)), "rewrite_cut": float(sum(one.rewrite_cut for one in outcomes))}
    made = hallucination.comparisons_of(outcomes, "reward", agreement.judge)
    return Made(made, {**measured, **ends, "set_aside": 0.0}, (agreement,))


def flagged(flags: Sequence[Flag], given: Sequence[Comparison]) -> Made:
    """Comparisons of flagged outputs with better ones, each of its flag's split; none for training whose prompt lies elsewhere."""
    others = elsewhere([*given, *flags])
    fitting = [one for one in flags if one.split != "reward" or prompt_text(one.prompt) not in others]
    found = hallucination.open_domain(fitting)
    aside = () if found.comparisons else (SetAside(what="flagged outputs", reason="none has a better answer beside it"),)
    metrics = {"unpaired": float(len(found.unpaired)), "other_side": float(len(flags) - len(fitting))}
    return Made(found.comparisons, metrics, (), aside)


def elsewhere(rated: Iterable[Comparison | Flag]) -> set[str]:
    """Prompts that the gold model learns from, or is tested on."""
    return {prompt_text(one.prompt) for one in rated if one.split != "reward"}
