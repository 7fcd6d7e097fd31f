"""One iteration's experience: completions, their rewards, and what policy, reference and critic say of every token.

InstructGPT (arXiv:2203.02155, section 3.5 and appendix C.4): completions at temperature 1, a score for the whole text, KL to the frozen SFT
model per token. Log-probabilities the ratio starts from come from the training forward pass, not from generation; how far the two differ is
measured (``policy/generation_drift``). Where the only update of an iteration needs none before it, that update's own forward pass gives them, and
both are compared there. A completion cut at ``max_new_tokens`` is scored as if it ended there. Left out: reward whitening and a
penalty for missing ends, which this reward model's inputs make unnecessary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from modelyard.model.inference.generate import Generation, Once, generate
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy.hacking import distinct, repetition
from modelyard.posttrain.policy.rewards import composed, sequence_kl
from modelyard.posttrain.rows.comparison_rows import row_of
from modelyard.posttrain.rows.completions import Together, repeats, together
from modelyard.posttrain.rows.masking import Example, Rows, masked_mean
from modelyard.posttrain.rows.sharing import texts_of_a_row
from modelyard.posttrain.scores import SCORED_TEXTS, scores_of

Told = Callable[[int, int], None]
"""Hears how many samples of how many there are."""


def nobody(done: int, total: int) -> None:
    """A :data:`Told` that drops everything."""


class Models(NamedTuple):
    """The models that an iteration asks; only actor and value are trained."""

    actor: Engine
    reference: Engine
    reward: Engine | None
    """None where its score counts for nothing."""
    value: Engine | None
    """The critic; None where the algorithm has none."""
    teacher: Engine | None = None
    """Whom a distilled policy learns from; None where there is none."""


class SamplingConfig(NamedTuple):
    """How completions are drawn."""

    max_new_tokens: int
    temperature: float
    end: int
    """The token that ends a completion."""
    padding: int
    micro_batch: int = 1
    """Finished texts of a forward pass."""
    teacher_micro_batch: int = 1
    """The same of the teacher, which may be larger."""


class Rollout(NamedTuple):
    """Sampled completions and what the models say of them; [N, S] unless noted, aligned with labels."""

    together: Together
    """The rows in which models read the completions."""
    completions: list[list[int]]
    """Sampled tokens, the closing one included where it was sampled."""
    ended: Tensor
    """[N] bool: whether the model closed the text itself."""
    logprobs: Tensor
    """Of the training forward pass, or as generated where the update makes that pass itself."""
    reference_logprobs: Tensor
    values: Tensor | None
    """None without a critic."""
    parts: dict[str, Tensor]
    """[N] each: what the reward of a whole text is the sum of; ``model`` is the reward model's score, where there is one."""
    drift: float
    """Mean |log p in generation - log p in training| of the sampled tokens, nats; 0 where the update is to tell."""
    notes: dict[str, float]
    """What else the parts say of these completions, by metric."""
    teacher_logprobs: Tensor | None = None
    """None without a teacher."""
    sampler_logprobs: Tensor | None = None
    """Of what drew the tokens; zero elsewhere."""
    weights: Tensor | None = None
    """How much each token counts in the loss (:mod:`modelyard.posttrain.policy.mismatch`); None: all alike."""

    @property
    def rows(self) -> Rows:
        """A completion each."""
        return self.together.rows

    @property
    def scores(self) -> Tensor:
        """[N]: reward of each whole text."""
        return composed(self.parts)


class Answers(NamedTuple):
    """Sampled completions and what a reward model says of the whole texts."""

    drawn: Generation
    ended: list[bool]
    """Whether the model closed the text itself."""
    scores: list[float]
    """Of every text, closed where it was cut."""


class Draw(Protocol):
    """Who completes prompts: :func:`own`, or a server (:mod:`modelyard.posttrain.policy.sampler`)."""

    def __call__(
        self, policy: Engine, prompts: Sequence[list[int]], seed: int, sampling: SamplingConfig, report: Told = ..., /
    ) -> Generation:
        """Completions of all ``prompts`` (token ids) by the ``policy``; the same on every rank."""


def own(
    policy: Engine, prompts: Sequence[list[int]], seed: int, sampling: SamplingConfig, report: Told = nobody, kept: Once | None = None
) -> Generation:
    """Drawn by the engine that trains; batches that are ``kept`` are not drawn again."""
    return generate(
        policy,
        prompts,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        seed=seed,
        stop_ids=[sampling.end],
        report=report,
        kept=kept,
    )


def answered(
    policy: Engine,
    reward: Engine,
    prompts: Sequence[list[int]],
    seed: int,
    sampling: SamplingConfig,
    report: Told = nobody,
    draw: Draw = own,
) -> Answers:
    """Complete every prompt (token ids) and score the results."""
    drawn = draw(policy, prompts, seed, sampling, report)
    return Answers(drawn, closed(drawn, sampling), scored(reward, prompts, drawn, sampling))


