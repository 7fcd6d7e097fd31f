"""What a stage reads and writes on a rank's node: the driver's own files where the node sees the driver's disk, else copies by the stores.

Inputs come from the artifact store by reference, verified, once a node, and of each the files that the stage reads. Checkpoints go through
``execution.checkpoint_store``, and so does what the stage made, back to the driver. ``MODELYARD_SCRATCH`` in a node's environment is the directory it
works in instead of ``execution.scratch``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.execution import ExecutionConfig
from modelyard.store import disk
from modelyard.store.artifacts import Store
from modelyard.store.storage import Storage

SCRATCH = "MODELYARD_SCRATCH"
OUT = "out"


class Node(NamedTuple):
    """Where a stage finds things on one node."""

    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path
    execution: ExecutionConfig
    brings_back: bool
    """Whether the driver does not see ``out``."""


def of(
    inputs: Mapping[str, Path],
    names: Mapping[str, frozenset[str]],
    out: Path,
    checkpoints: Path,
    execution: ExecutionConfig,
    driver: str,
    *,
    first: bool,
) -> Node:
    """The places that the driver named, as they are on this node; every rank calls it before it meets the others.

    Args:
        inputs: role -> artifact, as the driver has it.
        names: role -> files that are read of its artifact; of a role that is not here all.
        out: where the driver wants what is made.
        checkpoints: where the driver would keep unfinished work.
        execution: the driver's.
        driver: its disk (:func:`modelyard.store.disk.identity`); "" where everything is on one machine.
        first: whether this is the first rank of its node.

    Raises:
        ValueError: the node does not see the driver's disk, and a store that it could go by is missing or is such a disk itself.
    """
    scratch = Path(os.environ.get(SCRATCH) or execution.scratch).absolute()
    if not driver or disk.identity(scratch) == driver:
        return Node(inputs, out, checkpoints, execution, brings_back=False)
    store = Store(execution.store, str(scratch))
    for key, url in (("store", execution.store), ("checkpoint_store", execution.checkpoint_store)):
        if not url or Storage(url).is_local:
            said = url or "empty"
            raise ValueError(
                f"execution.{key} is {said}, but node {os.uname().nodename} does not see the driver's disk ({execution.scratch}); "
                "name an s3:// URL, or a scratch directory that all nodes share"
            )
    fetched = {role: store.fetch(store.get(f"{path.parent.name}/{path.name}"), names.get(role)) for role, path in inputs.items()}
    workspace = scratch / checkpoints.parent.name
    here = execution.model_copy(update={"scratch": str(scratch)})
    if first:
        shutil.rmtree(workspace / OUT, ignore_errors=True)
        (workspace / OUT).mkdir(parents=True, exist_ok=True)  # another node of the same disk may have been faster
    return Node(fetched, workspace / OUT, workspace / checkpoints.name, here, brings_back=True)


def send(node: Node) -> None:
    """Bring what the stage made on this node to where :func:`collect` finds it; one rank of a node calls it."""
    if node.brings_back:
        storage, key = _way(node.execution, node.out)
        storage.put_files(node.out, sorted(file for file in node.out.rglob("*") if file.is_file()), key)


def forget(execution: ExecutionConfig, out: Path) -> None:
    """Delete what nodes sent in an earlier try, which may have had another layout. The driver calls it before the stage begins."""
    storage, key = _way(execution, out)
    storage.remove(key)


def collect(execution: ExecutionConfig, out: Path) -> None:
    """Bring what nodes sent to the driver's ``out``; nothing where all of them see it. The driver calls it when the stage is done."""
    storage, key = _way(execution, out)
    if storage.names(key):
        storage.get(key, out)
        storage.remove(key)


def _way(execution: ExecutionConfig, out: Path) -> tuple[Storage, str]:
    """The store and the key by which the files of ``out`` travel: ``WORKSPACE/out``."""
    return Storage(execution.checkpoint_store), f"{out.parent.name}/{OUT}"
