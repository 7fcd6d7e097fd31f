"""Parameters and memory of one rank, counted from the model's shape and tested against real small models.

:mod:`modelyard.model.plan.planning` lays them out. Weights, gradients and optimizer are those of :mod:`modelyard.model.training.engine`:
gradients are kept in fp32; AdamW holds two fp32 moments and, under bf16, an fp32 copy of the weights, and the distributed optimizer cuts these
over the replicas (Rajbhandari et al. 2020, ZeRO stage 1). A rank holds whole experts, and tensor-parallel ranks split sequences where they do
not split matrices (sequence parallelism). Activations are the tensors that autograd keeps for the layer spec of
:mod:`modelyard.model.network.architecture` (the terms are Korthikanti et al. 2022, section 4, without its dropout masks and attention scores,
which are never materialised here). Left out: masks, buffers of collectives, workspace of kernels, fragmentation and the padding of flat buffers (the
plan's reserve is for them), tokens that a mixture's router sends to one expert more than to another, and activations of a patch encoder. With
adapters (LoRA) only they have gradients and optimizer; autograd keeps their ranks' columns and no normalised input of the frozen norms.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from modelyard.model.network import fused
from modelyard.model.network.lora import LoRAConfig, Target
from modelyard.model.network.model_config import ModelConfig, Precision

Recompute = Literal["none", "full"]
FP32 = 4


class Split(NamedTuple):
    """How a model is cut: ranks of its tensor, pipeline and data dimensions; ``expert`` ranks of tensor x context x data share the experts
    out, ``context`` ranks the positions of a row."""

    tensor: int
    pipeline: int
    data: int
    expert: int = 1
    context: int = 1

    @property
    def ranks(self) -> int:
        """GPUs that the layout takes."""
        return self.tensor * self.pipeline * self.replicas

    @property
    def replicas(self) -> int:
        """Ranks that hold the same part of the model, and divide its optimizer among them."""
        return self.data * self.context

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same experts."""
        return self.tensor * self.replicas // self.expert

    @property
    def expert_cuts(self) -> int:
        """Ranks over which the optimizer of the same experts is cut: those that hold them; only the replicas where no rank shares experts out, since
        megatron-core takes such experts for weights like any."""
        return self.expert_replicas if self.expert > 1 else self.replicas


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
    t, h, f = split.tensor, model.hidden, model.ffn_hidden
    norm = 2 * h if model.style == "gpt" else h
    queries, kv = model.head_width * model.heads, model.head_width * model.kv_heads
    layer = (2 * h * queries + 2 * h * kv) // t + 2 * norm
    if model.has_biases:
        layer += (queries + 2 * kv + f) // t + 2 * h
    layer += model.variant.qkv_bias * (queries + 2 * kv) // t + model.variant.qk_norm * 2 * model.head_width
    matrices = (3 if model.style == "llama" else 2) * h * f
    layer += h * model.moe.experts if model.moe else matrices // t
    layers = model.layers // split.pipeline
    dense = layers * layer
    expert = layers * model.moe.experts // split.expert * matrices if model.moe else 0
    embedding = model.padded_vocab(t) * h // t
    first, last = stage == 0, stage == split.pipeline - 1
    if first:
        dense += embedding + (model.seq_len * h if model.style == "gpt" else 0)
        dense += model.vision.parameters(h, t) if model.vision else 0
    if last:
        dense += norm + (0 if model.tie_embeddings and first else embedding)
    return RankParameters(dense, expert)


