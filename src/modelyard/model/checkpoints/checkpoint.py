"""Checkpoints in megatron-core's distributed format: written at one layout, read at any other.

A checkpoint directory counts only when its ``complete.json`` stands in it and every file is as it says (size and sha256). That file is written
last, after every rank has written and hashed its part, so a kill at any moment leaves the checkpoint before as the newest whole one, and a
file that was cut or changed on disk is found before anything is loaded. How the files come to be, beside training, is
:mod:`modelyard.model.checkpoints.writer`. Ranks on disks of their own write to them; whole is then what
:mod:`modelyard.model.checkpoints.mirror` holds, and a restart fetches it.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from modelyard.config import digest
from modelyard.log import logger
from modelyard.model.checkpoints import metadata_check, writer
from modelyard.model.network import disks
from modelyard.store.file_hash import sha256_file

COMPLETE = "complete.json"
HASHING_THREADS = 8
STEP = re.compile(r"step_[0-9]{8}")
"""Name of a checkpoint's directory."""

_log = logger(__name__)


class Save(NamedTuple):
    """What to write, where, and what of it to note."""

    state: dict[str, Any]
    """Sharded state dict."""
    directory: Path
    """A checkpoint's own; what stood there goes."""
    note: dict[str, Any]
    """Goes into ``complete.json``: the step and the like."""


def save(state: dict[str, Any], directory: Path, note: dict[str, Any], then: Sequence[Callable[[], None]] = ()) -> None:
    """Write a sharded state dict and return when it is whole and the chain ``then`` has run; every rank calls it.

    Raises:
        DiskFullError: this save or the one before found no room on some rank.
        CheckpointError: it failed otherwise.
    """
    _begin([Save(state, directory, note)], [then], copies=False)
    wait()


def save_beside(saves: Sequence[Save], then: Sequence[Sequence[Callable[[], None]]] = ()) -> None:
    """Write sharded state dicts, one after the other, beside what follows: returns as soon as their states are copied. Every rank calls it.

    ``then`` are chains of parts to run when all are whole (see :func:`modelyard.model.checkpoints.writer.start`).

    Raises:
        DiskFullError, CheckpointError: the save before this one failed; what goes wrong with this the next one or :func:`wait` raises.
    """
    _begin(saves, then, copies=True)


def _begin(saves: Sequence[Save], then: Sequence[Sequence[Callable[[], None]]] = (), *, copies: bool) -> None:
    writer.wait()
    for directory in (one.directory for one in saves if disks.is_first()):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    dist.barrier()
    writings = [writer.Writing(one.state, one.directory, functools.partial(_sealed, one.directory, one.note)) for one in saves]
    writer.start(writings, then, copies=copies)


wait = writer.wait


def _sealed(directory: Path, note: dict[str, Any], group: Any) -> None:
    """Seal the checkpoint on the disk of rank 0 with what every rank says of its own files; every rank calls it."""
    mine: dict[str, Any] | OSError
    try:
        mine = _described(directory, [path.name for path in directory.iterdir() if owner(path) == dist.get_rank()])
    except OSError as error:  # told below: the others wait for this rank
        mine = error
    parts: list[dict[str, Any] | OSError] = [{}] * dist.get_world_size(group)
    dist.all_gather_object(parts, mine, group=group)
    files: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, OSError):
            raise part
        files |= part
    if dist.get_rank() == 0:
        seal(directory, note, files)


def owner(path: Path) -> int:
    """The rank that wrote a file of a checkpoint (``__3_0.distcp``: rank 3); 0 for what all share."""
    first = path.name.removeprefix("__").split("_")[0]
    return int(first) if path.name.startswith("__") and first.isdigit() else 0


def seal(directory: Path, note: dict[str, Any], files: Mapping[str, Any]) -> None:
    """Declare ``files`` (name -> size and sha256) a whole checkpoint by writing ``complete.json``, with ``note``. One rank calls it."""
    partial = directory / f"{COMPLETE}.partial"
    partial.write_text(json.dumps({"note": note, "files": dict(sorted(files.items()))}))
    partial.replace(directory / COMPLETE)


def _described(directory: Path, names: Sequence[str]) -> dict[str, Any]:
    """File -> size and sha256 of those of ``names`` that belong to what was saved."""
    names = sorted(name for name in names if not name.startswith(COMPLETE))
    return {name: {"bytes": (directory / name).stat().st_size, "sha256": digest} for name, digest in _digests(directory, names).items()}


def _digests(directory: Path, names: Sequence[str]) -> dict[str, str]:
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: sha256_file(directory / name), names), strict=True))


def damage(directory: Path, reader: int = 0, readers: int = 1) -> str | None:
    """Why the checkpoint at ``directory`` cannot be used, or None when every file is as it was written.

    Of ``readers`` that ask it together each reads its share of the files; sizes they all look at.
    """
    if not (directory / COMPLETE).is_file():
        return f"half-written (no {COMPLETE})"
    files = _sealed_files(directory)
    if files is None:
        return f"{COMPLETE} is unreadable"
    for name, (size, _) in files.items():
        if not (directory / name).is_file():
            return f"{name} is missing"
        if (found := (directory / name).stat().st_size) != size:
            return f"{name} has {found} bytes, {size} were written"
    digests = _digests(directory, list(files)[reader::readers])
    return next((f"{name} has changed since it was written (sha256)" for name, digest in digests.items() if digest != files[name][1]), None)


