"""Writes one checkpoint beside training: a rank's part of the state is copied, a thread of it writes the copy, and the next save waits for it.

The format is megatron-core's; its own writers start a manager process and one writer process a bucket for each save, which costs seconds on a
small machine, so torch's file writer runs here in a thread. The threads of the ranks speak to each other over a gloo group of their own, so
they never meet the collectives of training; there they agree on what is written, and that it has no gaps and no overlaps. One save at a time (of
models that are trained together, one of all); whatever fails in it fails on every rank, with one line, when it is waited for.
"""

from __future__ import annotations

import errno
import functools
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from modelyard.complaint import complaint
from modelyard.log import logger
from modelyard.model.checkpoints import host_copy
from modelyard.model.network import disks, parallel
from modelyard.progress import StopError, beat

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHORT_WRITE = "unexpected pos"
"""What torch's zip writer says, in place of the error itself, when a file has taken fewer bytes than it was given."""
MIB = 1 << 20

Part = Callable[[], None]
Sealed = tuple[Path, Callable[[Any], None]]
"""A directory, and what is run on every rank's thread once all have written to it."""
_log = logger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written, on ``rank`` where that is known; the message is one line naming the directory and the cause."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


class DiskFullError(StopError):
    """A checkpoint for which there is no room; trying again would end the same way."""


class Writing(NamedTuple):
    """A checkpoint to write."""

    state: dict[str, Any]
    """Sharded state dict."""
    directory: Path
    """Where it goes; it exists."""
    seal: Callable[[Any], None]
    """Run on every rank's thread, with the threads' process group, once all ranks have written."""


def start(writings: Sequence[Writing], then: Sequence[Sequence[Part]] = (), *, copies: bool) -> None:
    """Copy the states and write them in the background, one after the other; every rank calls it, after :func:`wait`.

    Without ``copies`` the caller changes nothing before :func:`wait` has returned. When one fails those behind it are not written. When all
    are whole the parts of ``then`` run on every rank's thread, chain by chain, each when the one before is done on all ranks; one that fails is
    logged and the last of its chain.
    """
    global _thread
    group = parallel.background_group()
    deferred = [_deferred(writing) for writing in writings]
    arrive = host_copy.replace([tensor for each in deferred for tensor in each.tensors]) if copies else None
    # The thread is given no state: what it has written is nobody's any more.
    arguments = ([(each.directory, each.seal) for each in writings], deferred, then, arrive, group)
    _thread = threading.Thread(target=_write_all, args=arguments, name="checkpoint", daemon=True)
    _thread.start()


def wait() -> None:
    """Return when the last save is done.

    Raises:
        DiskFullError: some rank found no room for it; what it had written is deleted.
        CheckpointError: it failed for another reason.
    """
    global _thread, _error
    if _thread is not None:
        _thread.join()
    error, _thread, _error = _error, None, None
    if error is not None:
        raise error


_thread: threading.Thread | None = None
_error: Exception | None = None


def _write_all(places: Sequence[Sealed], deferred: Sequence[Any], then: Sequence[Sequence[Part]], arrive: Part | None, group: Any) -> None:
    global _error
    begun = 0
    try:
        if arrive is not None:
            arrive()
        for (directory, seal), each in zip(places, deferred, strict=True):
            begun += 1
            _write(directory, functools.partial(each.write, group), functools.partial(seal, group), group)
        for chain in then:
            _run(chain, places[-1][0], group)
    except (DiskFullError, CheckpointError) as error:
        _error = error
        for unwritten, _ in places[begun - 1 :]:
            if disks.is_first():
                shutil.rmtree(unwritten, ignore_errors=True)
    except Exception as error:  # the threads lost each other: a rank is gone
        _error = CheckpointError(f"checkpoint {places[begun - 1][0]}: {type(error).__name__}: {complaint(error)}")


