"""AdamW's state in host memory while engines only sample and score: room on a GPU for the caches of a rollout.

8 bytes a parameter in fp32 and 12 in bf16 (two moments and, in bf16, the weights in fp32), cut over the replicas, leave the device and come back to
the bit. The tensors stay the same objects and only their memory goes, so that optimizer, checkpoints and views need not know. In fp32 the optimizer's
weights are the model's own memory and stay. Left out: gradients, and moving anything while an update runs (Rajbhandari et al. 2021, ZeRO-Infinity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from modelyard.model.checkpoints import host_copy
from modelyard.model.training import optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")


class Offload:
    """What moves the state of some optimizers. Within its ``with`` the host memory stays for the next time: pinning it takes longer than a copy."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        """``optimizers``: megatron-core's; without any nothing is ever moved."""
        self._optimizers = list(optimizers)
        self._buffer: Tensor | None = None
        self._pinned: host_copy.Pinned | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pinned is not None:
            self._pinned.release()
        self._buffer = self._pinned = None

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Within it the state takes no memory of the device, and no update may be made."""
        tensors = [tensor for one in self._optimizers for tensor in state_of(one)]
        if not tensors:
            yield
            return
        host_copy.before_change()  # a checkpoint may be reading them
        copies = host_copy.pack(tensors, self._room(tensors))
        for tensor in tensors:
            tensor.untyped_storage().resize_(0)
        try:
            yield
        finally:
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.untyped_storage().resize_(copy.nbytes)
                tensor.copy_(copy, non_blocking=True)
            if tensors[0].device.type == "cuda":
                torch.cuda.current_stream().synchronize()  # what is in host memory may be written over once this returns

    def _room(self, tensors: Sequence[Tensor]) -> Tensor:
        size = host_copy.packed_bytes(tensors)
        if self._buffer is None or self._buffer.numel() < size:
            self.__exit__(None, None, None)
            if tensors[0].device.type == "cuda":
                self._pinned = host_copy.Pinned(size, "the optimizer's state")
            self._buffer = self._pinned.bytes if self._pinned else torch.empty(size, dtype=torch.uint8)
        return self._buffer


def state_of(whole: Any) -> list[Tensor]:
    """The tensors of megatron-core's optimizer that have memory of their own on this rank: moments and, in bf16, weights in fp32."""
    tensors = []
    for part in optimizer.training_parts(whole):
        tensors += [state[name] for state in part.optimizer.state.values() for name in MOMENTS if name in state]
        tensors += [weight.detach() for group in part.shard_fp32_from_float16_groups for weight in group if weight is not None]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors), "memory that something else shares"
    return tensors
