"""SFT, reward model and PPO beside TRL's trainers: samples/s on the same tiny Llama, data and batch, in one process, in turn.

``make bench-posttrain``, or ``python -m bench.posttrain --work ppo --precision fp32``. Both sides run at one precision without gradient
checkpointing; PPO includes generation, one inner epoch on each side, and no pretraining text (TRL has none). Ours runs the functions that the
stages run, where a rated pair's prompt is computed once (TRL computes it for each text). Printed: median samples/s, and the median over rounds of
the ratio to TRL's. ``--profile`` prints where our time goes instead.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import product
from typing import Annotated, Literal

import numpy as np
import torch
import typer

from bench import trl_peer
from bench.program import program
from bench.shapes import SMALL, PrecisionName, llama, ratio
from bench.trl_peer import END, PAD
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison
from modelyard.formats.token_rows import PackedRows
from modelyard.model.network import processor
from modelyard.model.network.architecture import ModelConfig, Precision
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain import reward
from modelyard.posttrain.losses import reward_loss, sft_loss
from modelyard.posttrain.policy import loop as ppo
from modelyard.posttrain.policy.config import PPOConfig
from modelyard.posttrain.policy.prepare import Training
from modelyard.posttrain.policy.rollout import Models, SamplingConfig
from modelyard.posttrain.policy.update import update
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows.comparison_rows import Encoded
from modelyard.posttrain.rows.masking import Example, pad_examples
from modelyard.posttrain.rows.sampling import length_grouped

SHAPES = {"small": SMALL, "tiny": llama(2, 64, 4, 2, 176, 1024, 128)}
SFT_ROWS, SFT_PROMPT, REWARD_PAIRS, REWARD_LENGTH = 16, 96, 16, 128
EPISODES, PROMPT, NEW_TOKENS = 32, 32, 48
OPTIMIZER = OptimizerConfig(
    lr=1e-4, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8, clip_grad=1.0, schedule="constant"
)
PEERS: dict[bool, dict[str, trl_peer.Order]] = {
    False: {"trl": "sequential"},
    True: {"trl": "random", "trl by length": "group_by_length"},
}
"""TRL's SFT runs beside rows of one length and of natural lengths: its default order, and grouped by length like ours."""
Timed = Callable[[], float]


def ppo_config(precision: Precision, **changes: object) -> PPOConfig:
    """One minibatch of all episodes, as TRL is told."""
    base = {
        "algorithm": "ppo",
        "seed": 0,
        "precision": precision,
        "iterations": 1,
        "episodes": EPISODES,
        "minibatches": 1,
        "micro_batch": EPISODES,
        "max_new_tokens": NEW_TOKENS,
        "temperature": 1.0,
        "kl_coef": 0.05,
        "kl_stop": 1e9,
        "on_kl_stop": "error",
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "value_clip_range": 0.2,
        "ptx_coef": 0.0,
        "ptx_rows": 0,
        "ema_decay": 0.0,
        "final_episodes": 1,
        "final_rows": 1,
        "optimizer": OPTIMIZER,
        "value_optimizer": OPTIMIZER,
    }
    return PPOConfig.model_validate({**base, **changes})


def ppo_training(config: PPOConfig, model: ModelConfig, execution: ExecutionConfig, prompts: list[list[int]]) -> Training:
    """The four models of PPO (and the average, where the config has one) with random weights, as ``policy.prepare`` makes them from files: with
    adapters, all on one body."""
    steps = config.iterations * config.minibatches

    def engine(
        head: str,
        optim: OptimizerConfig | None = None,
        precision: Precision = config.precision,
        lora: LoRAConfig | None = config.lora,
        body: Engine | None = None,
    ) -> Engine:
        return Engine(
            model,
            execution,
            seed=0,
            precision=precision,
            head=head,  # type: ignore[arg-type]
            optim=optim,
            total_steps=steps,
            lora=lora,
            body=body,
        )

    text = PackedRows(np.random.default_rng(1).integers(2, model.vocab_size, (256, model.seq_len + 1)).astype(np.uint16))
    actor = engine("lm", config.optimizer)
    body = actor if config.lora else None
    reference, reward = engine("lm", lora=None, body=body), engine("scalar", body=body)
    models = Models(actor, reference, reward, engine("scalar", config.value_optimizer, body=body))
    sampling = SamplingConfig(config.max_new_tokens, 1.0, END, PAD, config.micro_batch)
    ema = engine("lm", precision="fp32", body=body) if config.ema_decay else None
    return Training(models, ema, prompts, asked=[], encoder=None, rules=None, pretraining=text, sampling=sampling)  # type: ignore[arg-type]


