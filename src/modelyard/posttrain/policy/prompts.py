"""The prompts that a policy is sampled on: those that leave room for a completion, and how their completions end."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from modelyard.formats.feedback import PROMPTS, PromptRecord, read
from modelyard.model.encoder import Encoder
from modelyard.posttrain.policy.config import PolicyConfig
from modelyard.posttrain.policy.rollout import SamplingConfig
from modelyard.posttrain.rows.encoding import closing, fitting_prompts, longest_prompt


class Asked(NamedTuple):
    """Prompts as token ids, the records that they are of, and how they are answered."""

    prompts: list[list[int]]
    records: list[PromptRecord]
    sampling: SamplingConfig
    too_long: int
    """Prompts that leave a completion no room, and are not sampled from."""


def asked(config: PolicyConfig, feedback: Path, encoder: Encoder, seq_len: int) -> Asked:
    """The training prompts of ``feedback`` that fit beside a completion in a model of ``seq_len``.

    Raises:
        ValueError: none is of the categories asked for, none fits, or some are plain text and some conversations.
    """
    records = read(feedback / PROMPTS, PromptRecord, "train")
    if wanted := config.prompt_categories:
        if missing := set(wanted) - {record.category for record in records}:
            raise ValueError(f"policy.prompt_categories: there is no prompt of category {sorted(missing)[0]!r}")
        records = [record for record in records if record.category in wanted]
    prompts = [record.prompt for record in records]
    longest = min(longest_prompt(seq_len, config.max_new_tokens), config.max_prompt_tokens or seq_len)
    fitting = fitting_prompts(encoder, prompts, longest)
    return Asked(
        prompts=fitting,
        records=[one for one in records if len(encoder.prompt(one.prompt)) <= longest],
        sampling=SamplingConfig(config.max_new_tokens, 1.0, closing(encoder, prompts), encoder.padding, config.micro_batch),
        too_long=len(prompts) - len(fitting),
    )
