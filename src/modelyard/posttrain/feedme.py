"""FeedME: demonstrations that are the model's own best answers, for another round of supervised fine-tuning.

OpenAI's name for it ("feedback made easy", model index of 2022) says no more than "supervised fine-tuning on human-written demonstrations and on
model samples rated 7/7"; here a sample is taken when it is the best of its prompt's by the reward model and scores above ``least``, or when a
person ranked it first among comparisons. The result is a ``feedback`` artifact like any other, so the SFT stage reads it as it reads people's
demonstrations. Left out: more than one round (run the stage again on its own result).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config, digest
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    PromptRecord,
    read,
    records,
    write,
)
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.kept import Kept
from modelyard.posttrain.policy.rollout import SamplingConfig, answered, own
from modelyard.posttrain.rows.encoding import closing, longest_prompt
from modelyard.progress import Report


class FeedMEConfig(Config):
    """What is taken as a demonstration."""

    seed: int = Field(ge=0)
    """Of the samples."""
    prompts: int = Field(ge=0)
    """Most training prompts that are answered; 0: only what people ranked."""
    samples: int = Field(ge=1)
    """Answers to each prompt, the best of which may be taken."""
    max_new_tokens: int = Field(ge=1)
    """Longest answer; one that did not end by itself is never taken."""
    temperature: float = Field(gt=0)
    """Sampling temperature."""
    least: float
    """Score below which even the best answer is not taken (demonstrations score 0 on average)."""
    ranked_first: bool
    """Whether completions that a person ranked first, alone, are taken as well."""
    keep_demonstrations: bool
    """Whether the people's own demonstrations stay."""

    @model_validator(mode="after")
    def _something(self) -> FeedMEConfig:
        if not self.prompts and not self.ranked_first:
            raise ValueError("prompts and ranked_first: at least one must give demonstrations")
        return self


def run(
    config: FeedMEConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Gather the best answers of ``inputs["sft"]`` by ``inputs["reward"]`` to prompts of ``inputs["feedback"]`` as feedback of its own.

    Raises:
        ValueError: the reward model reads other tokens, or no answer is good enough.
    """
    given = list(records(inputs["feedback"] / DEMONSTRATIONS, Demonstration))
    best, asked, too_long, cut = sampled(config, inputs, checkpoints, execution, report) if config.prompts else Sampled([], 0, 0, 0)
    first = ranked_first(inputs["feedback"]) if config.ranked_first else []
    if not best and not first:
        raise ValueError(f"feedme: none of {asked} prompts has an answer that ended, says something and scores at least {config.least:g}")
    kept = [one for one in given if one.split == "validation" or config.keep_demonstrations]
    write(out / DEMONSTRATIONS, [*kept, *best, *first])
    for name in (COMPARISONS, THUMBS, PROMPTS):
        shutil.copyfile(inputs["feedback"] / name, out / name)
    counts = {"asked": asked, "too_long": too_long, "cut": cut, "sampled": len(best), "ranked_first": len(first)}
    return {f"feedme/{name}": float(count) for name, count in counts.items()}


class Sampled(NamedTuple):
    """What the model's own answers gave."""

    demonstrations: list[Demonstration]
    asked: int
    """Prompts that were answered."""
    too_long: int
    """Prompts that leave an answer no room."""
    cut: int
    """Answers that did not end, of which none is taken."""


def sampled(config: FeedMEConfig, inputs: Mapping[str, Path], checkpoints: Path, execution: ExecutionConfig, report: Report) -> Sampled:
    """The best answer to each prompt that ended by itself, says something and is good enough; ``checkpoints`` has those that were drawn."""
    encoder = Encoder(inputs["sft"])
    encoder.require_same("reward", inputs["reward"])
    policy = model_directory.load(inputs["sft"], execution)
    reward = model_directory.load(inputs["reward"], execution, head="scalar")
    longest = longest_prompt(policy.model.seq_len, config.max_new_tokens)
    given = read(inputs["feedback"] / PROMPTS, PromptRecord, "train")
    fitting = [one for one in given if len(encoder.prompt(one.prompt)) <= longest]
    prompts = fitting[: config.prompts]
    if not prompts:
        raise ValueError(f"feedme: no prompt leaves room for {config.max_new_tokens} new tokens in {policy.model.seq_len}")
    end = closing(encoder, [one.prompt for one in prompts])
    fed = [encoder.prompt(one.prompt) for one in prompts for _ in range(config.samples)]
    sampling = SamplingConfig(config.max_new_tokens, config.temperature, end, encoder.padding)
    kept = Kept(checkpoints / "samples.jsonl")
    asked = digest([fed, config.seed, list(sampling)])
    draw = partial(own, kept=lambda places, drawn: kept.once([asked, list(places)], drawn, tuple))
    answers = answered(policy, reward, fed, config.seed, sampling, lambda done, total: report(done, total, unit="sample"), draw)
    scores, texts = answers.scores, [encoder.decode(tokens) for tokens in answers.drawn.tokens]
    found = []
    for number, one in enumerate(prompts):
        places = range(number * config.samples, (number + 1) * config.samples)
        good = [i for i in places if answers.ended[i] and texts[i].strip() and scores[i] >= config.least]
        if good:
            answer = texts[max(good, key=lambda i: scores[i])]
            shown = Demonstration(
                id=f"feedme-{one.id}", split="train", source="feedme", category=one.category, prompt=one.prompt, completion=answer
            )
            found.append(shown)
    return Sampled(found, len(prompts), len(given) - len(fitting), answers.ended.count(False))


def ranked_first(feedback: Path) -> list[Demonstration]:
    """Completions of training comparisons that stand alone at the top."""
    found = []
    for one in records(feedback / COMPARISONS, Comparison):
        if one.split == "reward" and one.ranks.count(min(one.ranks)) == 1:
            top = one.completions[one.ranks.index(min(one.ranks))]
            found.append(
                Demonstration(
                    id=f"feedme-{one.id}", split="train", source="feedme", category=one.category, prompt=one.prompt, completion=top
                )
            )
    return found
