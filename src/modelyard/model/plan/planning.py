"""What a model of any size would need: parameters, FLOPs, memory per GPU, a layout that fits, bubble, days and GPU-hours. Nothing is started.

FLOPs of a token are PaLM's (appendix B): 6 x parameters that multiply + 12 x layers x hidden x sequence; a mixture counts the experts a token uses.
Attention is counted over whole rows, also where masks keep a row's documents apart: what they hide is computed all the same.
The bubble of the pipeline schedule is (p - 1) / (m v + p - 1) for p stages, m micro-batches and v chunks a stage (Narayanan et al. 2021, section
2.2). Time is FLOPs / (GPUs x peak x MFU x (1 - bubble)), four thirds of that when activations are recomputed. Among the layouts that fit, the
fastest is taken, then the one that cuts the model least; tensor parallelism stays inside a node (Narayanan et al., takeaway 1). Left out: the
cost of communication, which the MFU has to stand for, and time for evaluation, checkpoints and failures in the days; what a checkpoint costs is
said beside them, at rates that are given.
"""

from __future__ import annotations

from modelyard.config import Config
from modelyard.model.plan import memory
from modelyard.model.plan.layout_search import Candidate, Machine, PlanConfig, describe, indivisible, layouts
from modelyard.model.plan.memory import Recompute, Split

GIB = 1 << 30


class PlanError(ValueError):
    """Nothing fits; the message is one line that says how much is missing."""


class Plan(Config):
    """A run laid out; what ``--json`` writes. Bytes are those of the GPU that needs most."""

    parameters: int
    """Parameters of the model."""
    trained: int
    """Parameters that are trained: all of them, or those of adapters."""
    active_parameters: int
    """Parameters a token passes through (fewer than all in a mixture of experts)."""
    flops: float
    """Training FLOPs of the run, recomputation not counted."""
    steps: int
    """Optimizer steps."""
    tensor_parallel: int
    """Ranks of a layer's matrices; above 1 with sequence parallelism."""
    pipeline_parallel: int
    """Pipeline stages."""
    data_parallel: int
    """Replicas."""
    context_parallel: int
    """Ranks that share out the positions of a row."""
    expert_parallel: int
    """Ranks of tensor x context x data parallelism that share the experts of a mixture out."""
    micro_batch: int
    """Sequences of one forward and backward."""
    microbatches: int
    """Micro-batches of a step on each replica."""
    recompute: Recompute
    """Whether layers are computed again in the backward pass."""
    weights_bytes: int
    """Weights."""
    gradients_bytes: int
    """Gradients, fp32."""
    optimizer_bytes: int
    """Optimizer, cut over the replicas (distributed optimizer)."""
    undistributed_optimizer_bytes: int
    """Optimizer, were it whole on each replica."""
    activations_bytes: int
    """Activations of the micro-batches in flight."""
    logits_bytes: int
    """Logits and their softmax."""
    total_bytes: int
    """All of these."""
    free_bytes: int
    """Left of the memory after these and the reserve."""
    checkpoint_bytes: int
    """One checkpoint: what is trained and its optimizer, whole."""
    checkpoint_rank_bytes: int
    """What the rank with most copies to host memory and writes of it: its own share, nothing is gathered."""
    checkpoint_node_bytes: int
    """The same for all ranks of a node: host memory that checkpoints take there, and what its disk is given."""
    checkpoint_held_seconds: float
    """How long a checkpoint keeps weights from being changed: until a rank's share is copied."""
    checkpoint_write_seconds: float
    """How long it is written, beside training; a next one that begins earlier waits."""
    bubble: float
    """Share of the time a stage waits: (p - 1) / (m v + p - 1)."""
    utilisation: float
    """Model FLOPs utilisation, bubble and recomputation included."""
    days: float
    """Expected time of the run."""
    gpu_hours: float
    """The same in GPU-hours."""


def plan(config: PlanConfig, machine: Machine) -> Plan:
    """The best layout of ``config`` on ``machine``.

    Raises:
        PlanError: no layout divides evenly, or none fits; one line with what is missing.
    """
    candidates = list(layouts(config, machine))
    if not candidates:
        raise PlanError(indivisible(config, machine))
    budget = (machine.memory_gib - machine.reserve_gib) * GIB
    fitting = [candidate for candidate in candidates if candidate.memory.total <= budget]
    if not fitting:
        nearest = min(candidates, key=lambda candidate: candidate.memory.total)
        need, parts = nearest.memory.total / GIB, " + ".join(f"{v / GIB:.1f} {k}" for k, v in nearest.memory._asdict().items())
        raise PlanError(
            f"{config.model.parameters():,} parameters do not fit {machine.gpus} GPUs of {machine.memory_gib:g} GiB: the leanest layout "
            f"({describe(nearest.split)}, recompute {nearest.schedule.recompute}) needs {need:.1f} GiB a GPU ({parts}) and "
            f"{machine.reserve_gib:g} GiB are kept in reserve: "
            f"{need + machine.reserve_gib - machine.memory_gib:.1f} GiB a GPU are missing"
        )
    return _planned(config, machine, min(fitting, key=lambda candidate: candidate.order))


