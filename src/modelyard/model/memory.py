"""Parameters and memory of one rank, counted from the model's shape: what :mod:`modelyard.model.plan` lays out, tested against real small models.

Weights, gradients and optimizer are those of :mod:`modelyard.model.engine`: gradients are kept in fp32; AdamW holds two fp32 moments and, under bf16,
an fp32 copy of the weights, and the distributed optimizer cuts these over the replicas (Rajbhandari et al. 2020, ZeRO stage 1). Activations are the
tensors that autograd keeps for the layer spec of :mod:`modelyard.model.architecture` (the terms are Korthikanti et al. 2022, section 4, without its
dropout masks and attention scores, which are never materialised here). Left out: buffers of collectives, workspace of kernels and
fragmentation (the plan's reserve is for them), and tokens that a mixture's router sends to one expert more than to another.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from modelyard.model import fused
from modelyard.model.architecture import ModelConfig, Precision

Recompute = Literal["none", "full"]
FP32 = 4


class Split(NamedTuple):
    """How a model is cut: ranks of a tensor, pipeline, data and expert dimension (expert ranks are taken from the data dimension)."""

    tensor: int
    pipeline: int
    data: int
    expert: int = 1

    @property
    def ranks(self) -> int:
        """GPUs that the layout takes."""
        return self.tensor * self.pipeline * self.data


class Schedule(NamedTuple):
    """How a step runs on a layout: rows of a micro-batch, micro-batches of a step, model chunks a stage holds, and what is recomputed."""

    micro_batch: int
    microbatches: int
    chunks: int
    recompute: Recompute


class RankParameters(NamedTuple):
    """Trainable parameters of one rank: those every replica holds, and experts, which expert-parallel ranks divide among them."""

    dense: int
    expert: int


class Memory(NamedTuple):
    """Bytes of one rank at the peak of a step, by part."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self)


def element_bytes(precision: Precision) -> int:
    """Bytes of a weight."""
    return 2 if precision == "bf16" else FP32


def optimizer_bytes(precision: Precision) -> int:
    """Bytes of AdamW for one weight: two moments and, under bf16, the weight in fp32."""
    return 3 * FP32 if precision == "bf16" else 2 * FP32


def stage_parameters(model: ModelConfig, split: Split, stage: int) -> RankParameters:
    """Parameters of any tensor-parallel rank of pipeline stage ``stage``."""
    t, h = split.tensor, model.hidden
    gpt = model.style == "gpt"
    kv = h // model.heads * model.kv_heads
    norm = 2 * h if gpt else h
    matrices = 2 * h * h + 2 * h * kv
    split_biases, whole_biases = (h + 2 * kv, h) if gpt else (0, 0)
    layer = (matrices + split_biases) // t + whole_biases + 2 * norm
    ffn = (2 * h * model.ffn_hidden + model.ffn_hidden) // t + h if gpt else 3 * h * model.ffn_hidden // t
    layers = model.layers // split.pipeline
    dense, expert = layers * (layer + ffn), 0
    embedding = model.vocab_size * h // t
    first, last = stage == 0, stage == split.pipeline - 1
    if first:
        dense += embedding + (model.seq_len * h if gpt else 0)
    if last:
        dense += norm + (0 if model.tie_embeddings and first else embedding)
    return RankParameters(dense, expert)


def layer_activations(model: ModelConfig, tensor: int, precision: Precision) -> float:
    """Bytes a token that autograd keeps of one layer on one of ``tensor`` ranks with sequence parallelism."""
    size, h, f = element_bytes(precision), model.hidden, model.ffn_hidden
    kv = h // model.heads * model.kv_heads
    softmax = FP32 * model.heads  # the log-sum-exp of each head's scores
    if model.style == "gpt":
        norms = 2 * (2 * size * h + 2 * size)  # input, output, mean, 1/std
        regrouped = h if model.kv_heads < model.heads else 0  # queries are copied out of the fused tensor when they share keys
        attention = size * (2 * h + 2 * kv + regrouped)  # fused queries, keys and values; context
        return (norms + attention + softmax + size * 2 * f) / tensor
    norms = 2 * (2 * FP32 * h + size * h + FP32)  # input and normalised input in fp32, output, 1/rms
    attention = size * (3 * h + 3 * kv)  # as above, and queries and keys after their rotation
    return (norms + attention + softmax + size * 5 * f) / tensor  # gate and up fused, gate, silu(gate), up, their product


def in_flight(split: Split, schedule: Schedule, stage: int) -> float:
    """Micro-batches whose activations ``stage`` holds at once, in whole-stage units (1F1B; Narayanan et al. 2021, section 2.2)."""
    behind = split.pipeline - stage
    if schedule.chunks == 1:
        return min(schedule.microbatches, behind)
    warmup = (schedule.chunks - 1) * split.pipeline + 2 * (behind - 1) + 1
    return min(schedule.microbatches * schedule.chunks, warmup) / schedule.chunks


def rank_memory(
    model: ModelConfig, split: Split, schedule: Schedule, precision: Precision, distributed_optimizer: bool, stage: int
) -> Memory:
    """Bytes by part of a rank of pipeline stage ``stage``."""
    size = element_bytes(precision)
    parameters = stage_parameters(model, split, stage)
    replicas = split.data if distributed_optimizer else 1
    expert_replicas = split.data // split.expert if distributed_optimizer else 1
    optimizer = optimizer_bytes(precision) * (-(-parameters.dense // replicas) + -(-parameters.expert // expert_replicas))
    tokens = schedule.micro_batch * model.seq_len
    layers = model.layers // split.pipeline
    layer = layer_activations(model, split.tensor, precision)
    held = in_flight(split, schedule, stage)
    kept = size * model.hidden / split.tensor  # a recomputed layer keeps its input
    per_token = held * layers * layer if schedule.recompute == "none" else held * layers * kept + layer
    logits = 0.0
    if stage == split.pipeline - 1:
        # what the last norm keeps; the kept probabilities and one piece of logits and their softmax in fp32 (see label_logprobs)
        per_token += (2 * FP32 + size if model.style == "llama" else 2 * size) * model.hidden / split.tensor
        elements = tokens * model.vocab_size / split.tensor
        logits = elements * size if elements * size <= fused.KEPT_BYTES else 0.0
        logits += 2 * FP32 * min(elements, fused.PIECE_ELEMENTS["cuda"])
    return Memory(
        weights=size * sum(parameters),
        gradients=FP32 * sum(parameters),
        optimizer=optimizer,
        activations=round(tokens * per_token),
        logits=round(logits),
    )


def peak_memory(model: ModelConfig, split: Split, schedule: Schedule, precision: Precision, distributed_optimizer: bool) -> Memory:
    """Memory of the stage that needs most: the first (embedding, most micro-batches in flight), one after it, or the last (logits)."""
    stages = {0, min(1, split.pipeline - 1), split.pipeline - 1}
    return max((rank_memory(model, split, schedule, precision, distributed_optimizer, stage) for stage in stages), key=lambda m: m.total)
