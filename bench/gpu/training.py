"""Training on one GPU: tokens/s and model FLOPs utilisation of ours and of transformers' Llama, bf16 beside fp32, checkpoints beside steps.

FLOPs of a token are 6 x (parameters that multiply) + 12 x layers x hidden x sequence (PaLM, appendix B: no discount for causality, recomputation not
counted); utilisation is that over the data sheet's dense bf16 peak. A step is everything: micro-batches forward and backward, clipping, AdamW and
new weights. The peer has fp32 weights under autocast, SDPA attention and fused AdamW, as the Trainer of transformers would run it; ours bf16 weights
and fp32 gradients, main weights and moments.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.gpu.machine import device_name, peak
from bench.gpu.timing import each, peak_gib
from bench.shapes import llama, peer
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.network.experts import MoEConfig
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss


class Work(NamedTuple):
    """A model and the batch of a step."""

    model: ModelConfig
    micro_batch: int
    micro_batches: int


SHAPES = {
    "125M": Work(llama(12, 768, 12, 12, 2048, 50_304, 2048), 16, 4),
    "350M": Work(llama(24, 1024, 16, 16, 2816, 50_304, 2048), 8, 4),
    "1.3B": Work(llama(24, 2048, 16, 16, 5632, 50_304, 2048), 4, 4),
}
EXPERTS = Work(llama(12, 1024, 16, 16, 1408, 50_304, 2048).model_copy(update={"moe": MoEConfig(experts=16, top_k=2, aux_loss=0.01)}), 8, 4)
"""Sixteen experts, two for every token: most of its parameters wait at each token."""
TINY = Work(llama(2, 64, 4, 2, 176, 512, 32), 2, 2)
TINY_EXPERTS = TINY._replace(model=TINY.model.model_copy(update={"moe": MoEConfig(experts=4, top_k=2, aux_loss=0.01)}))


def utilisation(shape: str, side: str, form: str, tiny: bool) -> dict[str, Any]:
    """One row of the table: ``side`` ``modelyard`` or ``transformers``, ``form`` ``eager`` or ``compiled``."""
    if shape == "experts":
        work = TINY_EXPERTS if tiny else EXPERTS
    else:
        work = TINY if tiny else SHAPES[shape]
    make = _ours if side == "modelyard" else _theirs
    started = time.perf_counter()
    step = make(work, form == "compiled")
    step()
    first = time.perf_counter() - started
    for _ in range(2):
        step()
    seconds = [each(step) for _ in range(2 if tiny else 8)]
    tokens = work.model.seq_len * work.micro_batch * work.micro_batches
    rate = tokens / statistics.median(seconds)
    flops, top = rate * work.model.flops_per_token() / 1e12, peak(device_name())
    return {
        "shape": shape,
        "side": side,
        "form": form,
        "parameters": work.model.parameters(),
        "tokens_a_step": tokens,
        "micro_batch": work.micro_batch,
        "tokens_per_s": rate,
        "spread": (max(seconds) - min(seconds)) / statistics.median(seconds),
        "tflops": flops,
        "mfu": flops / top if top else None,
        "peak_gib": peak_gib(),
        "first_step_s": first,
    }


def batch_of(work: Work, seed: int = 0) -> Batch:
    """Random rows for one optimizer step."""
    shape = (work.micro_batch * work.micro_batches, work.model.seq_len + 1)
    rows = torch.randint(0, work.model.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})


def _ours(work: Work, compiled: bool) -> Callable[[], object]:
    execution = ExecutionConfig(threads=4, compile=compiled)
    engine = Engine(work.model, execution, seed=0, precision="bf16", optim=OPTIMIZER, total_steps=1000)
    batch = batch_of(work)
    return lambda: engine.train_step(batch, work.micro_batch, language_model_loss)


def _theirs(work: Work, compiled: bool) -> Callable[[], object]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = peer(work.model).to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=OPTIMIZER.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward: Any = torch.compile(module) if compiled else module
    batch = batch_of(work).to(torch.device(device))
    pieces = [batch.rows(i * work.micro_batch, (i + 1) * work.micro_batch) for i in range(work.micro_batches)]

    def step() -> None:
        for piece in pieces:
            with torch.autocast(device, torch.bfloat16):
                loss = forward(input_ids=piece.tokens, labels=piece.labels, shift_labels=piece.labels).loss
            (loss / len(pieces)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), OPTIMIZER.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


def precisions(tiny: bool) -> dict[str, Any]:
    """The same model trained in bf16 and in fp32 on the same learnable text: how far apart their losses are, over 200 steps."""
    work, steps = (TINY, 6) if tiny else (Work(llama(6, 512, 8, 8, 1376, 4096, 512), 16, 1), 200)
    curves = {name: _curve(work, name, steps) for name in ("fp32", "bf16")}
    gaps = [abs(a - b) for a, b in zip(curves["fp32"], curves["bf16"], strict=True)]
    last = slice(-20, None)
    return {
        "steps": steps,
        "first_loss": curves["fp32"][0],
        "fp32_last_20": statistics.mean(curves["fp32"][last]),
        "bf16_last_20": statistics.mean(curves["bf16"][last]),
        "largest_gap": max(gaps),
        "mean_gap": statistics.mean(gaps),
        "curves": {name: [round(value, 4) for value in curve[:: max(1, steps // 40)]] for name, curve in curves.items()},
    }


def _curve(work: Work, precision: Precision, steps: int) -> list[float]:
    engine = Engine(work.model, ExecutionConfig(threads=4), seed=0, precision=precision, optim=OPTIMIZER, total_steps=steps)
    return [engine.train_step(text(work, step), work.micro_batch, language_model_loss)["loss"] for step in range(steps)]


def text(work: Work, step: int) -> Batch:
    """Rows in which a token decides the next but for one in eight: something to learn that needs no file."""
    generator = torch.Generator().manual_seed(step)
    vocabulary, shape = work.model.vocab_size, (work.micro_batch * work.micro_batches, work.model.seq_len + 1)
    rows = torch.randint(0, vocabulary, shape, generator=generator)
    free = torch.rand(shape, generator=generator) < 1 / 8
    for place in range(1, shape[1]):
        rows[:, place] = torch.where(free[:, place], rows[:, place], (rows[:, place - 1] * 5 + 7) % vocabulary)
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})


def checkpoints(tiny: bool) -> dict[str, Any]:
    """What a checkpoint beside training costs: how long the loop is held, how long until it is whole, and the steps beside its writing."""
    work, steps = (TINY, 2) if tiny else (SHAPES["350M"]._replace(micro_batches=1), 8)
    batch = batch_of(work)

    def stepped(engine: Engine, count: int) -> list[float]:
        return _losses(engine, work, [batch] * count)

    engine = Engine(work.model, ExecutionConfig(threads=4), seed=0, precision="bf16", optim=OPTIMIZER, total_steps=1000)
    stepped(engine, 2)
    with tempfile.TemporaryDirectory() as root:
        directory = checkpoint.step_directory(Path(root), engine.step)
        plain = each(lambda: stepped(engine, steps))
        started = time.perf_counter()
        engine.save(directory, beside=True)
        held = time.perf_counter() - started
        went_on: list[float] = []
        beside = each(lambda: went_on.extend(stepped(engine, steps)))
        checkpoint.wait()
        written = time.perf_counter() - started
        size = sum(path.stat().st_size for path in directory.iterdir())
        engine.load(directory)
        again = stepped(engine, steps)
    return {
        "parameters": work.model.parameters(),
        "bytes": size,
        "held_s": held,
        "written_s": written,
        "step_s": plain / steps,
        "step_beside_s": beside / steps,
        "largest_difference_after_resuming": max(abs(a - b) for a, b in zip(went_on, again, strict=True)),
        "peak_gib": peak_gib(),
    }


def resuming(tiny: bool) -> dict[str, Any]:
    """Losses after a resume beside those of the run that went on, and two resumed runs beside each other, as kernels come and with
    ``execution.deterministic``; and what a step of each takes."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before the first of both uses cuBLAS
    work = TINY if tiny else SHAPES["125M"]._replace(micro_batch=4, micro_batches=1)
    found: dict[str, Any] = {}
    for name, deterministic in (("as_they_come", False), ("deterministic", True)):
        execution = ExecutionConfig(threads=4, deterministic=deterministic)
        engine = Engine(work.model, execution, seed=0, precision="bf16", optim=OPTIMIZER, total_steps=1000)
        batches = [batch_of(work, seed) for seed in range(2 if tiny else 8)]
        with tempfile.TemporaryDirectory() as root:
            directory = checkpoint.step_directory(Path(root), 0)
            _losses(engine, work, batches[:2])
            engine.save(directory)
            went_on = _losses(engine, work, batches)
            resumed = []
            for _ in range(2):
                engine.load(directory)
                resumed.append(_losses(engine, work, batches))
            step = each(partial(_losses, engine, work, batches)) / len(batches)
        found[name] = {
            "resumed_equals": resumed[0] == went_on,
            "resumed_twice_equals": resumed[0] == resumed[1],
            "largest_difference": max(abs(a - b) for a, b in zip(went_on, resumed[0], strict=True)),
            "largest_difference_of_two": max(abs(a - b) for a, b in zip(*resumed, strict=True)),
            "step_s": step,
        }
    return found


def _losses(engine: Engine, work: Work, batches: list[Batch]) -> list[float]:
    return [engine.train_step(batch, work.micro_batch, language_model_loss)["loss"] for batch in batches]


def profile(shape: str, tiny: bool) -> dict[str, Any]:
    """Where the device's time of one compiled step of ours goes: milliseconds by kernel, and how long the device had nothing to do."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    work = TINY if tiny else SHAPES[shape]
    step = _ours(work, compiled=True)
    for _ in range(3):
        step()
    on_gpu = torch.cuda.is_available()
    with profiled(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        wall = each(step)
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in seen.key_averages()}
    busy = sum(times.values()) / 1e6
    most = sorted(times, key=lambda name: -times[name])[:40]
    return {
        "shape": shape,
        "step_ms": wall * 1000,
        "idle_share": max(0.0, 1 - busy / wall),
        "kernels": sum(event.count for event in seen.key_averages()),
        "milliseconds": {name[:110]: round(times[name] / 1000, 3) for name in most},
    }