def _planned(config: PlanConfig, machine: Machine, best: Candidate) -> Plan:
    model, split, schedule = config.model, best.split, best.schedule
    flops = model.flops_per_token() * config.tokens
    seconds = flops / (machine.gpus * machine.peak_tflops * 1e12 * best.utilisation)
    whole = memory.peak_memory(model, split, schedule, config.precision, replicas=1, lora=config.lora)
    parameters = model.parameters()
    trained = memory.adapter_parameters(model, Split(1, 1, 1), config.lora) if config.lora else parameters
    share = memory.peak_checkpoint_bytes(model, split, config.precision, config.lora)
    node = share * min(machine.gpus, machine.gpus_per_node)
    return Plan(
        parameters=parameters,
        trained=trained,
        active_parameters=model.parameters(active=True),
        flops=flops,
        steps=-(-config.tokens // (config.batch * model.seq_len)),
        tensor_parallel=split.tensor,
        pipeline_parallel=split.pipeline,
        data_parallel=split.data,
        context_parallel=split.context,
        expert_parallel=split.expert,
        micro_batch=schedule.micro_batch,
        microbatches=schedule.microbatches,
        recompute=schedule.recompute,
        **{f"{part}_bytes": value for part, value in best.memory._asdict().items()},
        undistributed_optimizer_bytes=whole.optimizer,
        total_bytes=best.memory.total,
        free_bytes=int((machine.memory_gib - machine.reserve_gib) * GIB) - best.memory.total,
        checkpoint_bytes=trained * (memory.element_bytes(config.precision) + memory.optimizer_bytes(config.precision)),
        checkpoint_rank_bytes=share,
        checkpoint_node_bytes=node,
        checkpoint_held_seconds=share / GIB / machine.copy_gib_per_second,
        checkpoint_write_seconds=node / GIB / machine.disk_gib_per_second,
        bubble=best.bubble,
        utilisation=best.utilisation,
        days=seconds / 86_400,
        gpu_hours=machine.gpus * seconds / 3600,
    )


def text(config: PlanConfig, machine: Machine, result: Plan) -> str:
    """The plan for reading."""

    def gib(size: int) -> str:
        return f"{size / GIB:8.2f} GiB"

    parallel = (result.tensor_parallel, result.pipeline_parallel, result.data_parallel, result.expert_parallel, result.context_parallel)
    lines = [
        f"parameters    {result.parameters:,} ({result.active_parameters:,} active, {result.trained:,} trained)",
        f"FLOPs         {result.flops:.3e} for {config.tokens:,} tokens: {config.tokens:,} x {config.model.flops_per_token():.3e} a token",
        f"layout        {describe(Split(*parallel))} on {machine.gpus} GPUs, distributed optimizer",
        f"batch         {config.batch} = DP {result.data_parallel} x {result.microbatches} micro-batches x {result.micro_batch}; "
        f"{result.steps:,} steps",
        f"bubble        {result.bubble:.1%} = (p - 1) / (m v + p - 1), p = {result.pipeline_parallel}, m = {result.microbatches}, "
        f"v = {machine.chunks}",
        f"recompute     {result.recompute}",
        f"memory per GPU, of {machine.memory_gib:g} GiB",
        f"  weights     {gib(result.weights_bytes)}",
        f"  gradients   {gib(result.gradients_bytes)}",
        f"  optimizer   {gib(result.optimizer_bytes)} ({gib(result.undistributed_optimizer_bytes).strip()} if not distributed)",
        f"  activations {gib(result.activations_bytes)}",
        f"  logits      {gib(result.logits_bytes)}",
        f"  reserve     {gib(int(machine.reserve_gib * GIB))}",
        f"  free        {gib(result.free_bytes)}",
        f"checkpoint    {result.checkpoint_bytes / GIB:,.1f} GiB, of which a rank copies and writes {result.checkpoint_rank_bytes / GIB:,.2f} GiB",
        f"  host memory {gib(result.checkpoint_node_bytes)} a node",
        f"  held        {result.checkpoint_held_seconds:8.2f} s at {machine.copy_gib_per_second:g} GiB/s from a GPU",
        f"  written in  {result.checkpoint_write_seconds:8.1f} s at {machine.disk_gib_per_second:g} GiB/s to a node's disk, beside training",
        f"time          {result.days:,.1f} days, {result.gpu_hours:,.0f} GPU-hours at {result.utilisation:.1%} of {machine.peak_tflops:g} TFLOP/s "
        f"(MFU {machine.mfu:.0%} before bubble and recomputation)",
    ]
    return "\n".join(lines) + "\n"
