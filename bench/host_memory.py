"""Host memory over many steps of post-training: the resident size must stay flat.

``make bench-host_memory``; ``python -m bench.host_memory --work sft ppo --steps 200``. The real loops (``trainer.train`` on the stages' own batches;
``loop.train``, whose step is an iteration of sampling and update) with checkpoints every 20 steps, on a tiny Llama with random weights and texts of
natural lengths, each kind of work in a process of its own. Printed: resident MiB after a warm-up of a quarter of the steps, at the end, and the
growth by a straight line through what lies between, per 100 steps. Left out: GPUs.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from bench.policies import OPTIMIZER, grpo_config, ppo_config, token_rows, training_of
from bench.posttrain_work import RANKED, SHAPES, row_lengths
from bench.program import program
from bench.trl_peer import PAD
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor
from modelyard.model.network.model_config import Head, ModelConfig
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch, LossFn
from modelyard.model.training.engine import Engine
from modelyard.posttrain import reward, sft
from modelyard.posttrain.losses import reward_loss, sft_loss
from modelyard.posttrain.policy import loop
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.preference import train as preference
from modelyard.posttrain.preference.config import DPOConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.posttrain.preference.ranked import Ranked
from modelyard.posttrain.preference.reference import Reference
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows import demonstrations
from modelyard.posttrain.rows.comparison_rows import Encoded
from modelyard.posttrain.rows.masking import Example
from modelyard.progress import Report

EXECUTION = ExecutionConfig(threads=1, checkpoint_every=20, checkpoint_iterations=20, log_every=1)
TEXTS, ROWS = 256, 16
"""Texts (or pairs) of a pass, and of a step."""
SAMPLING = {"episodes": 16, "minibatches": 2, "micro_batch": 8, "ptx_rows": 8, "ptx_coef": 0.5, "ema_decay": 0.9, "max_new_tokens": 24}


class Work(StrEnum):
    """What is trained."""

    SFT = "sft"
    REWARD = "reward"
    DPO = "dpo"
    GRPO = "grpo"
    PPO = "ppo"


def resident(work: Work, steps: int, every: int, shape: str = "tiny") -> list[float]:
    """Resident MiB after every so many steps, once what is free is handed back to the system: how much an allocator keeps is chance."""
    process, seen = psutil.Process(), []
    hand_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if metrics and done % every == 0:
            gc.collect()
            if hand_back is not None:
                hand_back(0)
            seen.append(process.memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as scratch:
        RUNS[work](SHAPES[shape], steps, Path(scratch), report)
    return seen


def _sft(model: ModelConfig, steps: int, scratch: Path, report: Report) -> None:
    own = {"epochs": 1.0, "batch": ROWS, "pretraining_share": 0.0, "pack": False, "dropout": 0.0, "keep_epochs": False}
    config = sft.SFTConfig.model_validate({"seed": 0, "precision": "fp32", "micro_batch": ROWS, "optimizer": OPTIMIZER, **own})
    examples = [Example(text[: len(text) // 3], text[len(text) // 3 :]) for text in _texts(model, 0)]
    batch = demonstrations.batches(examples, None, config, PAD, model.seq_len).batch
    _trained(_engine(model, steps), batch, ROWS, sft_loss, steps, scratch, report)


def _reward(model: ModelConfig, steps: int, scratch: Path, report: Report) -> None:
    own = {"split": "reward", "epochs": 1, "batch": ROWS, "micro_batch": ROWS, "reference_texts": 1}
    config = RewardConfig.model_validate({"seed": 0, "precision": "fp32", "optimizer": OPTIMIZER, **own})
    pairs = [Encoded(RANKED, list(both)) for both in zip(_texts(model, 1), _texts(model, 2), strict=True)]
    data = reward.batches(pairs, config, model, PAD, EXECUTION.data_parallel)
    _trained(_engine(model, steps, "scalar"), data.batch, data.micro_batch, reward_loss, steps, scratch, report)


def _dpo(model: ModelConfig, steps: int, scratch: Path, report: Report) -> None:
    own = {"epochs": 1.0, "batch": ROWS, "micro_batch": 2 * ROWS, "beta": 0.1, "length_normalised": False, "sft_coef": 0.0}
    unused = {"max_new_tokens": 1, "final_episodes": 1, "final_rows": 1}
    config = DPOConfig.model_validate({"algorithm": "dpo", "seed": 0, "precision": "fp32", "optimizer": OPTIMIZER, **own, **unused})
    kept = Reference(id="", logprobs=(-1.0, -1.0))
    pairs = [
        preference.Compared(Ranked(RANKED, [Example(text[:4], text[4:]) for text in both]), [], kept)
        for both in zip(_texts(model, 1), _texts(model, 2), strict=True)
    ]
    engine = _engine(model, steps)
    batch = preference.batches(config, pairs, engine, PAD)
    _trained(engine, batch, config.micro_batch, preference_loss(config), steps, scratch, report)


def _policy(configured: Callable[..., OnPolicyConfig], model: ModelConfig, steps: int, scratch: Path, report: Report) -> None:
    config = configured("fp32", iterations=steps, **SAMPLING)
    training = training_of(config, model, EXECUTION, token_rows(model, [12] * 64, 0))
    loop.train(config, training, scratch, EXECUTION, report)


def _texts(model: ModelConfig, seed: int) -> list[list[int]]:
    return token_rows(model, row_lengths(TEXTS, model.seq_len, True, seed), seed)


def _engine(model: ModelConfig, steps: int, head: Head = "lm") -> Engine:
    return Engine(model, EXECUTION, seed=0, precision="fp32", head=head, optim=OPTIMIZER, total_steps=steps)


def _trained(engine: Engine, batch: Callable[[int], Batch], rows: int, loss: LossFn, steps: int, scratch: Path, report: Report) -> None:
    trainer.train(
        engine,
        batch,
        steps=steps,
        micro_batch=rows,
        loss_fn=loss,
        stage="bench",
        checkpoints=scratch,
        execution=EXECUTION,
        report=report,
    )


RUNS: dict[Work, Callable[[ModelConfig, int, Path, Report], None]] = {
    Work.SFT: _sft,
    Work.REWARD: _reward,
    Work.DPO: _dpo,
    Work.GRPO: partial(_policy, grpo_config),
    Work.PPO: partial(_policy, ppo_config),
}


def growth(seen: list[float], every: int) -> float:
    """MiB per 100 steps: slope of the line through the resident sizes after a quarter of them."""
    settled = seen[len(seen) // 4 :]
    return float(np.polyfit(np.arange(len(settled)) * every, settled, 1)[0] * 100)


def main(work: list[Work] = list(Work), steps: int = 200, every: int = 5, shape: Literal["small", "tiny"] = "tiny") -> None:
    """Run and print."""
    print(processor.description(), flush=True)
    for one in work:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            seen = alone.submit(resident, one, steps, every, shape).result()
        settled = seen[len(seen) // 4 :]
        print(
            f"{one:6s} {steps} steps: {settled[0]:.1f} MiB after a quarter, {seen[len(seen) // 2]:.1f} half way, {seen[-1]:.1f} at the end, "
            f"largest {max(settled):.1f}; growth {growth(seen, every):+.2f} MiB per 100 steps",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(program(main))
