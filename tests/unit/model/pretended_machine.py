"""What the machine around :mod:`pretended_gpu` answers: streams, events, memory, its name, and what torch
builds in for CUDA alone.

Work is done as it is launched, but for copies to host memory on a stream beside: they are done when something
waits for them, the latest that a GPU may take. So what is changed before its copy was waited for is changed
in the copy too. Left out: NCCL, whose place gloo has, and the driver's profiler.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from megatron.core.transformer.moe.token_dispatcher import MoEAlltoAllTokenDispatcher
from torch import Tensor

from modelyard.model.checkpoints import host_copy

from .pretended_gpu import DEVICE, OnGpu, PretendedGpu

NAME = "pretended NVIDIA H200"
TOTAL = 1 << 34
"""Bytes of memory that it says to have."""


class Stream:
    """``torch.cuda.Stream``: the copies that were launched on it and nobody waited for."""

    def __init__(self, *_: object, **__: object) -> None:
        self.copies: list[Callable[[], object]] = []
        self._lock = threading.Lock()  # a checkpoint's thread waits too

    def wait_stream(self, other: Stream) -> None:
        """As ``torch.cuda.Stream.wait_stream``."""
        other.synchronize()

    def wait_event(self, event: Event) -> None:
        """As ``torch.cuda.Stream.wait_event``; the host waits for nothing."""
        if event.stream is not None:
            event.stream.synchronize()

    def record_event(self, event: Event | None = None) -> Event:
        """As ``torch.cuda.Stream.record_event``."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Do what is not done."""
        with self._lock:
            while self.copies:
                self.copies.pop(0)()


class Event:
    """``torch.cuda.Event``, which refuses what CUDA refuses."""

    def __init__(self, enable_timing: bool = False, **_: object) -> None:
        self.timed, self.done, self.at = enable_timing, False, 0.0
        self.stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> None:
        """As ``torch.cuda.Event.record``."""
        machine = Machine.now()
        machine.recorded.append(self)
        self.stream, self.at, self.done = stream or machine.stream, time.perf_counter(), False

    def synchronize(self) -> None:
        """As ``torch.cuda.Event.synchronize``: what its stream was given before it is done."""
        if self.stream is None:
            return
        self.stream.synchronize()
        for event in Machine.now().recorded:
            event.done = event.done or event.stream is self.stream
            if event is self:
                break

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds; RuntimeError as CUDA has it."""
        if not (self.timed and end.timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self.stream is None or end.stream is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if not (self.done and end.done):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end.at - self.at) * 1000


class Machine:
    """The streams and events of a process."""

    _current: Machine | None = None

    def __init__(self, gpu: PretendedGpu) -> None:
        self.gpu, self.stream = gpu, Stream()
        self.streams = [self.stream]
        self.recorded: list[Event] = []

    @classmethod
    def now(cls) -> Machine:
        assert cls._current is not None, "a GPU's event outside of the pretended GPU"
        return cls._current

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """``torch.cuda.stream``."""
        if stream not in self.streams:
            self.streams.append(stream)
        before, self.stream = self.stream, stream
        self.gpu.postponed = None if stream is self.streams[0] else stream.copies
        try:
            yield
        finally:
            self.stream = before
            self.gpu.postponed = None if before is self.streams[0] else before.copies

    def synchronize(self, *_: object) -> None:
        """``torch.cuda.synchronize``."""
        for stream in self.streams:
            stream.synchronize()
        for event in self.recorded:
            event.done = True
        self.recorded.clear()


def patch(patched: pytest.MonkeyPatch, gpu: PretendedGpu) -> None:
    """Let torch answer as on a machine with ``gpu``."""
    machine = Machine(gpu)
    patched.setattr(Machine, "_current", machine)
    patched.setattr(torch.cuda, "Stream", Stream)
    patched.setattr(torch.cuda, "Event", Event)
    patched.setattr(torch.cuda, "stream", machine.on)
    patched.setattr(torch.cuda, "synchronize", machine.synchronize)
    for name in ("current_stream", "default_stream"):
        patched.setattr(torch.cuda, name, lambda *_, name=name: machine.stream if name == "current_stream" else machine.streams[0])
    for name, nothing in {"_streams": {}, "_buffer": None, "_under_way": None}.items():
        patched.setattr(host_copy, name, nothing)  # those of this machine go with it
    patched.setattr(MoEAlltoAllTokenDispatcher, "cuda_dtoh_stream", None)  # kept by a class, made by the first layer of a process
    _patch_answers(patched, gpu)
    patched.setattr(torch, "compile", _compile(gpu))
    patched.setattr(torch, "autocast", lambda device_type, *args, **kwargs: _autocast("cpu", *args, **kwargs))
    patched.setattr(torch.nn.functional, "scaled_dot_product_attention", _attention(torch.nn.functional.scaled_dot_product_attention))


_autocast = torch.autocast


def _patch_answers(patched: pytest.MonkeyPatch, gpu: PretendedGpu) -> None:
    """What is asked of device, memory and libraries."""
    properties = SimpleNamespace(name=NAME, total_memory=TOTAL, multi_processor_count=132, major=9, minor=0)
    answers: dict[str, Callable[[], Any]] = {
        "get_device_properties": lambda: properties,
        "get_device_name": lambda: NAME,
        "get_device_capability": lambda: (properties.major, properties.minor),
        "memory_allocated": lambda: gpu.held,
        "memory_reserved": lambda: gpu.held,
        "max_memory_allocated": lambda: gpu.held_at_most,
        "mem_get_info": lambda: (TOTAL - gpu.held, TOTAL),
        "check_error": lambda: None,
        "cudart": lambda: SimpleNamespace(cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda *_: 0),
    }
    for name, answer in answers.items():
        patched.setattr(torch.cuda, name, lambda *_, answer=answer: answer())
    patched.setattr(torch.cuda.nccl, "version", lambda: (0, 0, 0))


def _compile(gpu: PretendedGpu) -> Callable[..., Any]:
    """``torch.compile``: the same function, counted as one; a module stays one."""

    def compile_(function: Any = None, **_: Any) -> Any:
        if function is None:
            return compile_
        return gpu.as_one(function) if not isinstance(function, torch.nn.Module) else function

    return compile_


def _attention(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``scaled_dot_product_attention``, whose form with the scores in memory makes its causal mask where torch takes the tensors to be."""

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(query, OnGpu) and kwargs.get("is_causal") and not torch.backends.cuda.flash_sdp_enabled():
            kwargs["is_causal"] = False
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=DEVICE).tril()
        return plain(query, key, value, attn_mask, *args, **kwargs)

    return attention
