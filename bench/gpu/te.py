"""Training on Transformer Engine's layers, where the package is: tokens/s in bf16 and in fp8, losses beside
ours, and a checkpoint read by our layers.

Where it cannot be imported or has no GPU, every part says so in a line under ``not_run`` and is no failure.
The losses are those of :mod:`bench.gpu.training`'s learnable text.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.gpu.machine import device_name, peak
from bench.gpu.timing import each, peak_gib
from bench.gpu.training import SHAPES, TINY, Work, batch_of, text
from bench.shapes import llama
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.network import te_layers
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss

FORMS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "hybrid-tensorwise": {"fp8": "hybrid"},
    "hybrid-delayed": {"fp8": "hybrid", "fp8_recipe": "delayed"},
}
"""Settings of ``execution`` beside ``transformer_engine``."""
LEARNING = Work(llama(6, 512, 8, 8, 1376, 4096, 512), 16, 1)


def not_run(form: str) -> str:
    """Why this machine cannot run it, in one line; "" where it can."""
    if why := te_layers.problem():
        return f"not installed: {why}"
    try:
        te_layers.require(_execution(form), "bf16", None)
    except ValueError as error:
        return str(error)
    return ""


def utilisation(shape: str, form: str, tiny: bool) -> dict[str, Any]:
    """Tokens/s of a training step of ours on these layers; FLOPs and peak are bf16's, so that fp8 may pass
    1."""
    if why := not_run(form):
        return {"not_run": why}
    work = TINY if tiny else SHAPES[shape]
    engine, batch = _engine(work, form), batch_of(work)
    step = partial(engine.train_step, batch, work.micro_batch, language_model_loss)
    for _ in range(3):
        step()
    seconds = [each(step) for _ in range(2 if tiny else 8)]
    rate = work.model.seq_len * work.micro_batch * work.micro_batches / statistics.median(seconds)
    top = peak(device_name())
    return {
        "shape": shape,
        "form": form,
        "tokens_per_s": rate,
        "spread": (max(seconds) - min(seconds)) / statistics.median(seconds),
        "of_bf16_peak": rate * work.model.flops_per_token() / 1e12 / top if top else None,
        "peak_gib": peak_gib(),
    }


def learning(form: str, tiny: bool) -> dict[str, Any]:
    """Losses of 200 steps on these layers and on ours in bf16, and of a batch by our layers on the weights
    that they trained."""
    if why := not_run(form):
        return {"not_run": why}
    work, steps = (TINY, 6) if tiny else (LEARNING, 200)
    curves: list[list[float]] = []
    with tempfile.TemporaryDirectory() as root:
        for other in (form, ""):
            engine = _engine(work, other)
            losses = [engine.train_step(text(work, step), work.micro_batch, language_model_loss)["loss"] for step in range(steps)]
            curves.append(losses)
            if other:
                engine.save_weights(Path(root) / "weights")
                scored = engine.evaluate(batch_of(work), work.micro_batch)
        ours = Engine(work.model, ExecutionConfig(threads=4), seed=0, precision="bf16")
        ours.load_weights(Path(root) / "weights")
        crossed = (ours.evaluate(batch_of(work), work.micro_batch) - scored).abs()
    last = slice(-20, None)
    return {
        "form": form,
        "last_20": statistics.mean(curves[0][last]),
        "ours_last_20": statistics.mean(curves[1][last]),
        "largest_gap": max(abs(a - b) for a, b in zip(*curves, strict=True)),
        "mean_difference_of_logprobs_by_our_layers": float(crossed.mean()),
    }


def _execution(form: str) -> ExecutionConfig:
    return ExecutionConfig(threads=4, transformer_engine=bool(form), **FORMS.get(form, {}))


def _engine(work: Work, form: str) -> Engine:
    return Engine(work.model, _execution(form), seed=0, precision="bf16", optim=OPTIMIZER, total_steps=1000)
