"""The reward model, and the scorer that judges policies: a scalar head trained on real human comparisons.

InstructGPT (arXiv:2203.02155, section 3.5): the body of a fine-tuned model, the unembedding replaced by a scalar head; K completions
ranked, all their pairs one batch element with one forward pass a completion; a bias so that demonstrations score mean 0. The paper's one
epoch becomes several because our labels are drawn anew from the raters' votes in every pass, so a pass does not repeat its labels. Texts
are rated by themselves: the prompt is empty. The scorer is the same code on other items, other raters and another body, so that a policy
cannot have learned its quirks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import model_validator

from modelyard.config import Config, ExecutionConfig
from modelyard.estimate import proportion
from modelyard.model import model_directory, trainer
from modelyard.model.architecture import Precision
from modelyard.model.encoder import Encoder
from modelyard.model.engine import Batch, Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.spikes import SpikeConfig
from modelyard.posttrain.comparisons import (
    Comparison,
    RatedText,
    Raters,
    accuracy_by_margin,
    draw_comparisons,
    draw_pairs,
    human_ceiling,
    pair_correct,
    read_ratings,
    vote,
)
from modelyard.posttrain.encoding import read_demonstrations
from modelyard.posttrain.losses import NO_COMPARISON, last_values, reward_loss
from modelyard.posttrain.masking import pad_documents
from modelyard.posttrain.sampling import length_grouped
from modelyard.progress import Report

MARGIN_EDGES = (0.0, 0.5, 1.0, 1.5, 2.5)
"""Differences of mean votes between which accuracy is reported."""


class RewardConfig(Config):
    """Reward model or scorer."""

    split: Literal["reward", "scorer"]
    """Whose items train it; also the name its metrics go by."""
    raters: Raters
    """Positions of the votes it may see."""
    domains: tuple[str, ...]
    """Rated domains trained on."""
    test_domains: tuple[str, ...]
    """Rated domains its accuracy is measured on (split ``test``)."""
    seed: int
    """Order of the texts, draws of votes and of test pairs."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    completions: int
    """Texts of one comparison, K (InstructGPT: 4 to 9)."""
    epochs: int
    """Passes over the texts, each with fresh votes (InstructGPT: 1, with fixed labels)."""
    batch: int
    """Comparisons of a step (InstructGPT: 64)."""
    micro_batch: int
    """Comparisons of one forward pass on one replica."""
    reference_texts: int
    """Most demonstrations whose mean score becomes 0."""
    optimizer: OptimizerConfig
    """AdamW; InstructGPT: 9e-6, cosine to 10%."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="after")
    def _fits(self) -> RewardConfig:
        if self.completions < 2 or self.epochs < 1 or self.reference_texts < 1:
            raise ValueError("completions must be at least 2, epochs and reference_texts at least 1")
        if self.micro_batch < 1 or self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self


def run(
    config: RewardConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train on the ratings of ``inputs["corpus"]`` from the body of ``inputs["body"]``; metrics under ``reward/`` or ``scorer/``."""
    stage = config.split
    encoder = Encoder(inputs["body"])
    ratings = inputs["corpus"] / "ratings.parquet"
    rated = read_ratings(ratings, config.split, config.domains, config.raters)
    steps = config.epochs * steps_per_epoch(len(rated), config)
    engine = model_directory.load(
        inputs["body"], execution, seed=config.seed, precision=config.precision, head="scalar", optim=config.optimizer, total_steps=steps
    )
    history = trainer.train(
        engine,
        batches(rated, config, encoder, engine.model.seq_len),
        steps=steps,
        micro_batch=config.micro_batch * config.completions,
        loss_fn=reward_loss,
        stage=stage,
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
    )
    reviews = [d for d in read_demonstrations(inputs["corpus"] / "demonstrations.jsonl", "train") if d.kind == "review"]
    references = [encoder.document(d.prompt + d.completion) for d in reviews[: config.reference_texts]]
    before = centre(engine, references, encoder.padding)
    model_directory.write(engine, inputs["body"], history, out)
    test = read_ratings(ratings, "test", config.test_domains, config.raters)
    return {
        **judge(engine, test, encoder, config),
        f"{stage}/train/accuracy": history.lines[-1][f"{stage}/train/accuracy"],
        f"{stage}/train/texts": float(len(rated)),
        f"{stage}/reference/score_before": before,
    }


