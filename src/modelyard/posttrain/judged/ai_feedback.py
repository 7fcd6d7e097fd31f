"""The ``ai_feedback`` stage: comparisons that a model made, beside those that people made, as one ``feedback`` artifact.

Each source where the config asks: a judge's preferences among the policy's own samples
(:mod:`modelyard.posttrain.judged.rlaif`), the closed-domain loop and flagged outputs against hallucination
(:mod:`modelyard.posttrain.judged.hallucination`); and people's comparisons that rules contradict are put in
the rules' order. The records are people's records with another rater, so a reward model trained on the
artifact has the judge distilled into it; how far that judge agrees with people is measured on their test
comparisons. Left out: judging again what was judged before, and looking for benchmark items in flagged
outputs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS, Comparison, PromptRecord, read, records, write
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import JudgeConfig, open_judge
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from modelyard.posttrain.judged import hallucination, rlaif
from modelyard.posttrain.judged.hallucination import Case, ClosedDomainConfig
from modelyard.posttrain.judged.rlaif import Candidates
from modelyard.posttrain.judged.rules import POLICY, Rule, rewritten
from modelyard.progress import Report
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

CLOSED = "closed_domain"
"""Category of prompts that hold all that a response may say."""


class RLAIFConfig(Config):
    """A judge's preferences."""

    judge: JudgeConfig
    """Who judges; ``policy`` is the SFT model."""
    prompts: int = Field(ge=1)
    """Most training prompts that are answered."""
    samples: int = Field(ge=2, le=9)
    """Answers to each, K."""
    max_new_tokens: int = Field(ge=1)
    """Longest answer."""
    temperature: float = Field(gt=0)
    """Of the samples."""
    tie: float = Field(ge=0, le=1)
    """Difference of mean winning probability under which two answers tie."""
    agreement_comparisons: int = Field(ge=1)
    """Most of people's test comparisons on which the judge's agreement is measured."""


class FlagFile(Config):
    """Outputs that users flagged."""

    path: str
    """JSONL file of :class:`~modelyard.posttrain.judged.hallucination.Flag` records."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the file; another content stops the run."""


class RewriteConfig(Config):
    """Rules that put people's training comparisons in another order where they contradict them."""

    judge: JudgeConfig
    """Who judges; ``policy`` is the SFT model."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """Which rubric speaks about which categories of comparisons."""
    gap: float = Field(ge=0, le=2)
    """By how much a completion that people ranked lower must be worth more (values go from -1 to 1)."""


class AIFeedbackConfig(Config):
    """Which comparisons are made."""

    seed: int
    """Of the samples."""
    keep_comparisons: bool
    """Whether people's training comparisons stay (mixed) or the model's take their place."""
    rlaif: RLAIFConfig | None = None
    """A judge's preferences."""
    closed_domain: ClosedDomainConfig | None = None
    """The closed-domain loop over the training prompts of category ``closed_domain``."""
    flags: FlagFile | None = None
    """Open-domain flags."""
    rewrite: RewriteConfig | None = None
    """Rules that overrule people's comparisons."""

    @model_validator(mode="after")
    def _something(self) -> AIFeedbackConfig:
        if self.rlaif is None and self.closed_domain is None and self.flags is None and self.rewrite is None:
            raise ValueError("rlaif, closed_domain, flags and rewrite: at least one must make comparisons")
        return self


