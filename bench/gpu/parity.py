"""The same model on the GPU and on the CPU: log-probabilities, gradients and greedy tokens in fp32, and how
far bf16 is from both.

The CPU's half runs in a process that is shown no GPU and leaves its numbers in a file, which the GPU's half
reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.gpu.training import batch_of
from bench.shapes import llama
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import generate
from modelyard.model.network.architecture import ModelConfig, Precision
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss

SHAPES: dict[bool, ModelConfig] = {False: llama(8, 512, 8, 4, 1376, 8192, 256), True: llama(2, 64, 4, 2, 176, 512, 32)}
ROWS, NEW = 8, 48


def reference(tiny: bool, directory: Path) -> dict[str, Any]:
    """The CPU's numbers, kept in ``directory/parity.pt``."""
    numbers = _numbers(SHAPES[tiny], "fp32", tiny)
    torch.save(numbers, directory / "parity.pt")
    return {"device": str(numbers["device"]), "loss": -float(numbers["logprobs"].mean())}


def against_reference(tiny: bool, directory: Path) -> dict[str, Any]:
    """The GPU's numbers beside them: largest differences of fp32, relative gradient errors by parameter,
    equal greedy tokens; and bf16's.
    """
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


def _named(engine: Engine) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in engine.gpt.named_parameters() if getattr(value, "main_grad", None) is not None]
