"""The same model on the GPU and on the CPU: log-probabilities, gradients and greedy tokens in fp32, and how
far bf16 is from both; and whether the GPU repeats itself.

The CPU's half runs in a process that is shown no GPU and leaves its numbers in a file, which the GPU's half
reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn.attention import SDPBackend

from bench.gpu.training import SHAPES as TRAINED
from bench.gpu.training import TINY, batch_of
from bench.shapes import llama
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import generate
from modelyard.model.network import attention
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss

SHAPES: dict[bool, ModelConfig] = {False: llama(8, 512, 8, 4, 1376, 8192, 256), True: llama(2, 64, 4, 2, 176, 512, 32)}
ROWS, NEW = 8, 48
KERNELS = {
    "as_in_training": attention.PREFERRED,
    "cudnn": (SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH),
    "flash": (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    "math": (SDPBackend.MATH,),
}
"""Kernels of attention by name; ``math`` keeps the scores in memory, and takes what another one refuses."""


def reference(tiny: bool, directory: Path) -> dict[str, Any]:
    """The CPU's numbers, kept in ``directory/parity.pt``."""
    numbers = _numbers(SHAPES[tiny], "fp32", tiny)
    torch.save(numbers, directory / "parity.pt")
    return {"device": str(numbers["device"]), "loss": -float(numbers["logprobs"].mean())}


def against_reference(tiny: bool, directory: Path) -> dict[str, Any]:
    """The GPU's numbers beside them: largest differences of fp32, relative gradient errors by parameter,
    equal greedy tokens; and bf16's.
    """
    if not (directory / "parity.pt").exists():
        raise ValueError("the part parity-cpu has left no numbers to compare with in this run")
    theirs = torch.load(directory / "parity.pt", weights_only=True)
    ours = _numbers(SHAPES[tiny], "fp32", tiny)
    halves = _numbers(SHAPES[tiny], "bf16", tiny)
    return {
        "device": str(ours["device"]),
        "fp32": _compared(ours, theirs),
        "bf16": _compared(halves, theirs),
    }


def _compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    gap = (ours["logprobs"] - theirs["logprobs"]).abs()
    errors = {
        name: float((ours["gradients"][name] - gradient).norm() / gradient.norm().clamp_min(1e-30))
        for name, gradient in theirs["gradients"].items()
    }
    worst = max(errors, key=lambda name: errors[name])
    pairs = zip(ours["tokens"], theirs["tokens"], strict=True)
    return {
        "logprobs_largest": float(gap.max()),
        "logprobs_mean": float(gap.mean()),
        "gradient_worst_relative": errors[worst],
        "gradient_worst_name": worst,
        "gradient_norm": ours["gradient_norm"] / theirs["gradient_norm"] - 1,
        "greedy_rows_equal": sum(a == b for a, b in pairs),
        "greedy_rows": len(theirs["tokens"]),
    }


def _numbers(model: ModelConfig, precision: Precision, tiny: bool) -> dict[str, Any]:
    """Log-probabilities [B, S], gradients of the mean loss by name, its norm and greedy tokens, all on the
    CPU.
    """
    from bench.gpu.training import Work

    batch = batch_of(Work(model, ROWS, 1), seed=3)
    # a learning rate of 0 leaves the weights: the step only computes gradients
    engine = Engine(model, ExecutionConfig(threads=4), seed=1, precision=precision, optim=OPTIMIZER.model_copy(update={"lr": 0.0}))
    logprobs = engine.evaluate(batch, ROWS).cpu()
    norm = engine.train_step(batch, ROWS, language_model_loss)["grad_norm"]
    count = batch.tokens.numel()
    gradients = {name: value.main_grad.float().cpu() / count for name, value in _named(engine)}
    prompts = batch.tokens[:, :16].tolist()
    drawn = generate(engine, prompts, max_new_tokens=8 if tiny else NEW, temperature=0.0, seed=0)
    return {
        "device": str(engine.device),
        "logprobs": logprobs,
        "gradients": gradients,
        "gradient_norm": norm,
        "tokens": drawn.tokens,
    }


def repeated(tiny: bool) -> dict[str, Any]:
    """Of how many tensors the gradient of one batch differs, by any bit, between three computations in bf16: by kernel of attention, as kernels
    come and with ``execution.deterministic``.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before the first of both uses cuBLAS
    work = TINY if tiny else TRAINED["125M"]._replace(micro_batch=4, micro_batches=2)
    batch, found = batch_of(work), {}
    for deterministic in (False, True):
        execution = ExecutionConfig(threads=4, deterministic=deterministic)
        engine = Engine(work.model, execution, seed=0, precision="bf16", optim=OPTIMIZER.model_copy(update={"lr": 0.0}))
        odd = {}
        for name, kernels in KERNELS.items():
            with mock.patch.object(attention, "PREFERRED", kernels):
                first, *others = (_gradients(engine, batch, work.micro_batch) for _ in range(3))
            odd[name] = sum(any(not torch.equal(one[key], first[key]) for one in others) for key in first)
        found["deterministic" if deterministic else "as_they_come"] = odd
    return {"tensors": len(first), **found}


def _gradients(engine: Engine, batch: Batch, micro_batch: int) -> dict[str, torch.Tensor]:
    engine.train_step(batch, micro_batch, language_model_loss)
    return {name: parameter.main_grad.clone() for name, parameter in _named(engine)}


def _named(engine: Engine) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in engine.gpt.named_parameters() if getattr(value, "main_grad", None) is not None]
