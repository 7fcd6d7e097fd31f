"""A model in megatron-core's DDP, which sums its gradients over the replicas: in fp32, in place, and without what one rank sends to nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from modelyard.model.network import parallel, weight_gradients
from modelyard.model.network.parallel import Layout
from modelyard.model.training import overlap


def wrapped(modules: Sequence[Any], layout: Layout, overlaps: bool, counted: Callable[[Tensor], None]) -> tuple[list[Any], list[Any]]:
    """The chunks of a model for megatron-core's schedule, and the groups of buckets whose weights are gathered beside what follows an update.

    ``counted`` gets the number of labels of every step, summed over the replicas: gradients are sums, and who updates divides them.
    """
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads

    settings = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=True,
        average_in_collective=False,
        **overlap.settings(overlaps, layout.samplers),
    )
    weight_gradients.install()
    made = [DistributedDataParallel(module.config, settings, module) for module in modules]

    def finish(parts: list[Any], count: Tensor, **groups: Any) -> None:
        """megatron-core's, but for the division by the number of labels, which the optimizer makes."""
        finalize_model_grads(parts, None, **groups)
        counted(parallel.summed_over_replicas(count))

    config = modules[0].config  # the schedule asks no other
    config.finalize_model_grads_func = finish
    config.no_sync_func = [part.no_sync for part in made] if len(made) > 1 else made[0].no_sync
    groups = overlap.groups(made)
    for group in groups:
        if group.intra_distributed_optimizer_instance_size == 1:  # gloo copies every gradient and weight that it sends to nobody
            group.start_grad_sync = group.finish_grad_sync = group.start_param_sync = lambda *_, **__: None
    if overlaps:
        for part in made:
            overlap.wait_where_used(part)
    return made, groups if overlaps else []
