"""One engine trains and scores every model: language models and scalar heads, on one CPU rank or on TP x PP x CP x DP
ranks.

A caller gives global batches (the same on every rank) and a loss over per-position outputs; the engine cuts the batch to this rank's replica,
runs megatron-core's pipeline schedule over micro-batches, and divides the summed loss by the summed count over all of them, so masks and unequal
slices are exact. Randomness is a function of (seed, step), so nothing about it has to be saved. Left out: data loading, loops, losses; saving is
:mod:`modelyard.model.training.state`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from modelyard import progress
from modelyard.execution import ExecutionConfig
from modelyard.model.network import architecture, attention, chunks, context, devices, initialization, parallel, te_layers, weight_gradients
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Head, ModelConfig, Precision
from modelyard.model.training import optimizer, overlap, replicas, sequence_parallel
from modelyard.model.training.batch import SEGMENTS, STEM, Batch, LossFn, LossOutput
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.placement import Placement
from modelyard.model.training.state import Part, Stored

GPU_WIDTHS = 64
"""On a GPU rows are filled up to a multiple of so many tokens: kernels are chosen, and layers compiled, once
a width.
"""


class NotFiniteError(FloatingPointError):
    """A loss or gradient that is infinite or no number; ``rank`` is where it came from."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)  # one argument, or it could not be unpickled
        self.rank = rank


