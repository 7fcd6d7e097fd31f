"""Policies that learn from comparisons, or thumbs, without sampling: DPO, K-wise DPO, IPO and KTO as the ``policy`` stage.

Passes over the comparisons that also train the reward model, each whole in one micro-batch, and for KTO over single answers with a thumb too. The
reference model's log-probabilities are the ``reference`` artifact's, so only the policy is in memory while it is trained. Measured as every policy
is (:mod:`modelyard.posttrain.policy.measure`), and by how often its implicit reward puts test comparisons in order and test thumbs on their
side. Left out: pretraining text in the batches, and sharing a prompt among its completions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison, Thumb
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
from modelyard.posttrain.preference.config import ContrastConfig, KTOConfig, PreferenceConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.posttrain.preference.ranked import TRAINING, Ranked, log_likelihoods, ranked, strangers
from modelyard.posttrain.preference.rows import NOTHING, Row, batch_of, rows_of, with_thumbs
from modelyard.posttrain.rows.encoding import never_stopping
from modelyard.posttrain.rows.masking import Example
from modelyard.posttrain.rows.sampling import length_grouped, whole_groups
from modelyard.progress import Report
from modelyard.stats import ties
from modelyard.stats.estimate import bootstrap_mean


class Compared(NamedTuple):
    """A comparison or thumb with all that training on it needs."""

    ranked: Ranked
    strangers: list[Example]
    """Its completions behind another prompt; empty but for KTO."""
    reference: reference.Reference


def run(
    config: PreferenceConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["sft"]`` on the comparisons (KTO: and thumbs) of ``inputs["feedback"]`` against ``inputs["reference"]``, and measure it with
    ``inputs["reward"]`` and text of ``inputs["tokens"]``."""
    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    seq_len = model_directory.read(inputs["sft"]).model.seq_len
    every, too_long = compared(config, inputs, encoder, seq_len)
    train = [one for one in every if one.ranked.said.split in TRAINING]
    test = [one for one in every if one.ranked.said.split not in TRAINING]
    given = asked(config, inputs["feedback"], encoder, seq_len)  # what cannot be asked is said before anything is trained
    per_epoch = len(train) // config.batch
    if not per_epoch:
        raise ValueError(f"policy: {len(train)} training comparisons (and thumbs) do not fill one batch of {config.batch}")
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
    examples = [example for one in train for example in one.ranked.examples]
    lost = {"rows": len(examples), "too_long": too_long, "never_stop": never_stopping(encoder, examples)}
    return {
        **{f"policy/data/{name}": float(count) for name, count in lost.items()},
        **finished(config, Models(policy, frozen, reward, None), given.prompts, given.sampling, inputs["tokens"], kl_coef=0.0),
        **ordered(config, policy, test, encoder.padding),
        **(rightly_rated(config, policy, test, encoder.padding) if isinstance(config, KTOConfig) else {}),
        **{f"policy/train/{key}": history.lines[-1][f"policy/train/{key}"] for key in ("loss", "accuracy", "margin")},
        **counted(config, train),
    }


def counted(config: PreferenceConfig, train: Sequence[Compared]) -> dict[str, float]:
    """Comparisons that were trained on; of KTO how many completions were good and bad, those of comparisons included."""
    compared = sum(isinstance(one.ranked.said, Comparison) for one in train)
    if not isinstance(config, KTOConfig):
        return {"policy/train/comparisons": float(compared)}
    thumbs = [thumb for one in train for thumb in one.ranked.thumbs]
    sides = {f"policy/train/thumbs/{name}": float(thumbs.count(side)) for name, side in (("up", 1), ("down", -1))}
    return {"policy/train/comparisons": float(compared), "policy/train/rated": float(len(train) - compared), **sides}


def compared(config: PreferenceConfig, inputs: Mapping[str, Path], encoder: Encoder, seq_len: int) -> tuple[list[Compared], int]:
    """The comparisons (KTO: and thumbs) with what the reference model says of them, and how many are left out as too long."""
    width = config.max_tokens or seq_len
    fitting, too_long = ranked(inputs["feedback"], encoder, width, thumbs=isinstance(config, KTOConfig))
    moved = strangers(fitting, width) if isinstance(config, KTOConfig) else [[] for _ in fitting]
    kept = reference.read_of(inputs["reference"], fitting)
    return [Compared(*parts) for parts in zip(fitting, moved, kept, strict=True)], too_long


def batches(config: PreferenceConfig, train: Sequence[Compared], policy: Engine, pad_id: int) -> Callable[[int], Batch]:
    """Step -> ``batch`` comparisons (and thumbs) of similar length, each whole in one micro-batch.

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
        made = batch_of(whole_groups(groups, config.micro_batch, policy.layout.dp, NOTHING, policy.fewest), pad_id)
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
    compared = [(one, one.ranked.said) for one in test if isinstance(one.ranked.said, Comparison)]
    if not compared:
        return {}
    scores = rewards_of(config, policy, [one for one, _ in compared], pad_id)
    return accuracy(judged([said for _, said in compared], scores, config.precision), config.seed).flat("policy/test/accuracy")


def rightly_rated(config: KTOConfig, policy: Engine, test: Sequence[Compared], pad_id: int) -> dict[str, float]:
    """How often the implicit reward of a test thumb's completion lies on its side of beta z, as in the loss; nothing without any."""
    rated = [one for one in test if isinstance(one.ranked.said, Thumb)]
    if not rated:
        return {}
    bound = config.beta * divergence(policy, rated, config.micro_batch, pad_id)
    scores = rewards_of(config, policy, rated, pad_id)
    signs = [one.ranked.thumbs[0] for one in rated]
    right = [ties.preferred(sign * score, sign * bound, config.precision) for sign, (score,) in zip(signs, scores, strict=True)]
    return bootstrap_mean(right, config.seed).flat("policy/test/thumb_accuracy")


def rewards_of(config: PreferenceConfig, policy: Engine, rated: Sequence[Compared], pad_id: int) -> list[list[float]]:
    """Implicit reward of every completion, a token where the loss takes it so."""
    now = iter(log_likelihoods(policy, [example for one in rated for example in one.ranked.examples], config.micro_batch, pad_id))
    a_token = isinstance(config, ContrastConfig) and config.length_normalised

    def reward(example: Example, kept: float) -> float:
        return config.beta * (next(now) - kept) / (max(len(example.completion), 1) if a_token else 1)

    return [[reward(*both) for both in zip(one.ranked.examples, one.reference.logprobs, strict=True)] for one in rated]
