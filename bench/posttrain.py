"""SFT, reward model, DPO, GRPO and PPO beside TRL's trainers: samples/s on the same tiny Llama, data and batch, in one process, in turn.

``make bench-posttrain``, or ``python -m bench.posttrain --work dpo --precision fp32``. Both sides run at one precision without gradient
checkpointing. DPO's clock has the reference model's forward pass on both sides; GRPO and PPO include generation and the reward model, one inner
epoch, and no pretraining text (TRL has none). Ours runs the functions that the stages run, where a rated pair's prompt is computed once for the
reward model (TRL computes it for each text). TRL 1.12.0 is the last that has PPO: ``--work ppo`` wants it on the path, as make puts it.
Printed: median samples/s, and the median over rounds of the ratio to TRL's. ``--profile`` prints where our time goes instead.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib.metadata import version
from itertools import product
from typing import Annotated, Literal

import torch
import typer

from bench.policies import EPISODES, GROUP, NEW_TOKENS
from bench.posttrain_work import PROMPT, REWARD_LENGTH, REWARD_PAIRS, SFT_ROWS, SHAPES, WORK, Timed
from bench.program import program
from bench.shapes import PrecisionName, ratio
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor

Clock = Literal["wall", "cpu"]
Work = StrEnum("Work", ["sft", "reward", "dpo", "grpo", "ppo"])
Lengths = StrEnum("Lengths", ["full", "natural"])
ONE_LENGTH = ("grpo", "ppo")
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


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
    works: Annotated[list[Work], typer.Option("--work")] = [Work.sft, Work.reward, Work.dpo, Work.grpo],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    shape: Literal["small", "tiny"] = "small",
    rounds: int = 5,
    steps: Annotated[int, typer.Option(help="Optimizer steps (GRPO, PPO: iterations) of a round.")] = 2,
    threads: int = 2,
    widths: Annotated[list[Lengths], typer.Option("--lengths", help="Of SFT rows and compared texts.")] = [*Lengths],
    clock: Annotated[Clock, typer.Option(help="cpu: seconds of this process, where other work shares the cores.")] = "wall",
    with_compile: Annotated[bool, typer.Option("--compile", help="Measure ours compiled (execution.compile) as well.")] = False,
    only_profile: Annotated[bool, typer.Option("--profile", help="Profile ours instead.")] = False,
) -> None:
    """Measure and print a line for each kind of work, precision and side."""
    print(f"{processor.description()}; TRL {version('trl')}", flush=True)
    torch.set_num_threads(threads)
    model, execution = SHAPES[shape], ExecutionConfig(threads=threads)
    print(f"{shape}: {model.parameters() / 1e6:.2f}M parameters, {threads} threads; SFT {SFT_ROWS} x {model.seq_len}, ")
    print(
        f"reward, dpo {REWARD_PAIRS} pairs x {REWARD_LENGTH} (three eighths a prompt that both share: for the reward model computed once by ours, "
    )
    print(f"twice by TRL), ppo, grpo {EPISODES} x ({PROMPT} + {NEW_TOKENS}), one inner epoch, groups of {GROUP}", flush=True)
    for name, chosen, lengths in product(works, precisions, widths):
        if name in ONE_LENGTH and lengths != widths[0]:
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
