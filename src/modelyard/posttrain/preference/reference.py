"""The ``reference`` stage: log-probabilities that the SFT model gives the comparisons' completions, computed once and kept as an artifact.

The losses of :mod:`modelyard.posttrain.preference.losses` compare the policy with the model it starts from. What that one says does not change
while the policy is trained, so it need not be in memory then, a resumed run reads the same numbers, and runs that differ in beta or in the
loss share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import records, write
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.architecture import Precision
from modelyard.posttrain.preference.ranked import Ranked, log_likelihoods, ranked, strangers
from modelyard.progress import Report

FILE = "reference.jsonl"


class ReferenceConfig(Config):
    """What the log-probabilities depend on beside model and comparisons."""

    precision: Precision
    """Of the policy, so that both start equal."""
    micro_batch: int
    """Rows of one forward pass on one replica."""
    max_tokens: int | None = None
    """Longest prompt with completion, in positions; absent: the model's ``seq_len``."""
    strangers: bool = False
    """Whether completions are also put behind other prompts, which KTO needs."""


class Reference(Config):
    """What the reference model says of one comparison."""

    comparison: str
    """Its id."""
    logprobs: tuple[float, ...]
    """log p of each completion behind its prompt, in nats."""
    strangers: tuple[float, ...] = ()
    """log p of each completion behind the next comparison's prompt; empty unless asked for."""


def run(
    config: ReferenceConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """What ``inputs["sft"]`` says of the comparisons of ``inputs["feedback"]``. Raises ValueError where none fits in the model."""
    encoder = Encoder(inputs["sft"])
    width = config.max_tokens or model_directory.read(inputs["sft"]).model.seq_len
    compared, too_long = ranked(inputs["feedback"], encoder, width)
    if not compared:
        raise ValueError(f"reference: none of {too_long} comparisons fits in {width} positions")
    engine = model_directory.load(inputs["sft"], execution, precision=config.precision, head="lm")
    own = iter(log_likelihoods(engine, [example for one in compared for example in one.examples], config.micro_batch, encoder.padding))
    report(1, 1 + config.strangers, unit="pass")
    moved = [example for group in strangers(compared, width) for example in group] if config.strangers else []
    others = iter(log_likelihoods(engine, moved, config.micro_batch, encoder.padding))
    found = []
    for one in compared:
        size = len(one.examples)
        behind = tuple(next(others) for _ in range(size)) if config.strangers else ()
        found.append(Reference(comparison=one.comparison.id, logprobs=tuple(next(own) for _ in range(size)), strangers=behind))
    if dist.get_rank() == 0:
        write(out / FILE, found)
    tokens = sum(len(example.completion) for one in compared for example in one.examples)
    return {
        "reference/comparisons": float(len(found)),
        "reference/too_long": float(too_long),
        "reference/logprob": sum(sum(one.logprobs) for one in found) / tokens,
    }


def read_of(directory: Path, comparisons: Sequence[Ranked]) -> list[Reference]:
    """What the reference model says of each of ``comparisons``. Raises ValueError where the file is of other comparisons."""
    found = list(records(directory / FILE, Reference))
    if [one.comparison for one in found] != [one.comparison.id for one in comparisons]:
        raise ValueError(f"{directory / FILE}: is not of the comparisons that the policy is trained on")
    return found