class Engine(Stored):
    """A model on this rank, with an optimizer when it is to be trained."""

    def __init__(
        self,
        model: ModelConfig,
        execution: ExecutionConfig,
        *,
        seed: int,
        precision: Precision,
        head: Head = "lm",
        optim: OptimizerConfig | None = None,
        total_steps: int = 1,
        dropout: float = 0.0,
        lora: LoRAConfig | None = None,
        part: Part = "language",
        body: Engine | None = None,
    ) -> None:
        """``lora``: adapters are trained and the other weights stay; ``part``: of a model that is shown images, what is trained; ``body``: an
        engine whose weights it takes for those that it does not train, so that both are in memory once."""
        self.model, self.head, self.seed, self.precision, self.dropout, self.lora = model, head, seed, precision, dropout, lora
        self.layout, self.device = parallel.initialize(execution), parallel.device()
        self._placement = Placement(model, self.layout, self.device)
        execution = te_layers.of(execution, trains=optim is not None)
        te_layers.require(execution, precision, lora)
        self.part, self.step, self.compile, self._deterministic = part, 0, execution.compile, execution.deterministic
        self._gathered: list[Any] = []  # the buckets whose weights are gathered beside what follows an update
        modules = [architecture.build(model, execution, self.layout, precision, head, dropout, lora, n) for n in range(self.layout.vp)]
        self._gpt = chunks.as_one(modules)
        own = self._share(body) if body is not None else None
        initialization.initialize_weights(self.gpt, model, self.layout, seed, own)
        if self.is_partial:
            for name, parameter in self.gpt.named_parameters():
                parameter.requires_grad_(self._is_trained(name))
        self._sequence_parallel = [switch for module in modules for switch in sequence_parallel.switches(module)]
        widths = GPU_WIDTHS if self.device.type == "cuda" else 1
        self._sequence_multiple = self._width_multiple = te_layers.row_multiple(widths, self.layout.cp, execution)
        self.chunks = modules
        if optim:
            overlaps = overlap.wanted(execution, model, self.device)
            self.chunks, self._gathered = replicas.wrapped(modules, self.layout, overlaps, self._note_count)
        self._summed_in_place = [weight for chunk in modules for weight in chunks.bare(chunk).summed_in_place()] if optim else []
        if optim and execution.compile:
            # Without the hooks around it. Which tokens an expert gets is known only as they come, so experts stay out of the graph.
            compiled = "forward" if model.moe is None else "_forward_attention"
            for layer in self.gpt.decoder.layers:
                setattr(layer, compiled, torch.compile(getattr(layer, compiled)))
        self.optimizer = optimizer.create(optim, self.chunks, precision) if optim else None
        self._clip_grad = optim.clip_grad if optim else 0.0
        self.schedule = optimizer.schedule(optim, self.optimizer, total_steps) if optim else None
        if optim is None:
            self.gpt.requires_grad_(False)

    @property
    def gpt(self) -> Any:
        """This rank's model without megatron-core's wrappers, several chunks as one (:mod:`modelyard.model.network.chunks`)."""
        overlap.wait(self._gathered)
        return self._gpt

    def _note_count(self, labels: Tensor) -> None:
        """Hear how many labels a step's gradients are sums over."""
        self._count = labels

    def _share(self, body: Engine) -> set[str]:
        """Put the other engine's parameters in the place of those that this one does not train; returns the names of the rest."""
        theirs = {name: parameter for name, parameter in body.gpt.named_parameters() if not body._is_trained(name) or not body.lora}
        own = set()
        for name, parameter in list(self.gpt.named_parameters()):
            if (self.lora and self._is_trained(name)) or name not in theirs or theirs[name].shape != parameter.shape:
                own.add(name)
                continue
            place, _, leaf = name.rpartition(".")
            self.gpt.get_submodule(place)._parameters[leaf] = theirs[name]
        return own

    def mode(self, training: bool) -> None:
        """Drop activations as in training, or keep all."""
        for chunk in self.chunks:
            chunk.train(training)

    def split_sequences(self, on: bool) -> None:
        """Sequence parallelism on (to train) or off (to score and generate: nothing is kept for a backward pass, and lengths are free)."""
        if self._sequence_parallel:
            self._sequence_multiple = math.lcm(self._width_multiple, self.layout.cp * self.layout.tp if on else 1)
            for place, attribute in self._sequence_parallel:
                setattr(place, attribute, on)

    def train_step(
        self, batch: Batch | Sequence[Batch], micro_batch: int, loss_fn: LossFn, loss_limit: float = float("inf")
    ) -> dict[str, float]:
        """One optimizer step on a global batch; returns ``loss``, the loss's metrics, ``grad_norm`` and
        ``lr``.

        Several batches, of any widths, make one gradient: sums and counts go over all of them. A loss above
        ``loss_limit`` updates nothing; the step counts, its metrics say ``skipped`` and have no
        ``grad_norm``.

        Raises:
            NotFiniteError: the loss or the gradient norm is not finite; nothing is updated, and every rank
                raises it.
            ValueError: the batch does not divide by data-parallel ranks x micro_batch, or has too few micro-batches for an interleaved
                pipeline.
        """
        assert self.optimizer is not None, "an engine without an optimizer cannot train"
        assert self.schedule is not None
        self._seed_randomness()
        self.mode(training=True)
        self.split_sequences(True)
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        weight_gradients.expect(self._summed_in_place)
        self.optimizer.zero_grad()
        batches = [batch] if isinstance(batch, Batch) else batch
        with devices.repeating(self._deterministic):
            metrics = self._run([self._slice(each, micro_batch) for each in batches], micro_batch, loss_fn, backward=True)
        self.schedule.step(1)
        lr = optimizer.rate(self.optimizer)
        if not all(math.isfinite(value) for value in metrics.values()):
            rank = self._source()
            raise NotFiniteError(f"rank {rank}: loss is {metrics['loss']} at step {self.step}", rank)
        if metrics["loss"] > loss_limit:
            self.step += 1
            return {**metrics, "skipped": 1.0, "lr": lr}
        grad_norm = optimizer.step(self.optimizer, self._clip_grad, self._count, lambda: overlap.begin(self._gathered))
        if not math.isfinite(grad_norm):
            raise NotFiniteError(f"rank {self.layout.rank}: gradient norm is {grad_norm} at step {self.step}", self.layout.rank)
        self.step += 1
        return {**metrics, "grad_norm": grad_norm, "lr": lr}

    def evaluate(self, batch: Batch, micro_batch: int) -> Tensor:
        """Outputs [B, S] without gradients, the same on every rank: log p(label) for a language model, values for a scalar head (fp32).

        Where a label is :data:`~modelyard.model.training.batch.UNLABELLED` stands 0. Of the extras only those that tell a row's texts apart are
        read. A batch is filled up to the replicas' number (in an interleaved pipeline to a micro-batch for each of its ranks), never to
        ``micro_batch``.
        """
        size = batch.tokens.shape[0]
        micro_batch = min(micro_batch, -(-size // self.layout.dp))
        share = self.layout.dp * micro_batch
        padded = max(-(-size // share), self.fewest) * share
        texts = {key: batch.extras[key] for key in (SEGMENTS, STEM) if key in batch.extras}  # what else there is, a loss would read
        batch = batch._replace(extras=texts).filled_up(padded)
        part = self._slice(batch, micro_batch)
        self.mode(training=False)
        self.split_sequences(False)
        outputs: list[Tensor] = []

        def collect(output: Tensor, _: Batch) -> LossOutput:
            outputs.append(output.detach())
            return LossOutput(output.new_zeros(()), torch.ones((), dtype=torch.int, device=output.device), {})

        with torch.no_grad():
            self._schedule([part], micro_batch, collect, backward=False)
        local = torch.cat(outputs) if self.layout.is_last_stage else None
        local = parallel.from_last_stage(local, tuple(part.tokens.shape), torch.float32)
        return parallel.gather_data_parallel(local)[:size]

    @property
    def fewest(self) -> int:
        """Micro-batches of a replica that the schedule needs at least."""
        return self.layout.pp if self.layout.vp > 1 else 1

    def _slice(self, batch: Batch, micro_batch: int) -> Batch:
        size, share = batch.tokens.shape[0], self.layout.dp * micro_batch
        if size % share:
            raise ValueError(f"a batch of {size} does not divide by data_parallel {self.layout.dp} x micro_batch {micro_batch}")
        rows = size // self.layout.dp
        return batch.rows(self.layout.dp_rank * rows, (self.layout.dp_rank + 1) * rows)

    def _run(self, parts: Sequence[Batch], micro_batch: int, loss_fn: LossFn, backward: bool) -> dict[str, float]:
        """Schedule, then the metrics' global means on every rank."""
        reports = self._schedule(parts, micro_batch, loss_fn, backward)
        sums = None
        if self.layout.is_last_stage:
            names = ["loss", "count", *reports[0].metrics]
            sums = torch.stack(
                [torch.stack([r.loss_sum.double(), r.count.double(), *(v.detach().double() for v in r.metrics.values())]) for r in reports]
            ).sum(0)
            self._own_sums = sums.clone()
            parallel.sum_data_parallel(sums)
            values = devices.on_host(sums)
            result = {name: value / max(values[1], 1.0) for name, value in zip(names, values, strict=True) if name != "count"}
        if self.layout.pp > 1:
            box = [result if self.layout.is_last_stage else None]
            from megatron.core import parallel_state

            source = parallel_state.get_pipeline_model_parallel_last_rank()
            dist.broadcast_object_list(box, source, group=parallel_state.get_pipeline_model_parallel_group())
            result = box[0] or {}
        return result

    def _source(self) -> int:
        """The first rank whose own sums are not finite (this one, where they only overflow together); every rank calls it."""
        mine = not self.layout.is_last_stage or bool(self._own_sums.isfinite().all())
        finite: list[bool] = [True] * dist.get_world_size()
        dist.all_gather_object(finite, mine)
        return finite.index(False) if False in finite else self.layout.rank

    def _schedule(self, parts: Sequence[Batch], micro_batch: int, loss_fn: LossFn, backward: bool) -> list[LossOutput]:
        from megatron.core.pipeline_parallel import get_forward_backward_func

        pieces = [part.rows(i, i + micro_batch) for part in parts for i in range(0, part.tokens.shape[0], micro_batch)]
        widest = max(part.tokens.shape[1] for part in parts)
        common = widest if self.layout.pp > 1 else 0  # stages of a pipeline send each other one shape
        if len(pieces) < self.fewest:
            raise ValueError(
                f"{len(pieces)} micro-batches a replica are fewer than pipeline_parallel {self.layout.pp} at virtual_pipeline above 1"
            )
        iterators: list[Iterator[Batch]] = [iter(pieces) for _ in self.chunks]
        # a group of micro-batches goes through a chunk before the next chunk's turn; what would be left over goes with the rest
        chunks.bare(self.chunks[0]).config.microbatch_group_size_per_vp_stage = (
            len(pieces) if len(pieces) % self.layout.pp else self.layout.pp
        )
        with attention.preferred():
            return list(
                get_forward_backward_func()(
                    forward_step_func=lambda iterator, chunk: self._forward(next(iterator), chunk, loss_fn, common),
                    data_iterator=iterators if len(iterators) > 1 else iterators[0],
                    model=self.chunks,
                    num_microbatches=len(pieces),
                    seq_length=widest + -widest % self._sequence_multiple,
                    micro_batch_size=micro_batch,
                    forward_only=not backward,
                )
            )

    def _forward(self, batch: Batch, chunk: Any, loss_fn: LossFn, common: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
        progress.beat()
        gpt = chunks.bare(chunk)
        length = batch.tokens.shape[1]
        wide = max(length, common)
        width = wide + -wide % self._sequence_multiple
        placed = self._placement.placed(batch, width, first=gpt.pre_process, asks=self.head == "lm" and gpt.post_process)
        data = placed.batch  # all that the loss keeps
        labels = placed.labels if self.head == "lm" else None
        output = chunk(placed.tokens, placed.positions, placed.mask, labels=labels, places=placed.places, shown=placed.shown)

        def loss(raw: Tensor) -> tuple[Tensor, Tensor, LossOutput]:
            raw = self._whole(raw)[:, :length]
            # megatron-core returns the cross-entropy of each label: its negative is log p(label)
            output = loss_fn(-raw.float() if self.head == "lm" else raw.float().squeeze(-1), data)
            report = LossOutput(output.loss_sum.detach().clone(), output.count, output.metrics)
            return output.loss_sum, output.count.to(torch.int), report

        return output, loss

    def _whole(self, raw: Tensor) -> Tensor:
        """Outputs [b, S, ...] of all positions from this context rank's; all ranks of the group compute the same of them."""
        from megatron.core import parallel_state

        if self.layout.cp == 1:
            return raw
        group = parallel_state.get_context_parallel_group()
        return context.gathered(raw.transpose(0, 1), group, apart=False).transpose(0, 1)

    def _seed_randomness(self) -> None:
        from megatron.core import tensor_parallel

        if not self.dropout and not (self.lora and self.lora.dropout):
            return  # nothing else is drawn while training
        # what is dropped must differ between replicas, the positions of one, and the layers of one pipeline stage and the next
        place = self.layout.sampler * 7_919 + self.layout.pp_rank * 104_729
        tensor_parallel.model_parallel_cuda_manual_seed((self.seed * 1_000_003 + self.step + place) % (1 << 31), force_reset_rng=True)