def whole(directory: Path) -> set[str]:
    """The files at ``directory`` that are as its ``complete.json`` says."""
    files = _sealed_files(directory) or {}
    there = [name for name, (size, _) in files.items() if (directory / name).is_file() and (directory / name).stat().st_size == size]
    return {name for name, digest in _digests(directory, there).items() if digest == files[name][1]}


def _sealed_files(directory: Path) -> dict[str, tuple[int, str]] | None:
    """File -> size and sha256; None where ``complete.json`` cannot be read."""
    try:
        return {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in _seal(directory)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _seal(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / COMPLETE).read_text()))


def identity(directory: Path) -> str:
    """Hash (hex) of the files of a whole checkpoint, by the hashes that were taken when it was written: equal weights have equal ones.

    Raises:
        ValueError: there is no complete checkpoint at ``directory``.
    """
    if not (directory / COMPLETE).is_file():
        raise ValueError(f"{directory}: no complete checkpoint")
    return digest({name: file["sha256"] for name, file in _seal(directory)["files"].items()})


def load(state: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Read the tensors named by a sharded state dict from ``directory``; every rank calls it.

    Raises:
        ValueError: there is no complete checkpoint at ``directory``, or its table of contents is not what torch would write.
    """
    from megatron.core import dist_checkpointing

    if not (directory / COMPLETE).is_file():
        raise ValueError(f"{directory}: no complete checkpoint")
    metadata_check.check(directory)
    return dict(dist_checkpointing.load(state, str(directory)))


def note(directory: Path) -> dict[str, Any]:
    """What was noted when the checkpoint was saved."""
    return dict(_seal(directory)["note"])


def latest(root: Path, *beside: Path) -> Path | None:
    """The newest undamaged checkpoint under ``root`` (directories ``step_00000042``), or None; every rank calls it and gets the same answer.

    ``beside`` are further roots whose checkpoint of the same step must be undamaged too (models that are trained together). The ranks of a disk
    share the reading. Each newer one that is passed over is logged in one line with its reason.
    """
    box = [steps(path.name for path in root.glob("step_*"))[::-1]]
    dist.broadcast_object_list(box, 0)
    refused: list[tuple[Path, str]] = []
    newest = None
    for name in box[0]:
        refusals = [_refusal(root / name, beside)] * dist.get_world_size()
        dist.all_gather_object(refusals, refusals[0])
        refusal = next((found for found in refusals if found is not None), None)
        if refusal is None:
            newest = name
            break
        refused.append(refusal)
    for part, reason in refused if dist.get_rank() == 0 else ():
        _log.warning("checkpoint %s is not used: %s; going on from %s", part, reason, newest or "the start")
    return root / newest if newest else None


def _refusal(candidate: Path, beside: Sequence[Path]) -> tuple[Path, str] | None:
    """The part of a checkpoint that cannot be used as far as this rank has looked, and why; None where all of that can."""
    parts = (candidate, *(other / candidate.name for other in beside))
    found = next(((part, reason) for part in parts if (reason := damage(part, *disks.place()))), None)
    return found if found is None or disks.is_that_of_rank_0() else (candidate, "not whole on every machine")


def superseded(names: Sequence[str], last: int, every: int) -> list[str]:
    """Which of the checkpoints ``names`` (oldest first) to delete: all but the newest ``last`` and the first of every ``every`` steps (0: none)."""
    kept = set(names[-last:])
    if every:
        first: dict[int, str] = {}
        for name in names:
            first.setdefault(step_of(name) // every, name)
        kept |= {name for block, name in first.items() if block > 0}
    return [name for name in names if name not in kept]


def prune(root: Path, last: int, every: int) -> None:
    """Delete the complete checkpoints that :func:`superseded` picks, and half-written ones older than the newest. One rank of each disk does it;
    on a disk without rank 0 those that it has its part of are the complete ones."""
    if not disks.is_first():
        return
    found = steps(path.name for path in root.glob("step_*"))
    complete = [name for name in found if dist.get_rank() > 0 or (root / name / COMPLETE).is_file()]
    half_written = [name for name in found if complete and name not in complete and name < complete[-1]]
    for name in superseded(complete, last, every) + half_written:
        shutil.rmtree(root / name, ignore_errors=True)


def steps(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are a checkpoint's, oldest first."""
    return sorted(filter(STEP.fullmatch, names))


def step_of(name: str) -> int:
    """``step_00000042`` -> 42."""
    return int(name.removeprefix("step_"))


def step_directory(root: Path, step: int) -> Path:
    """``root/step_00000042``."""
    return root / f"step_{step:08d}"
