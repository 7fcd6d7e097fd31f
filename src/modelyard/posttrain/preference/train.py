"""Policies that learn from comparisons without sampling: DPO, K-wise DPO, IPO and KTO as the ``policy`` stage.

Passes over the comparisons that also train the reward model, each whole in one micro-batch. The reference model's log-probabilities are the
``reference`` artifact's, so only the policy is in memory while it is trained. Measured as every policy is
(:mod:`modelyard.posttrain.policy.measure`), and by how often its implicit reward puts test comparisons in order. Left out: pretraining text
in the batches, and sharing a prompt among its completions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain.comparisons import accuracy, judged
from modelyard.posttrain.policy.measure import finished
from modelyard.posttrain.policy.prompts import asked
from modelyard.posttrain.policy.rollout import Models
from modelyard.posttrain.preference import reference
from modelyard.posttrain.preference.config import KTOConfig, PreferenceConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.posttrain.preference.ranked import Ranked, log_likelihoods, ranked, strangers
from modelyard.posttrain.preference.rows import NOTHING, Row, batch_of, rows_of, with_thumbs
from modelyard.posttrain.rows.masking import Example
from modelyard.posttrain.rows.sampling import length_grouped, whole_groups
from modelyard.progress import Report


class Compared(NamedTuple):
    """A comparison with all that training on it needs."""

    ranked: Ranked
    strangers: list[Example]
    """Its completions behind another prompt; empty but for KTO."""
    reference: reference.Reference


def run(
    config: PreferenceConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["sft"]`` on the comparisons of ``inputs["feedback"]`` against ``inputs["reference"]``, and measure it with
    ``inputs["reward"]`` and text of ``inputs["tokens"]``."""
    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    seq_len = model_directory.read(inputs["sft"]).model.seq_len
    every = compared(config, inputs, encoder, seq_len)
    train, test = ([one for one in every if one.ranked.comparison.split == split] for split in ("reward", "test"))
    given = asked(config, inputs["feedback"], encoder, seq_len)  # what cannot be asked is said before anything is trained
    per_epoch = len(train) // config.batch
    if not per_epoch:
        raise ValueError(f"policy: {len(train)} comparisons of split 'reward' do not fill one batch of {config.batch}")
    steps = max(1, round(config.epochs * per_epoch))
    policy = model_directory.load(
        inputs["sft"],
        execution,
        seed=config.seed,
        precision=config.precision,
        head="lm",
        optim=config.optimizer,
        total_steps=steps,
        lora=config.lora,
    )
    history = trainer.train(
        policy,
        batches(config, train, policy, encoder.padding),
        steps=steps,
        micro_batch=config.micro_batch,
        loss_fn=preference_loss(config),
        stage="policy",
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
    )
    model_directory.write(policy, inputs["sft"], history, out)
    body = policy if config.lora else None
    frozen = model_directory.load(inputs["sft"], execution, precision=config.precision, head="lm", body=body)
    reward = model_directory.load(inputs["reward"], execution, precision=config.precision, head="scalar", body=body)
    return {
        **finished(config, Models(policy, frozen, reward, None), given.prompts, given.sampling, inputs["tokens"], kl_coef=0.0),
        **ordered(config, policy, test, encoder.padding),
        **{f"policy/train/{key}": history.lines[-1][f"policy/train/{key}"] for key in ("loss", "accuracy", "margin")},
        "policy/train/comparisons": float(len(train)),
    }


def compared(config: PreferenceConfig, inputs: Mapping[str, Path], encoder: Encoder, seq_len: int) -> list[Compared]:
    """The comparisons with what the reference model says of them."""
    width = config.max_tokens or seq_len
    fitting = ranked(inputs["feedback"], encoder, width).fitting
    moved = strangers(fitting, width) if isinstance(config, KTOConfig) else [[] for _ in fitting]
    return [Compared(*parts) for parts in zip(fitting, moved, reference.read_of(inputs["reference"], fitting), strict=True)]


def batches(config: PreferenceConfig, train: Sequence[Compared], policy: Engine, pad_id: int) -> Callable[[int], Batch]:
    """Step -> ``batch`` comparisons of similar length, each whole in one micro-batch.

    Raises:
        ValueError: a comparison has more completions than a micro-batch has rows.
    """
    most = max(len(one.ranked.examples) for one in train)
    if most > config.micro_batch:
        raise ValueError(
            f"policy.micro_batch {config.micro_batch} is less than the {most} completions of a comparison, which stay together"
        )
    per_epoch, lengths = len(train) // config.batch, [one.ranked.longest for one in train]

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[int]]:
        return length_grouped(lengths, config.batch, np.random.default_rng([config.seed, epoch]))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        chosen = [train[i] for i in grouped(epoch)[place]]
        groups: list[list[Row]] = [rows_of(number, one.ranked, one.reference.logprobs) for number, one in enumerate(chosen)]
        made = batch_of(whole_groups(groups, config.micro_batch, policy.layout.dp, NOTHING), pad_id)
        if isinstance(config, KTOConfig):
            return with_thumbs(made, config, divergence(policy, chosen, config.micro_batch, pad_id))
        return made

    return batch


def divergence(policy: Engine, chosen: Sequence[Compared], micro_batch: int, pad_id: int) -> float:
    """KTO's z: mean log pi / pi_ref of the completions behind other prompts, by the policy as it is, and at least 0; in nats."""
    examples = [example for one in chosen for example in one.strangers]
    before = [logprob for one in chosen for logprob in one.reference.strangers]
    now = log_likelihoods(policy, examples, micro_batch, pad_id)
    return max(0.0, sum(after - kept for after, kept in zip(now, before, strict=True)) / len(now))


def ordered(config: PreferenceConfig, policy: Engine, test: Sequence[Compared], pad_id: int) -> dict[str, float]:
    """How often the implicit reward orders the pairs of test comparisons as people did; nothing without any."""
    if not test:
        return {}
    flat = log_likelihoods(policy, [example for one in test for example in one.ranked.examples], config.micro_batch, pad_id)
    now = iter(flat)
    scores = [[config.beta * (next(now) - kept) for kept in one.reference.logprobs] for one in test]
    pairs = judged([one.ranked.comparison for one in test], scores, config.precision)
    return accuracy(pairs, config.seed).flat("policy/test/accuracy")
