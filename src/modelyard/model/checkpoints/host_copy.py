"""Copies of a rank's state in host memory, from which a checkpoint is written while training goes on.

From a GPU they are made once, into one pinned buffer, on a stream of their own: training computes beside them and waits on the device where it is
about to change what is being copied (:func:`before_change`). The buffer stays for the next checkpoint, because pinning memory takes longer than
copying to it, until :func:`release`. On a CPU the copies go when they are written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from modelyard.log import logger

ALIGNMENT = 64
"""Bytes; a multiple of every element's size."""

_log = logger(__name__)
_buffer: Pinned | None = None
_streams: dict[torch.device, torch.cuda.Stream] = {}
_under_way: torch.cuda.Event | None = None


class Pinned:
    """Host memory that a GPU copies to and from by itself; not rounded up to a power of two, as torch's own pinned tensors are."""

    def __init__(self, size: int, purpose: str) -> None:
        """``size`` bytes; where they cannot be pinned a warning names the ``purpose``, and they are host memory like any."""
        self.bytes = torch.empty(size, dtype=torch.uint8)
        self._registered = int(torch.cuda.cudart().cudaHostRegister(self.bytes.data_ptr(), size, 0)) == 0
        if not self._registered:
            with contextlib.suppress(RuntimeError):  # the error that stays behind is raised by the next kernel: let it be this one
                torch.zeros((), device="cuda")
            gib = size / (1 << 30)
            _log.warning("%.1f GiB of host memory for %s could not be pinned: copying to it holds training for longer", gib, purpose)

    def release(self) -> None:
        """Before it goes: nothing may be copied to it or read from it any more."""
        if self._registered:
            torch.cuda.check_error(int(torch.cuda.cudart().cudaHostUnregister(self.bytes.data_ptr())))
        self._registered = False


def replace(holders: Sequence[Any]) -> Callable[[], None]:
    """Put in the place of each holder's ``data`` a copy in host memory that training does not touch; returns what to call, from any thread,
    before they are read."""
    copies, arrive = copied([holder.data.detach() for holder in holders])
    for holder, copy in zip(holders, copies, strict=True):
        holder.data = copy
    return arrive


def copied(tensors: Sequence[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
    """Copies of ``tensors``, all of one device, and what to call before they are read."""
    if not tensors or tensors[0].device.type == "cpu":
        return [tensor.clone() for tensor in tensors], lambda: None
    global _under_way
    device = tensors[0].device
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    stream, buffer = _streams[device], _room(packed_bytes(tensors))
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        copies = pack(tensors, buffer)
    for tensor in tensors:
        tensor.record_stream(stream)
    _under_way = stream.record_event()
    return copies, _under_way.synchronize


def before_change() -> None:
    """Let what this device is given from now on wait for the copies that are under way."""
    global _under_way
    if _under_way is not None:
        torch.cuda.current_stream().wait_event(_under_way)
        _under_way = None


def release() -> None:
    """Give the buffer back. Nothing may be copied to it or read from it any more."""
    global _buffer
    if _buffer is not None:
        _buffer.release()
    _buffer = None


def pack(tensors: Sequence[Tensor], buffer: Tensor) -> list[Tensor]:
    """Copy ``tensors`` one behind the other into ``buffer`` (bytes); returns them there."""
    copies, start = [], 0
    for tensor in tensors:
        copies.append(buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor, non_blocking=True))
        start += _aligned(tensor)
    return copies


def packed_bytes(tensors: Sequence[Tensor]) -> int:
    """Size of a buffer for :func:`pack`."""
    return sum(_aligned(tensor) for tensor in tensors)


def _aligned(tensor: Tensor) -> int:
    return int(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT)


def _room(size: int) -> Tensor:
    """The buffer, at least ``size`` bytes of pinned memory."""
    global _buffer
    if _buffer is None or _buffer.bytes.numel() < size:
        release()
        _buffer = Pinned(size, "checkpoints")
    return _buffer.bytes