def token_rows(model: ModelConfig, lengths: Sequence[int], seed: int) -> list[list[int]]:
    """Random token ids, never the padding or the end."""
    generator = np.random.default_rng(seed)
    return [generator.integers(2, model.vocab_size, length).tolist() for length in lengths]


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
    lengths = [row_lengths(REWARD_PAIRS * steps, REWARD_LENGTH, natural, seed) for seed in (1, 2)]
    first, second = (token_rows(model, lengths[i], i) for i in range(2))
    pairs = [(a, [*a[:prompt], *b[prompt:]]) for a, b in zip(first, second, strict=True) for prompt in [3 * min(len(a), len(b)) // 8]]
    ranked = Comparison(id="", split="reward", source="", prompt="", completions=("preferred", "other"), ranks=(1, 2))
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
    data = reward.batches([Encoded(ranked, list(pair)) for pair in pairs], config, model, PAD, execution.data_parallel)
    engine = Engine(model, execution, seed=0, precision=precision, head="scalar", optim=OPTIMIZER, total_steps=10_000)

    def step(number: int) -> None:
        engine.train_step(data.batch(number), data.micro_batch, reward_loss)

    work = {"modelyard": timed(step, steps, now)}
    if peers:
        order: trl_peer.Order = "random" if natural else "sequential"
        work["trl"] = trl_peer.reward(model, precision, pairs, REWARD_PAIRS, steps, order, now)
    return REWARD_PAIRS * steps, work


def ppo_work(
    model: ModelConfig,
    precision: Precision,
    execution: ExecutionConfig,
    steps: int,
    peers: bool,
    natural: bool = False,
    now: trl_peer.Now = time.perf_counter,
) -> tuple[int, dict[str, Timed]]:
    """Episodes of a call, and the calls; ``steps`` are iterations, and prompts and completions always have one length."""
    prompts = token_rows(model, [PROMPT] * EPISODES * 4, 3)
    config = ppo_config(precision)
    training = ppo_training(config, model, execution, prompts)

    def iteration(number: int) -> None:
        rollout = ppo.sampled(config, training, number)
        update(config, training, rollout, number, config.kl_coef)

    work = {"modelyard": timed(iteration, steps, now)}
    if peers:
        work["trl"] = trl_peer.ppo(model, precision, prompts, EPISODES, NEW_TOKENS, steps, now)
    return EPISODES * steps, work


Clock = Literal["wall", "cpu"]
Work = StrEnum("Work", ["sft", "reward", "ppo"])
Lengths = StrEnum("Lengths", ["full", "natural"])
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
WORK: dict[str, Callable[..., tuple[int, dict[str, Timed]]]] = {"sft": sft_work, "reward": reward_work, "ppo": ppo_work}


def measured(work: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, in turn, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, once in work.items():
            taken = once()
            if number:
                seconds[name].append(taken)
    return seconds


def profile(once: Timed) -> None:
    """The operators that our time goes to."""
    once()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        once()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


def main(
    works: Annotated[list[Work], typer.Option("--work")] = [*Work],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    shape: Literal["small", "tiny"] = "small",
    rounds: int = 5,
    steps: Annotated[int, typer.Option(help="Optimizer steps (PPO: iterations) of a round.")] = 2,
    threads: int = 2,
    widths: Annotated[list[Lengths], typer.Option("--lengths", help="Of SFT rows and rated texts.")] = [*Lengths],
    clock: Annotated[Clock, typer.Option(help="cpu: seconds of this process, where other work shares the cores.")] = "wall",
    with_compile: Annotated[bool, typer.Option("--compile", help="Measure ours compiled (execution.compile) as well.")] = False,
    only_profile: Annotated[bool, typer.Option("--profile", help="Profile ours instead.")] = False,
) -> None:
    """Measure and print a line for each kind of work, precision and side."""
    print(processor.description(), flush=True)
    torch.set_num_threads(threads)
    model, execution = SHAPES[shape], ExecutionConfig(threads=threads)
    print(f"{shape}: {model.parameters() / 1e6:.2f}M parameters, {threads} threads; SFT {SFT_ROWS} x {model.seq_len}, ")
    print(f"reward {REWARD_PAIRS} pairs x {REWARD_LENGTH} (three eighths a prompt that both share: computed once by ours, twice by TRL), ")
    print(f"PPO {EPISODES} x ({PROMPT} + {NEW_TOKENS}), one inner epoch", flush=True)
    for name, chosen, lengths in product(works, precisions, widths):
        if name == "ppo" and lengths != widths[0]:
            continue
        precision, rest = chosen.value, (lengths == "natural", CLOCKS[clock])
        samples, work = WORK[name](model, precision, execution, steps, not only_profile, *rest)
        if with_compile:
            compiled = execution.model_copy(update={"compile": True})
            work = {
                "modelyard": work.pop("modelyard"),
                "ours compiled": WORK[name](model, precision, compiled, steps, False, *rest)[1]["modelyard"],
                **work,
            }
        if only_profile:
            profile(work["modelyard"])
            continue
        seconds = measured(work, rounds)
        for side, times in seconds.items():
            rate, trl = samples / statistics.median(times), ratio(seconds, side, "trl")
            print(
                f"  {name:6s} {precision} {lengths:7s} {side:13s} {rate:7.2f} samples/s ({clock})   {trl:.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(program(main))