def closed(drawn: Generation, sampling: SamplingConfig) -> list[bool]:
    """Whether each completion was ended by the model itself."""
    return [new[-1] == sampling.end for new in drawn.tokens]


def scored(reward: Engine, prompts: Sequence[list[int]], drawn: Generation, sampling: SamplingConfig) -> list[float]:
    """What the reward model says of each prompt with its completion, as if one that was cut ended there."""
    whole = [
        prompt + new + ([] if ended else [sampling.end])
        for prompt, new, ended in zip(prompts, drawn.tokens, closed(drawn, sampling), strict=True)
    ]
    texts = [text[: reward.model.seq_len] for text in whole]
    lengths = [len(text) for text in texts]
    shared = [min(len(prompt), length - 1) for prompt, length in zip(prompts, lengths, strict=True)]  # each is scored at a token of its own
    each = texts_of_a_row(reward.model, lengths, shared, repeats(prompts), SCORED_TEXTS, one_width=False)
    rows = [row_of(texts[i : i + each], shared[i] if each > 1 else 0) for i in range(0, len(texts), each)]
    return scores_of(reward, rows, each > 1, sampling.padding)


def sample(
    models: Models,
    prompts: Sequence[list[int]],
    seed: int,
    sampling: SamplingConfig,
    draw: Draw = own,
    *,
    one_update: bool = False,
    apart: bool = False,
) -> Rollout:
    """Complete every prompt and evaluate all models on the result.

    Args:
        models: who samples and who is asked.
        prompts: token ids; neighbours that are equal may share a row.
        seed: of the samples.
        sampling: how they are drawn.
        draw: by whom.
        one_update: the actor is evaluated where it is updated, and not here.
        apart: completions have a row each.
    """
    drawn = draw(models.actor, prompts, seed, sampling)
    scores = {"model": scored(models.reward, prompts, drawn, sampling)} if models.reward else {}
    examples = [Example(prompt, new) for prompt, new in zip(prompts, drawn.tokens, strict=True)]
    read = together(examples, models.actor.model, 1 if apart else sampling.micro_batch, sampling.padding)
    reference = read.said(models.reference, sampling.micro_batch)
    values = read.said(models.value, sampling.micro_batch) if models.value is not None else None
    taught = read.said(models.teacher, sampling.teacher_micro_batch) if models.teacher is not None else None
    generated, keep = torch.tensor([logprob for row in drawn.logprobs for logprob in row]), read.rows.mask.bool()
    sampler = torch.zeros(keep.shape)
    sampler[keep] = generated
    logprobs = sampler if one_update else read.said(models.actor, sampling.micro_batch)
    drift = float((generated - logprobs[keep]).abs().mean())
    parts = {name: torch.tensor(values, dtype=torch.float32) for name, values in scores.items()}
    ended = torch.tensor(closed(drawn, sampling))
    return Rollout(read, drawn.tokens, ended, logprobs, reference, values, parts, drift, {}, taught, sampler)


def from_teacher(rollout: Rollout) -> Tensor | None:
    """[N]: KL of each sequence to the teacher, in nats, as :func:`sequence_kl` estimates it; None without one."""
    if rollout.teacher_logprobs is None:
        return None
    return sequence_kl(rollout.logprobs, rollout.teacher_logprobs, rollout.rows.mask)


def statistics(rollout: Rollout, kl_coef: float) -> dict[str, float]:
    """What to watch: KL to the SFT model and to a teacher, reward, objective, and the signs of reward hacking (length, repetition, sameness)."""
    kl = sequence_kl(rollout.logprobs, rollout.reference_logprobs, rollout.rows.mask)
    objective, away = rollout.scores - kl_coef * kl, from_teacher(rollout)
    lengths = [len(completion) for completion in rollout.completions]
    return {
        "objective/kl": float(kl.mean()),
        "objective/reward": float(rollout.scores.mean()),
        "objective/reward_std": float(rollout.scores.std(correction=0)),
        "objective/kl_coef": kl_coef,
        "objective/objective": float((objective if away is None else -away).mean()),
        **({} if away is None else {"objective/teacher_kl": float(away.mean())}),
        "objective/entropy": -float(masked_mean(rollout.logprobs, rollout.rows.mask)),
        "objective/length": sum(lengths) / len(lengths),
        "objective/ended": float(rollout.ended.float().mean()),
        "objective/repetition": sum(repetition(completion) for completion in rollout.completions) / len(rollout.completions),
        "objective/distinct": distinct(rollout.completions),
        "policy/generation_drift": rollout.drift,
        **{f"reward/{name}": float(part.mean()) for name, part in rollout.parts.items()},
        **rollout.notes,
    }
