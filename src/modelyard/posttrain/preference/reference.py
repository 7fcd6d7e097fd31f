"""The ``reference`` stage: log-probabilities that the SFT model gives what people compared or rated, computed once and kept.

The losses of :mod:`modelyard.posttrain.preference.losses` compare the policy with the model it starts from. What that one says does not change
while the policy is trained, so it need not be in memory then, a resumed run reads the same numbers, and runs that differ in beta or in the
loss share them. What was computed is kept as it comes; a stage that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison, Thumb, records, write
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.kept import Kept
from modelyard.model.network.model_config import Precision
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
    thumbs: bool = False
    """Whether thumbs are scored too, and every completion also behind another prompt: what KTO needs."""


class Reference(Config):
    """What the reference model says of one comparison or thumb."""

    id: str
    """Its id."""
    logprobs: tuple[float, ...]
    """log p of each completion behind its prompt, in nats."""
    strangers: tuple[float, ...] = ()
    """log p of each completion behind another prompt; empty unless asked for."""


def run(
    config: ReferenceConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """What ``inputs["sft"]`` says of the comparisons of ``inputs["feedback"]``. Raises ValueError where none fits in the model."""
    encoder = Encoder(inputs["sft"])
    width = config.max_tokens or model_directory.read(inputs["sft"]).model.seq_len
    compared, too_long = ranked(inputs["feedback"], encoder, width, thumbs=config.thumbs)
    if not compared:
        raise ValueError(f"reference: none of {too_long} comparisons fits in {width} positions")
    engine = model_directory.load(inputs["sft"], execution, precision=config.precision, head="lm")
    known = Kept(checkpoints / FILE)
    said = [example for one in compared for example in one.examples]
    own = iter(log_likelihoods(engine, said, config.micro_batch, encoder.padding, known))
    report(1, 1 + config.thumbs, unit="pass")
    moved = [example for group in strangers(compared, width) for example in group] if config.thumbs else []
    others = iter(log_likelihoods(engine, moved, config.micro_batch, encoder.padding, known))
    found = []
    for one in compared:
        size = len(one.examples)
        behind = tuple(next(others) for _ in range(size)) if config.thumbs else ()
        found.append(Reference(id=one.said.id, logprobs=tuple(next(own) for _ in range(size)), strangers=behind))
    if dist.get_rank() == 0:
        write(out / FILE, found)
    tokens = sum(len(example.completion) for one in compared for example in one.examples)
    return {
        "reference/comparisons": float(sum(isinstance(one.said, Comparison) for one in compared)),
        "reference/thumbs": float(sum(isinstance(one.said, Thumb) for one in compared)),
        "reference/too_long": float(too_long),
        "reference/logprob": sum(sum(one.logprobs) for one in found) / tokens,
    }


def read_of(directory: Path, rated: Sequence[Ranked]) -> list[Reference]:
    """What the reference model says of each of ``rated``. Raises ValueError where the file is of others."""
    found = list(records(directory / FILE, Reference))
    if [one.id for one in found] != [one.said.id for one in rated]:
        raise ValueError(f"{directory / FILE}: is not of the comparisons that the policy is trained on")
    return found
