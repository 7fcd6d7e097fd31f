"""Where and how a run happens: store, ranks, cadence of checkpoints and reports. Never part of a fingerprint, but for products in fp8."""

from __future__ import annotations

import re
import shlex
from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.store.storage import Storage

Device = Literal["auto", "cuda", "cpu"]
SERVER = re.compile(r"https?://([^/\s@]+@)?([\w.-]+|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?(/v1)?/?", re.ASCII | re.IGNORECASE)
"""An address, with or without ``/v1``."""
"""The address of a server of completions."""
MOST_THREADS = 4096
"""Of one rank: more than any machine has cores, and torch's pool of them can still be made."""


class ExecutionConfig(Config):
    """Where and how a run happens. Changing any of it never changes what an artifact is, only how often its
    history was logged; ``fp8`` alone, which rounds what is learned, is part of the fingerprint of every stage on
    ranks.
    """

    store: str = "file://.modelyard/store"
    """URL of the artifact store, ``file://`` or ``s3://``."""
    scratch: str = Field(default=".modelyard/scratch", min_length=1)
    """Local (or shared) directory for unfinished work: checkpoints live here until their artifact is committed."""
    inputs: str = ""
    """Directory at which relative paths of a user's own files start that do not lie beside the config; empty: the environment's
    ``MODELYARD_DATA``, else the current directory."""
    beside: tuple[str, ...] = ()
    """Directories of the config's files, where a relative path is looked for first; set when they are read."""
    parallel_stages: bool = False
    """Build stages that do not read each other at the same time; worth it where there is room for both."""
    device: Device = "auto"
    """What ranks compute on: a GPU each (``cuda``; refused where there are too few, waited for on a cluster that grows), the CPU, or GPUs where
    there is one for each, or the cluster's autoscaler has node types with so many (``auto``)."""
    gpu_wait_seconds: float = 1800.0
    """Seconds that a stage waits for GPUs of a cluster that grows before the run ends in one line; 0: however long it takes."""
    tensor_parallel: int = 1
    """Ranks that share every layer's matrices."""
    pipeline_parallel: int = 1
    """Ranks that hold consecutive blocks of layers."""
    virtual_pipeline: int = 1
    """Model chunks that each of them holds and computes in turn (the interleaved schedule of Narayanan et al. 2021): a bubble so many times
    shorter, for as many times more messages. Above 1 a step needs as many micro-batches a replica as there are pipeline ranks, or more."""
    data_parallel: int = 1
    """Replicas that split every global batch; each holds its share of the optimizer's state (megatron-core's distributed optimizer)."""
    context_parallel: int = 1
    """Ranks that share out the positions of every row, for rows too long for one; generation shares out prompts over them instead."""
    expert_parallel: int = 1
    """Ranks of a pipeline stage that share the experts of a mixture-of-experts model; divides ``tensor_parallel`` x ``context_parallel`` x
    ``data_parallel``."""
    sequence_parallel: bool = False
    """Split norms and residuals along the sequence over the tensor-parallel ranks (Korthikanti et al. 2022); at ``tensor_parallel`` 1 there
    is nothing to split. Models with experts always do at ``tensor_parallel`` above 1."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations computed again in the backward pass instead of kept: none, those of core attention, or all of every layer."""
    offload_optimizer: bool = False
    """Keep AdamW's state of the policy and its critic in host memory while an iteration samples, for as much more room on the device as it takes
    there (12 bytes a parameter in bf16, 8 in fp32, over the replicas) and for two copies an iteration; what is trained is the same to the bit."""
    overlap: Literal["auto", "always", "never"] = "auto"
    """Whether replicas sum gradients beside the backward pass and gather updated weights beside the next forward pass, instead of behind
    the one and before the other: on GPUs (``auto``), on CPUs too, or nowhere. Models that are shown images never do."""
    deterministic: bool = False
    """On GPUs, gradients that are the same to the bit whenever they are computed, so that a resumed run is the uninterrupted one: kernels of
    attention otherwise add in the order in which their blocks finish. Attention is then flash's instead of cuDNN's; an operation that has no such
    form is refused by torch, by name. On a CPU this holds anyway."""
    compile: bool = False
    """Train with layers, and on a CPU generate with a step, compiled by torch.compile: faster, for a slow first one
    (docs/benchmarks.md) of every shape and, in generation, of every number of sequences drawn together."""
    transformer_engine: bool = False
    """Train layers of Transformer Engine's (extra ``te``, GPUs only): norm and product in one; checkpoints are
    the same either way. Not for models with experts, images or adapters, for a policy that samples from what it
    trains, or with ``compile``. Not yet run on a GPU.
    """
    fp8: Literal["hybrid", "e4m3"] | None = None
    """Format in which Transformer Engine multiplies: ``hybrid`` takes E4M3 forward and E5M2 for gradients
    (Micikevicius et al. 2022); absent: bf16. Needs ``transformer_engine``, precision bf16, and GPUs of compute
    capability 8.9 or newer.
    """
    fp8_recipe: Literal["tensorwise", "delayed"] = "tensorwise"
    """How a tensor is scaled into that format: by its own greatest value, or by that of the 1,024 steps before,
    which costs no pass over it and is forgotten when a run resumes.
    """
    threads: int = 2
    """CPU threads of one rank."""
    checkpoint_every: int = 100
    """Optimizer steps between checkpoints."""
    checkpoint_iterations: int = 5
    """PPO iterations between checkpoints; one costs as much as many plain steps."""
    checkpoint_store: str = ""
    """URL (``file://`` or ``s3://``) to which finished checkpoints are copied, and from which a machine without them goes on; empty: none."""
    keep_last: int = 2
    """Newest checkpoints that are kept."""
    keep_every: int = 0
    """The first checkpoint of every so many steps is kept as well; 0: none."""
    log_every: int = 10
    """Optimizer steps between progress reports."""
    sampler: str = ""
    """What draws a policy's samples where ``policy.rollouts.backend`` is ``server``: the address of a server that runs, up to its port, or a
    command that starts one (``vllm serve``) and is given DIRECTORY, ``--host`` and ``--port``. Both read the policy's weights from ``scratch``."""
    sampler_reload: bool = True
    """Ask it to take each iteration's weights while it runs, where it can; false: a server that was started for the stage is started anew with them,
    which is slower and leaves nothing of the ones before."""
    sampler_requests: int = 64
    """Completions that it is asked for at once."""
    peak_tflops: float = 0.0
    """Peak of one rank's device at the precision of training, TFLOP/s; MFU is shown where it is known. 0: not known."""
    max_restarts: int = 1
    """Times Ray Train restarts a failed worker group from its last checkpoint."""
    keep_workers: bool = True
    """Keep the workers of a stage for the next one of the same layout, which saves their start; only where
    Ray runs on this machine alone.
    """
    hang_seconds: float = 600.0
    """Seconds without a step or another sign of life on any rank after which the rank at fault is killed and the group restarted; 0 never."""

    @model_validator(mode="after")
    def _positive(self) -> ExecutionConfig:
        for key in (
            "tensor_parallel",
            "pipeline_parallel",
            "virtual_pipeline",
            "data_parallel",
            "context_parallel",
            "expert_parallel",
            "threads",
            "checkpoint_every",
            "checkpoint_iterations",
            "keep_last",
            "log_every",
            "sampler_requests",
        ):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        for key in ("max_restarts", "hang_seconds", "gpu_wait_seconds", "keep_every", "peak_tflops"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be at least 0, got {getattr(self, key)}")
        if self.threads > MOST_THREADS:
            raise ValueError(f"threads must be at most {MOST_THREADS}")
        self._check_transformer_engine()
        self._check_sampler()
        Storage(self.store)  # raises where it is no URL of a store
        if self.checkpoint_store:
            Storage(self.checkpoint_store)
        if self.virtual_pipeline > 1 and self.pipeline_parallel == 1:
            raise ValueError(f"virtual_pipeline {self.virtual_pipeline} needs pipeline_parallel above 1")
        stage = self.tensor_parallel * self.context_parallel * self.data_parallel
        if stage % self.expert_parallel:
            ranks = (
                "tensor_parallel x data_parallel" if self.context_parallel == 1 else "tensor_parallel x context_parallel x data_parallel"
            )
            raise ValueError(f"expert_parallel {self.expert_parallel} does not divide {ranks} {stage}")
        return self

    def _check_sampler(self) -> None:
        address = SERVER.fullmatch(self.sampler)
        try:
            words = shlex.split(self.sampler)
        except ValueError as error:
            raise ValueError(f"sampler: {error}") from None
        is_wrong = not words or re.match(r"\w+://", self.sampler) if address is None else not 0 < int(address["port"] or 80) < 65536
        if self.sampler and is_wrong:
            raise ValueError("sampler: expected http://host:port or a command")
        if address and not self.sampler_reload:
            raise ValueError(
                "sampler_reload: a server that runs already is not started anew; sampler must be a command, or sampler_reload true"
            )

    def _check_transformer_engine(self) -> None:
        if self.fp8 and not self.transformer_engine:
            raise ValueError(f"fp8 {self.fp8!r} needs transformer_engine = true")
        if self.transformer_engine and self.device == "cpu":
            raise ValueError("transformer_engine needs GPUs, and device is 'cpu'")
        if self.transformer_engine and self.compile:
            raise ValueError("transformer_engine builds layers that torch.compile does not enter; set compile or it to false")

    @property
    def roots(self) -> tuple[str, ...]:
        """Where a relative path of a user's own file is looked for, in this order."""
        return (*self.beside, self.inputs)

    @property
    def chunks(self) -> int | None:
        """Model chunks of a pipeline rank as megatron-core counts them: None where the schedule is not interleaved."""
        return self.virtual_pipeline if self.virtual_pipeline > 1 else None

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel * self.data_parallel
