"""The work that ``bench/posttrain.py`` times: each kind's samples a call, and the calls by side. ``steps`` are optimizer steps, or iterations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench import trl_peer
from bench.policies import EPISODES, GROUP, NEW_TOKENS, OPTIMIZER, grpo_config, ppo_config, token_rows, training_of
from bench.shapes import SMALL, llama
from bench.trl_peer import PAD
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain import reward
from modelyard.posttrain.losses import reward_loss, sft_loss
from modelyard.posttrain.policy import loop
from modelyard.posttrain.policy.config import RewardedConfig
from modelyard.posttrain.policy.update import update
from modelyard.posttrain.preference.config import DPOConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.posttrain.preference.ranked import Ranked, log_likelihoods
from modelyard.posttrain.preference.rows import batch_of, rows_of
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows.comparison_rows import Encoded
from modelyard.posttrain.rows.masking import Example, pad_examples
from modelyard.posttrain.rows.sampling import length_grouped

SHAPES = {"small": SMALL, "tiny": llama(2, 64, 4, 2, 176, 1024, 128)}
SFT_ROWS, SFT_PROMPT, REWARD_PAIRS, REWARD_LENGTH = 16, 96, 16, 128
PROMPT = 32
PEERS: dict[bool, dict[str, trl_peer.Order]] = {
    False: {"trl": "sequential"},
    True: {"trl": "random", "trl by length": "group_by_length"},
}
"""TRL's SFT runs beside rows of one length and of natural lengths: its default order, and grouped by length like ours."""
RANKED = Comparison(id="", split="reward", source="", prompt="", completions=("preferred", "other"), ranks=(1, 2))
Timed = Callable[[], float]


def row_lengths(count: int, longest: int, natural: bool, seed: int) -> list[int]:
    """All ``longest``, or spread as texts are: log-normal about ``longest`` / 3 (quartiles at 2/3 and 3/2 of it), cut at ``longest``."""
    if not natural:
        return [longest] * count
    drawn = np.random.default_rng(seed).lognormal(np.log(longest / 3), 0.6, count)
    return [int(length) for length in np.clip(drawn, 8, longest)]


def timed(step: Callable[[int], object], steps: int, now: trl_peer.Now) -> Timed:
    """Seconds of ``steps`` consecutive steps; their number goes on over calls."""
    done = 0

    def once() -> float:
        nonlocal done
        start = now()
        for number in range(done, done + steps):
            step(number)
        done += steps
        return now() - start

    return once