def adapter_parameters(model: ModelConfig, split: Split, lora: LoRAConfig) -> int:
    """Parameters of the adapters on any tensor-parallel rank of a pipeline stage (Hu et al. 2021, section 4.1): B is cut under column-parallel
    products (but for those of queries, keys and values where ranks share a key head), A under row-parallel ones."""
    h, queries, kv = model.hidden, model.head_width * model.heads, model.head_width * model.kv_heads
    column: dict[Target, int] = {"q_proj": queries, "k_proj": kv, "v_proj": kv, "gate_proj": model.ffn_hidden, "up_proj": model.ffn_hidden}
    row: dict[Target, int] = {"o_proj": queries, "down_proj": model.ffn_hidden}
    whole: tuple[Target, ...] = ("q_proj", "k_proj", "v_proj") if model.kv_heads < split.tensor else ()
    widths = sum(h + {**column, **row}[name] // (1 if name in whole else split.tensor) for name in lora.targets)
    return model.layers // split.pipeline * lora.rank * widths


def layer_activations(model: ModelConfig, tensor: int, precision: Precision) -> float:
    """Bytes a token that autograd keeps of one layer on one of ``tensor`` ranks."""
    size, h, gpt = element_bytes(precision), model.hidden, model.style == "gpt"
    queries, kv = model.head_width * model.heads, model.head_width * model.kv_heads_on(tensor) * tensor  # of all ranks together
    gathered = (tensor - 1) * (queries + 2 * model.head_width * model.kv_heads) if model.kv_heads < tensor else 0
    if gpt:
        norms = 2 * (2 * size * h + 2 * size)  # input, output, mean, 1/std
        apart = queries if kv < queries else 0  # queries are copied out of the fused tensor when they share keys
    else:
        norms = 2 * (2 * FP32 * h + size * h + FP32)  # input and normalised input in fp32, output, 1/rms
        apart = queries + kv  # queries and keys after their rotation
        if model.variant.qk_norm:
            norms += FP32 * (2 * (queries + kv) + model.heads + model.kv_heads)  # as above, but the rotation keeps no input; not measured
    fused = queries + 2 * min(kv, model.head_width * model.kv_heads) + gathered  # whole on each rank where ranks share a key head
    attention = size * (fused + queries + apart) + FP32 * model.heads  # with the context, and the log-sum-exp of the scores
    kept = 2 if gpt else 5  # before and after GELU, or: gate and up fused, gate, silu(gate), up, their product
    if model.moe is None:
        return (norms + attention + size * kept * model.ffn_hidden) / tensor
    kept = 2 if gpt else 4  # an expert has no second copy of up
    routed = size * (h + (kept + 1) * model.ffn_hidden)  # a token's copy for an expert, the block, its output before the gate
    router = 24 * model.moe.top_k + 5 * model.moe.experts
    return (norms + attention + model.moe.top_k * routed + router) / tensor


def in_flight(split: Split, schedule: Schedule, stage: int) -> float:
    """Micro-batches whose activations ``stage`` holds at once, in whole-stage units (1F1B; Narayanan et al. 2021, section 2.2)."""
    behind = split.pipeline - stage
    if schedule.chunks == 1:
        return min(schedule.microbatches, behind)
    warmup = (schedule.chunks - 1) * split.pipeline + 2 * (behind - 1) + 1
    return min(schedule.microbatches * schedule.chunks, warmup) / schedule.chunks


def rank_memory(
    model: ModelConfig,
    split: Split,
    schedule: Schedule,
    precision: Precision,
    stage: int,
    replicas: int | None = None,
    lora: LoRAConfig | None = None,
) -> Memory:
    """Bytes by part of a rank of pipeline stage ``stage``; ``replicas=1`` says what it were without the distributed optimizer, ``lora`` with
    adapters in place of training all weights."""
    size = element_bytes(precision)
    held = sum(stage_parameters(model, split, stage)) + (adapter_parameters(model, split, lora) if lora else 0)
    parameters = RankParameters(adapter_parameters(model, split, lora), 0) if lora else stage_parameters(model, split, stage)
    dense, expert = -(-parameters.dense // (replicas or split.replicas)), -(-parameters.expert // (replicas or split.expert_cuts))
    optimizer = optimizer_bytes(precision) * (dense + expert)
    tokens = schedule.micro_batch * model.seq_len / split.context
    layers = model.layers // split.pipeline
    layer = layer_activations(model, split.tensor, precision)
    # keys and values of the other context ranks
    layer += (split.context - 1) * size * 2 * model.head_width * model.kv_heads_on(split.tensor)
    normalised = FP32 * model.hidden / split.tensor if lora else 0.0  # what a frozen norm need not keep
    if lora:
        layer += size * lora.rank * len(lora.targets) - 2 * normalised
    batches = in_flight(split, schedule, stage)
    kept = size * model.hidden / split.tensor  # a recomputed layer keeps its input
    per_token = batches * layers * layer if schedule.recompute == "none" else batches * layers * kept + layer
    logits = 0.0
    if stage == split.pipeline - 1:
        # what the last norm keeps; the logits, all of them where they are kept, else one piece (see label_logprobs)
        per_token += (2 * FP32 + size if model.style == "llama" else 2 * size) * model.hidden / split.tensor - normalised
        elements = tokens * model.padded_vocab(split.tensor) / split.tensor
        logits = size * (elements if elements * size <= fused.KEPT_BYTES["cuda"] else min(elements, fused.PIECE_ELEMENTS["cuda"]))
    return Memory(
        weights=size * held,
        gradients=FP32 * sum(parameters),
        optimizer=optimizer,
        activations=round(tokens * per_token),
        logits=round(logits),
    )


def peak_memory(
    model: ModelConfig,
    split: Split,
    schedule: Schedule,
    precision: Precision,
    replicas: int | None = None,
    lora: LoRAConfig | None = None,
) -> Memory:
    """Memory of the stage that needs most: the first (embedding, most micro-batches in flight), one after it, or the last (logits)."""
    stages = {0, min(1, split.pipeline - 1), split.pipeline - 1}
    return max((rank_memory(model, split, schedule, precision, stage, replicas, lora) for stage in stages), key=lambda memory: memory.total)


def checkpoint_bytes(model: ModelConfig, split: Split, precision: Precision, stage: int, lora: LoRAConfig | None = None) -> int:
    """Bytes of a checkpoint that a rank of pipeline stage ``stage`` copies to host memory and writes: its share of what is trained and of the
    optimizer. Of a tied embedding on two stages the first writes it."""
    parameters = RankParameters(adapter_parameters(model, split, lora), 0) if lora else stage_parameters(model, split, stage)
    dense = parameters.dense
    if model.tie_embeddings and stage == split.pipeline - 1 > 0 and not lora:
        dense -= model.padded_vocab(split.tensor) * model.hidden // split.tensor
    weights, state = (-(-dense // split.replicas) + -(-parameters.expert // ranks) for ranks in (split.expert_replicas, split.expert_cuts))
    return weights * element_bytes(precision) + state * optimizer_bytes(precision)


def peak_checkpoint_bytes(model: ModelConfig, split: Split, precision: Precision, lora: LoRAConfig | None = None) -> int:
    """The same of the stage that writes most."""
    stages = {0, min(1, split.pipeline - 1), split.pipeline - 1}
    return max(checkpoint_bytes(model, split, precision, stage, lora) for stage in stages)
