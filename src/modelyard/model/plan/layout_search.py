"""Ways to cut a training run over a number of GPUs, each with its memory and its speed.

:mod:`modelyard.model.plan.planning` takes the best that fits. Tensor parallelism stays inside a node and pipeline stages hold equal numbers of
layers (Narayanan et al. 2021, takeaways 1 and 2). Context parallelism is given, not searched. Left out: uneven stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import model_validator

from modelyard.config import Config
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.plan import memory
from modelyard.model.plan.memory import Memory, Recompute, Schedule, Split

MICRO_BATCHES = (1, 2, 4, 8, 16)
RECOMPUTED: tuple[tuple[Recompute, float], ...] = (("none", 1.0), ("full", 4 / 3))  # a recomputed layer runs forward twice


class PlanConfig(Config):
    """A training run to plan."""

    model: ModelConfig
    """Shape and style."""
    precision: Precision
    """Of weights and activations; gradients and optimizer are fp32."""
    tokens: int
    """Training tokens of the whole run."""
    batch: int
    """Sequences of one optimizer step, over all replicas."""
    lora: LoRAConfig | None = None
    """Adapters that are trained in place of all weights; absent: all weights are."""

    @model_validator(mode="after")
    def _positive(self) -> PlanConfig:
        for key in ("tokens", "batch"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.lora:
            self.model.check_adapters()
        return self


MOST, LARGEST = 1_000_000, 1e9
"""Of what is counted, and of what is measured: beyond any machine, and far from where floats end."""


class Machine(Config):
    """The GPUs to plan for."""

    gpus: int
    """How many."""
    memory_gib: float
    """Memory of one, in GiB."""
    gpus_per_node: int = 8
    """GPUs that share a fast link; tensor parallelism does not leave them."""
    reserve_gib: float = 4.0
    """Memory of one that no tensor gets: context, buffers of collectives, workspace, fragmentation."""
    peak_tflops: float = 989.4
    """Peak of one in 10^12 FLOP/s (an H100's dense bf16)."""
    mfu: float = 0.4
    """Share of the peak that model FLOPs reach outside the bubble, without recomputation."""
    chunks: int = 1
    """Model chunks a pipeline stage holds in turn (interleaved schedule; ``execution.virtual_pipeline``)."""
    context: int = 1
    """Ranks that share out the positions of every row (``execution.context_parallel``)."""
    copy_gib_per_second: float = 10.0
    """Rate at which one GPU copies to pinned host memory (a PCIe 4 link has 32 GB/s), in GiB/s; a first checkpoint
    pins the memory besides."""
    disk_gib_per_second: float = 1.0
    """Rate at which a node's ranks write checkpoints together, in GiB/s."""

    @model_validator(mode="after")
    def _ranges(self) -> Machine:
        for key in ("gpus", "gpus_per_node", "chunks", "context"):
            if not 1 <= getattr(self, key) <= MOST:
                raise ValueError(f"{key} must be from 1 to {MOST:,}")
        if not 0 < self.mfu <= 1 or self.peak_tflops <= 0 or self.reserve_gib < 0 or self.memory_gib <= 0:
            raise ValueError("mfu must lie in (0, 1], peak_tflops and memory_gib must be positive, reserve_gib not negative")
        rates = (self.copy_gib_per_second, self.disk_gib_per_second)
        if min(rates) <= 0:
            raise ValueError("copy_gib_per_second and disk_gib_per_second must be positive")
        if max(self.peak_tflops, self.reserve_gib, self.memory_gib, *rates) > LARGEST:
            raise ValueError(f"peak_tflops, reserve_gib, memory_gib and rates must be at most {LARGEST:g}")
        return self


class Candidate(NamedTuple):
    """A layout with what it costs."""

    split: Split
    schedule: Schedule
    memory: Memory
    bubble: float
    utilisation: float
    """Share of the peak that model FLOPs reach, bubble and recomputation included."""

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts the better layout first: fastest, cut least, largest micro-batch."""
        split = self.split
        return (-self.utilisation, split.tensor * split.pipeline, split.expert, split.pipeline, -self.schedule.micro_batch)


def layouts(config: PlanConfig, machine: Machine) -> Iterator[Candidate]:
    """Every layout of the model that uses all GPUs and divides evenly, whether it fits or not."""
    for split in splits(config.model, machine):
        for micro_batch in MICRO_BATCHES:
            if config.batch % (split.data * micro_batch) or config.model.layers % (split.pipeline * machine.chunks):
                continue
            count = config.batch // (split.data * micro_batch)
            if machine.chunks > 1 and (split.pipeline == 1 or count % split.pipeline):
                continue  # the interleaved schedule takes micro-batches in groups of as many as there are stages
            bubble = (split.pipeline - 1) / (count * machine.chunks + split.pipeline - 1)
            for recompute, cost in RECOMPUTED:
                schedule = Schedule(micro_batch, count, machine.chunks, recompute)
                needed = memory.peak_memory(config.model, split, schedule, config.precision, lora=config.lora)
                yield Candidate(split, schedule, needed, bubble, machine.mfu * (1 - bubble) / cost)


def splits(model: ModelConfig, machine: Machine) -> Iterator[Split]:
    """Ways to cut the model over exactly ``machine.gpus`` ranks."""
    for tensor in divisors(machine.gpus_per_node):
        for pipeline in divisors(model.layers):
            model_ranks = tensor * pipeline * machine.context
            if machine.gpus % model_ranks:
                continue
            for expert in divisors(model.moe.experts) if model.moe else [1]:
                split = Split(tensor, pipeline, machine.gpus // model_ranks, expert, machine.context)
                if _divides(model, split):
                    yield split


def _divides(model: ModelConfig, split: Split) -> bool:
    if split.tensor * split.replicas % split.expert:
        return False
    try:
        model.check_layout(split.tensor, split.pipeline, split.expert, context_parallel=split.context)
    except ValueError:
        return False
    return True


def divisors(number: int) -> list[int]:
    """Divisors in rising order."""
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def indivisible(config: PlanConfig, machine: Machine) -> str:
    """Why there is no layout at all, in one line."""
    model, context = config.model, f"context {machine.context} x " if machine.context > 1 else ""
    return (
        f"no layout of {machine.gpus} GPUs divides evenly: tensor x pipeline x {context}data must be {machine.gpus}, tensor parallel must divide "
        f"{machine.gpus_per_node} GPUs a node, {model.heads} heads and {model.ffn_hidden} ffn_hidden, and be a divisor or a multiple of "
        f"{model.kv_heads} kv_heads, pipeline parallel must divide "
        f"{model.layers} layers, and data parallel a batch of {config.batch}"
    )


def describe(split: Split) -> str:
    """``TP 8 x PP 8 x DP 16``."""
    context = f" x CP {split.context}" if split.context > 1 else ""
    return f"TP {split.tensor} x PP {split.pipeline}{context} x DP {split.data}" + (f", EP {split.expert}" if split.expert > 1 else "")
