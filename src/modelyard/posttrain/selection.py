"""The SFT model as InstructGPT chooses it: of the weights after every epoch, those whose samples the reward model scores highest.

arXiv:2203.02155, section 3.5: sixteen epochs overfit the validation loss after one, yet later ones are preferred, so the choice is by reward-model
score on validation prompts. All epochs answer the same prompts with the same random numbers; a stage that
was killed goes on with the epoch that it was at. Left out: the choice by people.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import Field

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats import json_file
from modelyard.formats.feedback import PROMPTS, PromptRecord, read
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.kept import Kept
from modelyard.model.training.trainer import HISTORY, History
from modelyard.posttrain.kept_epochs import EPOCHS, copy_adapter
from modelyard.posttrain.policy.rollout import SamplingConfig, answered
from modelyard.posttrain.rows.encoding import closing, fitting_prompts, longest_prompt
from modelyard.progress import Report
from modelyard.stats.estimate import bootstrap_mean


class SelectionConfig(Config):
    """How the epochs are compared."""

    seed: int = Field(ge=0)
    """Of the samples and the bootstrap."""
    prompts: int = Field(ge=1)
    """Most validation prompts that are answered."""
    max_new_tokens: int = Field(ge=1)
    """Longest answer."""
    temperature: float = Field(ge=0)
    """Sampling temperature; 0: greedy."""


def run(
    config: SelectionConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Write the epoch of ``inputs["sft"]`` that ``inputs["reward"]`` likes best on validation prompts of ``inputs["feedback"]``.

    Raises:
        ValueError: the SFT stage kept no epochs, or the reward model reads other tokens.
    """
    kept = sorted(path for path in (inputs["sft"] / EPOCHS).glob("*") if path.is_dir())
    if not kept:
        raise ValueError("selection: the SFT model has no epochs to choose from; set sft.keep_epochs = true")
    encoder = Encoder(inputs["sft"])
    encoder.require_same("reward", inputs["reward"])
    prompts = [one.prompt for one in read(inputs["feedback"] / PROMPTS, PromptRecord, "validation")][: config.prompts]
    policy = model_directory.load(inputs["sft"], execution)
    reward = model_directory.load(inputs["reward"], execution, head="scalar")
    fed = fitting_prompts(encoder, prompts, longest_prompt(policy.model.seq_len, config.max_new_tokens))
    sampling = SamplingConfig(config.max_new_tokens, config.temperature, closing(encoder, prompts), encoder.padding)
    known = Kept(checkpoints / "scores.jsonl")

    def scored(epoch: Path) -> list[float]:
        policy.load_weights(epoch)
        return answered(policy, reward, fed, config.seed, sampling).scores

    metrics: dict[str, float] = {}
    means: dict[Path, float] = {}
    for done, epoch in enumerate(kept, 1):
        scores = known.once(epoch.name, partial(scored, epoch), list[float])
        means[epoch] = sum(scores) / len(scores)
        metrics |= bootstrap_mean(scores, config.seed).flat(f"selection/epoch_{int(epoch.name)}/reward")
        report(done, len(kept), unit="epoch")
    best = max(means, key=lambda epoch: means[epoch])
    policy.load_weights(best)
    lines = [line.fields for line in json_file.lines(inputs["sft"] / HISTORY)]
    model_directory.write(policy, inputs["sft"], History(lines), out)
    copy_adapter(best, out)
    chosen = {"selection/epoch": float(int(best.name)), "selection/reward": means[best]}
    return {**metrics, **chosen, "selection/too_long": float(len(prompts) - len(fed))}
