"""The reward model, and the gold reward model that judges policies: a scalar head trained on what people preferred.

InstructGPT (arXiv:2203.02155, section 3.5): the body of a fine-tuned model, the unembedding replaced by a scalar head; K = 2 to 9
completions ranked, all their pairs one batch element, ties dropped; one epoch; a bias so that demonstrations score mean 0. What the
completions of a comparison begin with is computed once where that saves work (:mod:`modelyard.posttrain.rows.comparison_rows`), else
comparisons of different K share micro-batches; these are filled up with rows that belong to none. Accuracy is reported on the raters it
learned from and, where there are any, on raters it never saw, beside how often people agree, and apart for what people and what a judge
ranked. The gold reward model is the same code on other items, other raters and another body, so that a policy cannot have learned its
quirks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, Comparison, Demonstration, read, records
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.posttrain.comparisons import accuracy, accuracy_by_margin, human_ceiling, judged, win_calibration
from modelyard.posttrain.losses import reward_loss
from modelyard.posttrain.rows.comparison_rows import NOTHING, Encoded, batch_of, rows_of, shares
from modelyard.posttrain.rows.encoding import whole
from modelyard.posttrain.rows.sampling import length_grouped, whole_groups
from modelyard.posttrain.scores import score, scores_of
from modelyard.progress import Report

MARGIN_EDGES = (0.0, 0.5, 1.0, 1.5, 2.5)
"""Differences of mean ratings between which accuracy is reported."""
RELIABILITY = "reliability.json"


class RewardConfig(Config):
    """Reward model or gold reward model."""

    split: Literal["reward", "gold"]
    """Whose comparisons train it; also the name its metrics go by."""
    seed: int = Field(ge=0)
    """Order of the comparisons and of bootstraps."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    epochs: int = Field(ge=1)
    """Passes over the comparisons (InstructGPT: 1)."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Longest prompt with completion that is read, in tokens; comparisons with a longer one are left out, bare texts are cut. Absent: the
    model's ``seq_len``."""
    batch: int = Field(ge=1)
    """Comparisons of a step (InstructGPT: 64)."""
    micro_batch: int = Field(ge=1)
    """Comparisons of one forward pass on one replica (at least, where each completion is a row and some have fewer than the most)."""
    reference_texts: int = Field(ge=1)
    """Most demonstrations whose mean score becomes 0."""
    optimizer: OptimizerConfig
    """AdamW; InstructGPT: 9e-6, cosine to 10%."""
    lora: LoRAConfig | None = None
    """Adapters that are trained in place of all weights (``[reward.lora]``); absent: all weights are. With adapters on the
    model that the policy starts from, PPO has both on one body."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="after")
    def _fits(self) -> RewardConfig:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self


def run(
    config: RewardConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train on the comparisons of ``inputs["feedback"]`` from the body of ``inputs["body"]``; metrics under ``reward/`` or ``gold/``."""
    stage = config.split
    encoder = Encoder(inputs["body"])
    width = config.max_tokens or model_directory.read(inputs["body"]).model.seq_len
    compared = list(records(inputs["feedback"] / COMPARISONS, Comparison))
    read_as = [encoded([one for one in compared if one.split == split], encoder, width) for split in (config.split, "test")]
    train, test = (one.fitting for one in read_as)
    per_epoch = steps_per_epoch(len(train), config)
    steps = config.epochs * per_epoch
    engine = model_directory.load(
        inputs["body"],
        execution,
        seed=config.seed,
        precision=config.precision,
        head="scalar",
        optim=config.optimizer,
        total_steps=steps,
        lora=config.lora,
    )
    data = batches(train, config, engine.model, encoder.padding, execution.data_parallel, engine.fewest)
    history = trainer.train(
        engine,
        data.batch,
        steps=steps,
        micro_batch=data.micro_batch,
        loss_fn=partial(reward_loss, precision=config.precision),
        stage=stage,
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
    )
    shown = read(inputs["feedback"] / DEMONSTRATIONS, Demonstration, "train")
    before = centre(engine, references(shown, train, encoder, width, config.reference_texts), encoder.padding)
    model_directory.write(engine, inputs["body"], history, out)
    known = {one.comparison.rater for one in train}
    return {
        **read_as[0].counts(f"{stage}/train"),
        **read_as[1].counts(f"{stage}/test"),
        **judge(engine, test, known, encoder, config, out),
        f"{stage}/train/accuracy": history.lines[-1][f"{stage}/train/accuracy"],
        f"{stage}/train/comparisons": float(len(train)),
        **{f"{stage}/train/{by}": float(sum(one.comparison.ranked_by == by for one in train)) for by in ("people", "judge")},
        f"{stage}/reference/score_before": before,
    }


class Read(NamedTuple):
    """Comparisons as the model reads them."""

    fitting: list[Encoded]
    too_long: int
    """Comparisons that are left out, having a text that does not fit."""
    cut: int
    """Texts that are read without their end."""

    def counts(self, prefix: str) -> dict[str, float]:
        """What was lost, by metric."""
        return {f"{prefix}/too_long": float(self.too_long), f"{prefix}/cut": float(self.cut)}