def steps_per_epoch(texts: int, config: RewardConfig) -> int:
    """Steps of a pass over ``texts`` texts; raises ValueError if they do not make one batch."""
    steps = texts // config.completions // config.batch
    if steps == 0:
        raise ValueError(f"{texts} rated texts do not fill one batch of {config.batch} comparisons of {config.completions}")
    return steps


def batches(rated: Sequence[RatedText], config: RewardConfig, encoder: Encoder, seq_len: int) -> Callable[[int], Batch]:
    """Step -> ``batch`` comparisons of similar length, ``completions`` rows each; those lost to ties are rows that belong to none."""
    documents = [encoder.document(item.text)[:seq_len] for item in rated]
    per_epoch = steps_per_epoch(len(rated), config)

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[Comparison | None]]:
        generator = np.random.default_rng([config.seed, epoch])
        drawn = draw_comparisons(rated, config.completions, generator)[: per_epoch * config.batch]
        if not drawn:
            raise ValueError("all drawn votes tie: no comparison to train on")
        lengths = [max(len(documents[item]) for item in comparison.items) for comparison in drawn]
        lost = per_epoch * config.batch - len(drawn)
        lengths += generator.choice(lengths, lost).tolist()
        filled = [*drawn, *[None] * lost]
        return [[filled[i] for i in group] for group in length_grouped(lengths, config.batch, generator)]

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        items: list[int] = []
        ranks: list[int] = []
        names: list[int] = []
        for name, comparison in enumerate(grouped(epoch)[place]):
            items += comparison.items if comparison else [0] * config.completions
            ranks += [vote(rated, comparison, k) if comparison else 0 for k in range(config.completions)]
            names += [name if comparison else NO_COMPARISON] * config.completions
        tokens, mask = pad_documents([documents[item] for item in items], encoder.padding)
        return Batch(tokens, tokens, {"mask": mask, "rank": torch.tensor(ranks), "comparison": torch.tensor(names)})

    return batch


def score(engine: Engine, documents: Sequence[list[int]], pad_id: int, rows: int = 64) -> list[float]:
    """The score of each document (token ids): the value at its last token. Longer ones than the model reads are cut on the right."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    scores = [0.0] * len(documents)
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        tokens, mask = pad_documents([documents[i][: engine.model.seq_len] for i in chosen], pad_id)
        values = engine.evaluate(Batch(tokens, tokens, {}), rows)
        for i, value in zip(chosen, last_values(values, mask.to(values.device)).tolist(), strict=True):
            scores[i] = value
    return scores


def centre(engine: Engine, references: Sequence[list[int]], pad_id: int) -> float:
    """Shift the head's bias so that ``references`` score mean 0; returns their mean before. Raises ValueError without references."""
    if not references:
        raise ValueError("no review demonstrations to centre the scores on")
    scores = score(engine, references, pad_id)
    mean = sum(scores) / len(scores)
    if engine.layout.is_last_stage:
        with torch.no_grad():
            engine.gpt.output_layer.bias -= mean
    return mean


def judge(engine: Engine, test: Sequence[RatedText], encoder: Encoder, config: RewardConfig) -> dict[str, float]:
    """Accuracy on pairs of test texts beside the human ceiling and beside what the mean of the other raters would reach."""
    stage = config.split
    pairs = draw_pairs(test, 1, config.seed)
    correct = pair_correct(test, pairs, score(engine, [encoder.document(item.text) for item in test], encoder.padding))
    metrics = proportion(sum(correct), len(correct)).flat(f"{stage}/test/accuracy")
    metrics |= human_ceiling(test, pairs, config.seed).flat(f"{stage}/test/human_ceiling")
    for name, estimate in accuracy_by_margin(test, pairs, correct, MARGIN_EDGES).items():
        metrics |= estimate.flat(f"{stage}/margin_{name}/accuracy")
    return metrics
