"""A GPU that is none: tensors that say ``cuda``, whose values lie on the CPU and are real, and that refuse to
meet tensors of the host.

Code that is given them takes the ways that it takes on CUDA, wherever it chooses by a tensor's ``device``;
:mod:`pretended_cuda` answers the other questions. Every operation is counted once, as a GPU launches it, and
every time the host would wait for a result. What torch.compile makes of several operations on a GPU counts as
one (``compiled``).

What this does not show: torch itself sees tensors of the CPU, so kernels and the choice among them are the
CPU's (attention's above all), an operation that is several kernels on a GPU counts once, and nothing but
copies to the host is asynchronous. Streams (:mod:`pretended_machine`) and pinned memory are stand-ins, and NCCL's
collectives are gloo's, which a replay does again.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("cuda", 0)
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal", "is_nonzero")
"""Operations whose result, or its shape, the host reads."""
FREE = [
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "permute",
    "slice",
    "select",
    "expand",
    "detach",
    "alias",
    "unsqueeze",
    "squeeze",
    "split",
    "as_strided",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "unbind",
    "lift_fresh",
    "_reshape_alias",
    "chunk",
    "split_with_sizes",
]
"""Operations that launch nothing."""
MOVES = ("copy_", "_to_copy")
"""Operations that take tensors of both."""


class OnGpu(Tensor):
    """A tensor that says that it is on a GPU. Its memory is the CPU's, and torch's own code sees it there."""

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def get_device(self) -> int:
        return 0

    def record_stream(self, stream: object) -> None:
        pass

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        return PretendedGpu.now().to_host(self, "tolist").tolist()

    def cpu(self) -> Tensor:
        return PretendedGpu.now().to_host(self, "cpu")

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return PretendedGpu.now().launch(func, args, kwargs or {})


def on_gpu(tensor: Tensor) -> Tensor:
    """The same memory as a tensor of the GPU."""
    if isinstance(tensor, OnGpu):
        return tensor
    there = torch.Tensor._make_subclass(OnGpu, tensor)
    PretendedGpu.now().hold(there)
    return there


def on_host(tensor: Tensor) -> Tensor:
    """The same memory as a tensor of the CPU."""
    with torch._C._DisableTorchDispatch(), torch.no_grad():
        place = tensor.storage_offset(), tensor.size(), tensor.stride()
        return torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage(), *place)


class PretendedGpu(TorchDispatchMode):
    """The device and what is counted on it, while it is on."""

    _current: PretendedGpu | None = None

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()
        self.counting = False
        self.captured: Graph | None = None
        """The graph that is being captured."""
        self.postponed: list[Callable[[], object]] | None = None
        """Where copies to host memory that need not be done yet are put: on a stream beside."""
        self.held = self.held_at_most = 0
        """Bytes of the tensors that live; one whose memory is given back while it lives counts on."""
        self._held: dict[int, list[Any]] = {}

    @classmethod
    def now(cls) -> PretendedGpu:
        assert cls._current is not None, "a tensor of the pretended GPU outside of it"
        return cls._current

    def __enter__(self) -> PretendedGpu:
        PretendedGpu._current = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        PretendedGpu._current = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.launch(func, args, kwargs or {})

    def launch(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operation, on the GPU where one of its tensors is there."""
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        if not any(isinstance(one, OnGpu) for one in tensors):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        _refuse_mixing(name, tensors)
        self.count(name, args)
        given: dict[int, Tensor] = {}

        def real(one: Tensor) -> Tensor:
            bare = on_host(one) if isinstance(one, OnGpu) else one
            given[id(bare)] = one
            return bare

        args, kwargs = tree_map_only(Tensor, real, (args, kwargs))
        call = _waited(func) if func.namespace == "c10d" else _EMULATED.get(func, func)
        if name == "copy_" and self.postponed is not None and not isinstance(given[id(args[0])], OnGpu) and args[2:] == (True,):
            self.postponed.append(lambda: on_host(args[0]).copy_(args[1]))
            return given[id(args[0])]
        with torch._C._DisableTorchDispatch():
            found = call(*args, **kwargs)
            if self.captured is not None:
                self.captured.add(lambda: call(*args, **kwargs), found)
            return tree_map_only(Tensor, lambda one: given[id(one)] if id(one) in given else on_gpu(one), found)

    def hold(self, tensor: Tensor) -> None:
        """Count the memory of a tensor until no tensor is left that has it."""
        with torch._C._DisableTorchDispatch():
            memory = tensor.untyped_storage()
            place, size = memory.data_ptr(), memory.nbytes()
        kept = self._held.setdefault(place, [0, size])
        kept[0] += 1
        if kept[0] == 1:
            self.held += size
            self.held_at_most = max(self.held, self.held_at_most)
        weakref.finalize(tensor, self._let_go, place).atexit = False

    def _let_go(self, place: int) -> None:
        kept = self._held[place]
        kept[0] -= 1
        if kept[0] == 0:
            self.held -= self._held.pop(place)[1]

    def count(self, name: str, args: Any = ()) -> None:
        """One more operation of this name, or one more for which the host waits: it reads a result, or
        where results go."""
        by_values = name in ("index", "index_put", "index_put_") and any(
            one is not None and (one.dtype == torch.bool or not isinstance(one, OnGpu)) for one in args[1]
        )
        leaves = name in MOVES and bool(args) and not isinstance(args[0], OnGpu)
        if self.counting and (name in WAITS or by_values or leaves):
            self.waited[name] += 1
        elif self.counting and name not in FREE:
            self.launched[name] += 1

    def to_host(self, tensor: Tensor, name: str) -> Tensor:
        """A copy on the CPU, for which the host waits."""
        if self.counting:
            self.waited[name] += 1
        return on_host(tensor).clone()

    @contextlib.contextmanager
    def counts(self) -> Iterator[None]:
        """Within it operations are counted, from nothing."""
        self.launched.clear()
        self.waited.clear()
        self.counting = True
        try:
            yield
        finally:
            self.counting = False

    def as_one(self, call: Callable[..., Any], name: str = "compiled", waits: bool = False) -> Callable[..., Any]:
        """The same call, counted once under this name: as an operation, or as something that the host
        waits for."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            was, self.counting = self.counting, False
            try:
                return call(*args, **kwargs)
            finally:
                self.counting = was
                if was:
                    (self.waited if waits else self.launched)[name] += 1

        return counted


class Graph:
    """``torch.cuda.CUDAGraph``: operations on fixed memory, done again in their order at each replay,
    which counts as one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], Any], Any]] = []

    def add(self, call: Callable[[], Any], found: Any) -> None:
        """What ``call`` gives belongs into the memory of ``found``."""
        self.calls.append((call, found))

    def replay(self) -> None:
        """As ``CUDAGraph.replay``."""
        PretendedGpu.now().count("graph")
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            for call, found in self.calls:
                for kept, new in zip(*(tree_flatten(one)[0] for one in (found, call())), strict=True):
                    if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                        kept.copy_(new)

    @contextlib.contextmanager
    def capture(self, capture_error_mode: str = "global") -> Iterator[None]:
        """``torch.cuda.graph``: what is done within it is launched by replays alone. Other threads may ask CUDA meanwhile."""
        assert capture_error_mode == "thread_local", "a thread that writes a checkpoint would break the capture"
        gpu = PretendedGpu.now()
        was, gpu.counting, gpu.captured = gpu.counting, False, self
        try:
            yield
        finally:
            gpu.counting, gpu.captured = was, None


def _refuse_mixing(name: str, tensors: list[Tensor]) -> None:
    host = [one for one in tensors if not isinstance(one, OnGpu) and one.dim() > 0]
    if host and name not in MOVES and not name.startswith("index"):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu {tuple(host[0].shape)}")


def _waited(collective: Callable[..., Any]) -> Callable[..., Any]:
    """The collective, over when it returns, as it is for whatever follows it on a GPU's stream."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found = collective(*args, **kwargs)
        torch._C._distributed_c10d.Work.unbox(found[-1] if isinstance(found, tuple) else found).wait()
        return found

    return call


def _wide_addmm(total: Tensor, left: Tensor, right: Tensor, out_dtype: torch.dtype, *, out: Tensor, **scales: Any) -> Tensor:
    """cuBLAS's product of bf16 factors added to an fp32 sum, which a CPU lacks."""
    return torch.addmm(total, left.to(out_dtype), right.to(out_dtype), out=out, **scales)


_EMULATED = {torch.ops.aten.addmm.dtype_out: _wide_addmm}