def encoded(comparisons: Sequence[Comparison], encoder: Encoder, width: int) -> Read:
    """The comparisons whose texts all fit in ``width`` tokens. Plain text without a prompt is cut on the right, as it is wherever it is scored; a
    conversation that is cut would lose what is judged."""
    found, cut = [], 0
    for one in comparisons:
        texts = [whole(encoder, one.prompt, completion) for completion in one.completions]
        if one.prompt == "":
            cut += sum(len(text) > width for text in texts)
            texts = [text[:width] for text in texts]
        found.append(Encoded(one, texts))
    fitting = [one for one in found if one.longest <= width]
    return Read(fitting, len(found) - len(fitting), cut)


def references(
    demonstrations: Sequence[Demonstration], trained: Sequence[Encoded], encoder: Encoder, width: int, most: int
) -> list[list[int]]:
    """Demonstrations of the form that was compared (plain text or conversation), whose mean score becomes 0."""
    forms = {isinstance(one.comparison.prompt, str) for one in trained}
    alike = [one for one in demonstrations if isinstance(one.prompt, str) in forms]
    texts = (whole(encoder, one.prompt, one.completion) for one in alike)
    return [text[:width] for text in texts if len(text) <= width or forms == {True}][:most]


def steps_per_epoch(comparisons: int, config: RewardConfig) -> int:
    """Steps of a pass over the comparisons; raises ValueError if they do not make one batch."""
    steps = comparisons // config.batch
    if steps == 0:
        raise ValueError(f"{comparisons} comparisons of split {config.split!r} do not fill one batch of {config.batch}")
    return steps


class Batches(NamedTuple):
    """What is trained on, step by step."""

    batch: Callable[[int], Batch]
    micro_batch: int
    """Rows of a micro-batch: all completions of the comparisons in it."""


def batches(
    comparisons: Sequence[Encoded], config: RewardConfig, model: ModelConfig, pad_id: int, replicas: int, fewest: int = 1
) -> Batches:
    """Step -> ``batch`` comparisons of similar length, each whole in one micro-batch; rows that are left over belong to no comparison."""
    per_epoch = steps_per_epoch(len(comparisons), config)
    shared = shares(comparisons, model)
    micro_batch = config.micro_batch * (1 if shared else max(len(one.texts) for one in comparisons))
    lengths = [one.together if shared else one.longest for one in comparisons]

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[int]]:
        return length_grouped(lengths, config.batch, np.random.default_rng([config.seed, epoch]))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        made = [rows_of(number, comparisons[i], shared) for number, i in enumerate(grouped(epoch)[place])]
        return batch_of(whole_groups(made, micro_batch, replicas, NOTHING, fewest), shared, pad_id)

    return Batches(batch, micro_batch)


def centre(engine: Engine, references: Sequence[list[int]], pad_id: int) -> float:
    """Shift the head's bias so that ``references`` score mean 0; returns their mean before. Raises ValueError without references."""
    if not references:
        raise ValueError("no demonstrations of the form that was compared to centre the scores on")
    scores = score(engine, references, pad_id)
    mean = sum(scores) / len(scores)
    if engine.layout.is_last_stage:
        with torch.no_grad():
            engine.gpt.output_layer.bias -= mean
    return mean


def judge(engine: Engine, test: Sequence[Encoded], known: set[str], encoder: Encoder, config: RewardConfig, out: Path) -> dict[str, float]:
    """Accuracy and calibration on test comparisons of the ``known`` raters beside the human ceiling, and accuracy on raters never seen;
    accuracy also on what people and on what a judge put in order.

    Where the known raters labelled no test comparison, all of them are the test. ``out`` receives the reliability bins.

    Raises:
        ValueError: no test comparison.
    """
    stage = config.split
    if not test:
        raise ValueError(f"{stage}: no test comparison to measure it on")
    shared = shares(test, engine.model)
    rows = [row for number, one in enumerate(test) for row in rows_of(number, one, shared)]
    flat = iter(scores_of(engine, rows, shared, encoder.padding))
    scores = [[next(flat) for _ in one.texts] for one in test]
    own = [i for i, one in enumerate(test) if one.comparison.rater in known] or list(range(len(test)))
    strangers = sorted(set(range(len(test))) - set(own))
    comparisons = [one.comparison for one in test]
    pairs = judged([comparisons[i] for i in own], [scores[i] for i in own], engine.precision)
    metrics = accuracy(pairs, config.seed).flat(f"{stage}/test/accuracy")
    error, bins = win_calibration(pairs, config.seed)
    metrics |= error.flat(f"{stage}/test/calibration_error")
    for by in ("people", "judge"):
        if mine := [i for i in own if comparisons[i].ranked_by == by]:
            part = judged([comparisons[i] for i in mine], [scores[i] for i in mine], engine.precision)
            metrics |= accuracy(part, config.seed).flat(f"{stage}/test/{by}/accuracy")
    if ceiling := human_ceiling([comparisons[i] for i in own], config.seed):
        metrics |= ceiling.flat(f"{stage}/test/human_ceiling")
    if strangers:
        unseen = judged([comparisons[i] for i in strangers], [scores[i] for i in strangers], engine.precision)
        metrics |= accuracy(unseen, config.seed).flat(f"{stage}/held_out_raters/accuracy")
    for name, estimate in accuracy_by_margin(pairs, MARGIN_EDGES, config.seed).items():
        metrics |= estimate.flat(f"{stage}/margin_{name}/accuracy")
    if dist.get_rank() == 0:
        (out / RELIABILITY).write_text(json.dumps([one.model_dump() for one in bins], indent=1) + "\n", "utf-8")
    return metrics