def batches(lengths: Sequence[int], size: int, steps: int) -> Callable[[int], list[int]]:
    """Step -> the rows of its batch, grouped by length as the stages group them."""
    generator = np.random.default_rng(0)
    passes = [length_grouped(lengths, size, generator) for _ in range(20)]
    return lambda number: passes[number // steps % 20][number % steps]


def sft_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Samples of a call, and the calls; three eighths of a row are its prompt."""
    lengths = row_lengths(SFT_ROWS * steps, model.seq_len, natural, 0)
    rows = [(row, 3 * len(row) // 8) for row in token_rows(model, lengths, 0)]
    chosen = batches(lengths, SFT_ROWS, steps)
    engine = Engine(model, execution, seed=0, precision=precision, optim=OPTIMIZER, total_steps=10_000)

    def step(number: int) -> None:
        padded = pad_examples([Example(row[:prompt], row[prompt:]) for row, prompt in (rows[i] for i in chosen(number))], PAD)
        engine.train_step(Batch(padded.tokens, padded.labels, {"mask": padded.mask}), SFT_ROWS, sft_loss)

    work = {"modelyard": timed(step, steps, now)}
    if peers:
        for name, order in PEERS[natural].items():
            work[name] = trl_peer.sft(model, precision, rows, SFT_ROWS, steps, order, now)
    return SFT_ROWS * steps, work


def prompted_pairs(model: ModelConfig, steps: int, natural: bool) -> list[tuple[int, list[int], list[int]]]:
    """Pairs of a call: tokens of the prompt that both begin with, three eighths of the shorter, then the preferred text and the other."""
    lengths = [row_lengths(REWARD_PAIRS * steps, REWARD_LENGTH, natural, seed) for seed in (1, 2)]
    first, second = (token_rows(model, lengths[i], i) for i in range(2))
    cut = [3 * min(len(a), len(b)) // 8 for a, b in zip(first, second, strict=True)]
    return [(prompt, a, [*a[:prompt], *b[prompt:]]) for a, b, prompt in zip(first, second, cut, strict=True)]


def reward_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Pairs of a call, and the calls; three eighths of a pair's shorter text are their prompt. Ours has the stage's rows, TRL two to a pair."""
    pairs = [(a, b) for _, a, b in prompted_pairs(model, steps, natural)]
    config = RewardConfig(
        split="reward",
        seed=0,
        precision=precision,
        epochs=1,
        batch=REWARD_PAIRS,
        micro_batch=REWARD_PAIRS,
        reference_texts=1,
        optimizer=OPTIMIZER,
    )
    data = reward.batches([Encoded(RANKED, list(pair)) for pair in pairs], config, model, PAD, execution.data_parallel)
    engine = Engine(model, execution, seed=0, precision=precision, head="scalar", optim=OPTIMIZER, total_steps=10_000)

    def step(number: int) -> None:
        engine.train_step(data.batch(number), data.micro_batch, reward_loss)

    work = {"modelyard": timed(step, steps, now)}
    if peers:
        order: trl_peer.Order = "random" if natural else "sequential"
        work["trl"] = trl_peer.reward(model, precision, pairs, REWARD_PAIRS, steps, order, now)
    return REWARD_PAIRS * steps, work


def dpo_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Pairs of a call, and the calls; the reference model's log-probabilities are in the clock on both sides, as in one pass over the pairs."""
    pairs = prompted_pairs(model, steps, natural)
    examples = [[Example(text[:prompt], text[prompt:]) for text in both] for prompt, *both in pairs]
    chosen = batches([max(one.length for one in both) for both in examples], REWARD_PAIRS, steps)
    own = {"epochs": 1.0, "batch": REWARD_PAIRS, "beta": 0.1, "length_normalised": False, "sft_coef": 0.0}
    unused = {"seed": 0, "max_new_tokens": 1, "final_episodes": 1, "final_rows": 1}
    config = DPOConfig.model_validate(
        {"algorithm": "dpo", "precision": precision, "micro_batch": 2 * REWARD_PAIRS, "optimizer": OPTIMIZER, **own, **unused}
    )
    engine = Engine(model, execution, seed=0, precision=precision, optim=OPTIMIZER, total_steps=10_000)
    frozen = Engine(model, execution, seed=0, precision=precision)
    loss = preference_loss(config)

    def step(number: int) -> None:
        both = [examples[i] for i in chosen(number)]
        kept = iter(log_likelihoods(frozen, [one for pair in both for one in pair], config.micro_batch, PAD))
        rows = [row for place, pair in enumerate(both) for row in rows_of(place, Ranked(RANKED, pair), [next(kept), next(kept)])]
        engine.train_step(batch_of(rows, PAD), config.micro_batch, loss)

    work = {"modelyard": timed(step, steps, now)}
    if peers:
        order: trl_peer.Order = "random" if natural else "sequential"
        work["trl"] = trl_peer.dpo(model, precision, pairs, REWARD_PAIRS, steps, order, now)
    return REWARD_PAIRS * steps, work


def iterations(
    config: RewardedConfig, model: ModelConfig, execution: ExecutionConfig, prompts: list[list[int]], steps: int, now: trl_peer.Now
) -> Timed:
    """Our sampling and one pass over the samples; prompts and completions always have one length."""
    training = training_of(config, model, execution, prompts)

    def iteration(number: int) -> None:
        rollout = loop.sampled(config, training, number)
        update(config, training, rollout, number, config.kl_coef)

    return timed(iteration, steps, now)


def ppo_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Episodes of a call, and the calls."""
    prompts = token_rows(model, [PROMPT] * EPISODES * 4, 3)
    work = {"modelyard": iterations(ppo_config(precision), model, execution, prompts, steps, now)}
    if peers:
        work["trl"] = trl_peer.ppo(model, precision, prompts, EPISODES, NEW_TOKENS, steps, now)
    return EPISODES * steps, work


def grpo_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Episodes of a call, and the calls; the reward model is in the clock on both sides."""
    prompts = token_rows(model, [PROMPT] * (EPISODES // GROUP) * 8, 3)
    work = {"modelyard": iterations(grpo_config(precision), model, execution, prompts, steps, now)}
    if peers:
        work["trl"] = trl_peer.grpo(model, precision, prompts, EPISODES, GROUP, NEW_TOKENS, steps, now)
    return EPISODES * steps, work


WORK: dict[str, Callable[..., tuple[int, dict[str, Timed]]]] = {
    "sft": sft_work,
    "reward": reward_work,
    "dpo": dpo_work,
    "grpo": grpo_work,
    "ppo": ppo_work,
}