def run(
    config: AIFeedbackConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Comparisons by and about ``inputs["sft"]`` beside those of ``inputs["feedback"]``.

    Raises:
        ValueError: the judge cannot be opened, there is no prompt of the category that a source needs, or the flags' file is another.
    """
    given = list(records(inputs["feedback"] / COMPARISONS, Comparison))
    policy = Subject.open(POLICY, inputs["sft"], execution, micro_batch=8)
    prompts = read(inputs["feedback"] / PROMPTS, PromptRecord, "train")
    made: list[Comparison] = []
    metrics: dict[str, float] = {}
    for name, source in (("rlaif", config.rlaif), ("closed_domain", config.closed_domain), ("flags", config.flags)):
        if source is None:
            continue
        if isinstance(source, RLAIFConfig):
            judge = open_judge(source.judge, execution, lambda: policy)
            comparisons, measured = preferences(source, policy, judge, prompts, given, config.seed)
        elif isinstance(source, ClosedDomainConfig):
            comparisons, measured = faithful(source, policy, prompts)
        else:
            comparisons, measured = flagged(source, execution.roots)
        made += comparisons
        metrics |= {f"ai_feedback/{name}/{key}": value for key, value in measured.items()}
        report(len(made), len(made), unit="comparison")
    kept = [one for one in given if config.keep_comparisons or one.split != "reward"]
    if config.rewrite is not None:
        judge = open_judge(config.rewrite.judge, execution, lambda: policy)
        training = [one for one in kept if one.split == "reward"]
        turned = {one.id: one for one in rewritten(training, config.rewrite.rules, judge, config.rewrite.gap)}
        kept = [turned.get(one.id, one) if one.split == "reward" else one for one in kept]
        metrics["ai_feedback/rewrite/comparisons"] = float(len(turned))
    if dist.get_rank() == 0:
        write(out / COMPARISONS, [*kept, *made])
        for name in (DEMONSTRATIONS, PROMPTS):
            shutil.copyfile(inputs["feedback"] / name, out / name)
    return {"ai_feedback/comparisons/made": float(len(made)), "ai_feedback/comparisons/kept": float(len(kept)), **metrics}


def preferences(
    config: RLAIFConfig, policy: Subject, judge: Judge, prompts: Sequence[PromptRecord], given: Sequence[Comparison], seed: int
) -> tuple[list[Comparison], dict[str, float]]:
    """The judge's rankings of the policy's samples, and its agreement with people's test comparisons."""
    chosen = prompts[: config.prompts]
    decoding = Decoding(max_new_tokens=config.max_new_tokens, temperature=config.temperature, samples=1, seed=seed)
    drawn = policy.follow([one.prompt for one in chosen for _ in range(config.samples)], decoding)
    candidates = []
    for number, one in enumerate(chosen):
        texts = [sample.text for sample in drawn[number * config.samples : (number + 1) * config.samples]]
        if len(distinct := tuple(dict.fromkeys(texts))) > 1:
            candidates.append(Candidates(one.id, one.prompt, distinct, one.category))
    labels = rlaif.label(judge, candidates, "reward", config.tie)
    metrics = {"tied": float(labels.tied), "all_alike": float(len(chosen) - len(candidates)), **labels.contradicted.flat("contradicted")}
    people = [one for one in given if one.split == "test"][: config.agreement_comparisons]
    if people:
        metrics |= rlaif.agreement(judge, people).flat("agreement")
    return labels.comparisons, metrics


def faithful(config: ClosedDomainConfig, policy: Subject, prompts: Sequence[PromptRecord]) -> tuple[list[Comparison], dict[str, float]]:
    """What the closed-domain loop made of the prompts that hold all that a response may say."""
    cases = [Case(one.id, one.prompt) for one in prompts if one.category == CLOSED]
    if not cases:
        raise ValueError(f"ai_feedback.closed_domain: no training prompt is of category {CLOSED!r}")
    outcomes = hallucination.closed_domain(policy, cases, config)
    ends = {end: float(sum(one.end == end for one in outcomes)) for end in ("faithful", "rewritten", "given_up")}
    return hallucination.comparisons_of(outcomes, "reward", f"{policy.name} {policy.weights[:16]}"), ends


def flagged(config: FlagFile, roots: Sequence[str]) -> tuple[list[Comparison], dict[str, float]]:
    """Comparisons of flagged outputs with better ones."""
    path = find_input(config.path, roots, "ai_feedback.flags")
    require_sha256(path, config.sha256, "ai_feedback.flags")
    flags = hallucination.open_domain(path, "reward")
    counts = {"unpaired": float(len(flags.unpaired)), "without_consent": float(flags.without_consent)}
    return flags.comparisons, counts