def _write(directory: Path, write: Part, seal: Part, group: Any) -> None:
    for part in (write, seal):
        failed = _together(part, directory, group)
        if failed is not None:
            rank, (line, full) = failed
            raise DiskFullError(line, rank) if full else CheckpointError(f"rank {rank}: {line}", rank)


def _run(chain: Sequence[Part], directory: Path, group: Any) -> None:
    for part in chain:
        failed = _together(part, directory, group)
        if failed is not None:
            if dist.get_rank() == 0:
                _log.warning("rank %d: %s; the copy on this machine is whole", failed[0], failed[1][0])
            break


def _together(part: Part, directory: Path, group: Any) -> tuple[int, tuple[str, bool]] | None:
    """Run ``part`` on every rank and, when all are through, say on all of them which rank failed first and how."""
    mine = None
    try:
        part()
    except BaseException as error:  # torch's CheckpointException is no Exception
        mine = described(error, directory)
    beat()
    reports: list[tuple[str, bool] | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(reports, mine, group=group)
    return next(((rank, report) for rank, report in enumerate(reports) if report is not None), None)


def described(error: BaseException, directory: Path) -> tuple[str, bool]:
    """One line about ``error``, and whether the cause is a full disk."""
    causes = _causes(error)
    free = shutil.disk_usage(directory if directory.exists() else directory.parent).free
    full = free < MIB or any(getattr(cause, "errno", None) in DISK_FULL or SHORT_WRITE in str(cause) for cause in causes)
    if full:
        return f"checkpoint {directory}: no room to write it ({free / MIB:.1f} MiB free); the one before is kept", True
    text = complaint(causes[-1])
    return f"checkpoint {directory}: {type(causes[-1]).__name__}: {text}", False


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it comes from, this rank's own part of a collective failure included."""
    found: list[BaseException] = []
    queue = [error]
    while queue:
        current = queue.pop()
        if current in found:
            continue
        found.append(current)
        queue += [other for other in (current.__context__, current.__cause__) if other is not None]
        failures = getattr(current, "failures", {})  # torch's CheckpointException: rank -> (exception, traceback)
        queue += [failures[rank][0] for rank in sorted(failures)]
    return found


def _deferred(writing: Writing) -> Any:
    """Hand a state to megatron-core as a save, but keep back the writing of tensors: returns what will write them.

    Whether the ranks' parts make wholes is left to torch, which asks it in the thread; megatron-core would on the thread of training.
    """
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.mapping import ShardedTensor
    from megatron.core.dist_checkpointing.strategies import torch as mcore
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

    class PlaceFreeWriter(FileSystemWriter):
        """Leaves out where and under which random id it wrote: equal weights are then equal bytes."""

        def storage_meta(self) -> None:
            """Nothing."""

    class DeferredWriter(mcore.TorchDistSaveShardedStrategy):
        """megatron-core's ``torch_dist`` format; takes what it is given and writes it later."""

        parts: Any = None

        def save(self, sharded_state_dict: dict[str, Any], checkpoint_dir: Path) -> None:
            """Take this rank's shards."""
            self.parts, _, _ = mcore._replace_state_dict_keys_with_sharded_keys(sharded_state_dict, self.keep_only_main_replica)

        @property
        def tensors(self) -> list[ShardedTensor]:
            """Those of them that are tensors."""
            return [part for parts in self.parts.values() for part in parts if isinstance(part, ShardedTensor)]

        def write(self, group: Any) -> None:
            """Write them; every rank's thread calls it."""
            dcp_save(
                mcore.mcore_to_pyt_state_dict(self.parts, False),
                # one tensor after the other: copying ahead would take a stream of the thread's device, which is the first GPU on every rank
                storage_writer=PlaceFreeWriter(writing.directory, thread_count=1, per_thread_copy_ahead=0),
                planner=mcore.MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False),
                process_group=group,
            )
            self.parts = {}  # the copies go as soon as they are written

    writer = DeferredWriter("torch_dist", 1)
    dist_checkpointing.save(writing.state, str(writing.directory), sharded_strategy=writer, validate_access_integrity=False)
    return writer
