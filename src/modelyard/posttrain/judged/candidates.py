"""Answers of a model to be put in order by a judge: K samples of each prompt, of which equal ones count once.

A comparison's answers are trained as whole ones, each closed by the token that ends an answer. A sample that was cut at the most new tokens is
not whole: kept, it teaches that an answer may stop there; left out, a prompt may be left without answers to compare. How many were cut is
reported either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.formats.feedback import Prompt, PromptRecord
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject


class SampledConfig(Config):
    """How a judge's candidates are sampled."""

    samples: int = Field(ge=2, le=9)
    """Answers to each prompt, K (InstructGPT: 4 to 9)."""
    max_new_tokens: int = Field(ge=1)
    """Longest answer."""
    temperature: float = Field(gt=0)
    """Of the samples."""
    cut: Literal["keep", "leave_out"] = "keep"
    """What becomes of an answer that did not end within ``max_new_tokens``."""


class Candidates(NamedTuple):
    """Completions of one prompt, to be compared."""

    id: str
    prompt: Prompt
    completions: tuple[str, ...]
    category: str = ""


class Answers(NamedTuple):
    """What a model answered."""

    candidates: list[Candidates]
    """The distinct answers to each prompt that say something; they may be one or none."""
    cut: int
    """Samples that did not end, kept or not."""
    too_few: int
    """Prompts of which fewer than two samples are left, the others being empty or left out."""

    def metrics(self) -> dict[str, float]:
        """How many samples were cut, and how many prompts gave nothing to compare, by reason."""
        alone = sum(len(one.completions) < 2 for one in self.candidates)
        return {"cut": float(self.cut), "too_few": float(self.too_few), "all_alike": float(alone - self.too_few)}


def answers(config: SampledConfig, policy: Subject, prompts: Sequence[PromptRecord], seed: int) -> Answers:
    """K samples of each prompt."""
    decoding = Decoding(max_new_tokens=config.max_new_tokens, temperature=config.temperature, samples=1, seed=seed)
    drawn = policy.follow([one.prompt for one in prompts for _ in range(config.samples)], decoding)
    found, too_few = [], 0
    for number, one in enumerate(prompts):
        samples = drawn[number * config.samples : (number + 1) * config.samples]
        kept = [sample.text for sample in samples if sample.text.strip() and (sample.ended or config.cut == "keep")]
        too_few += len(kept) < 2
        found.append(Candidates(one.id, one.prompt, tuple(dict.fromkeys(kept)), one.category))
    return Answers(found, sum(not sample.ended for sample in drawn), too_few)
