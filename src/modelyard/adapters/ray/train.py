"""Runs a training stage on ranks: one ``TorchTrainer.fit()`` a stage; on one machine, one for consecutive
stages of the same layout (see `warm`); several at the same time where there is room (see `groups`).

Left out: elastic world sizes and Ray's own checkpoint transport, since stages write Megatron checkpoints to
scratch and to the checkpoint store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from modelyard.adapters.ray import is_on_this_machine, node
from modelyard.adapters.ray.devices import placed
from modelyard.adapters.ray.fit import Fit, Layout
from modelyard.adapters.ray.groups import Groups
from modelyard.adapters.ray.mailbox import Mailbox
from modelyard.adapters.ray.rank import Job, train_stage
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.progress import Report
from modelyard.store import disk
from modelyard.store.inputs import inputs_directory
from modelyard.store.storage import Storage

StageRun = Callable[..., Mapping[str, float]]

_groups = Groups()


def launch(
    stage: str,
    stage_run: StageRun,
    config: Config,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
    names: Mapping[str, frozenset[str]] = {},
    needed: Callable[[], int | None] | None = None,
) -> dict[str, float]:
    """Run ``stage_run(config, inputs, out, checkpoints, execution, report)`` on every rank and return rank 0's metrics.

    ``stage``: what its errors call it. ``names``: role -> files that the stage reads of its artifact, for nodes that fetch their inputs; of a role
    that is not in it all.
    ``needed``: gives the bytes of a GPU that a rank needs at least; a rank that has less left says so before it begins.

    Raises:
        ValueError: fewer GPUs than ``execution.device`` asks for.
        StageError: a rank raised, or died more often than ``execution.max_restarts`` allows; one line, with the traceback in a file beside
            ``checkpoints``.
    """
    execution = placed(execution)
    layout = Layout(**{key: getattr(execution, key) for key in Layout._fields})
    execution = from_anywhere(execution)
    driver = "" if is_on_this_machine() else disk.identity(Path(execution.scratch))
    memory = needed() if needed and execution.device == "cuda" else None
    job = Job(stage, stage_run, config, dict(inputs), out.absolute(), checkpoints.absolute(), execution, driver, dict(names), memory)
    apart = bool(driver and execution.checkpoint_store)
    if apart:
        node.forget(execution, job.out)
    if execution.keep_workers and is_on_this_machine():
        with _groups.warm(layout) as group:
            return group.run(job, report).metrics or {}
    with _groups.place(layout):
        metrics = _on_own_group(layout, job, report)
    if apart:
        node.collect(execution, job.out)
    return metrics


def _on_own_group(layout: Layout, job: Job, report: Report) -> dict[str, float]:
    """Run ``job`` on workers that are started for it alone."""
    fit = Fit(
        layout,
        train_stage,
        Mailbox,
        (layout.ranks, job.execution.hang_seconds),
        {"job": job},
        job.checkpoints.parent.name,
    )
    try:
        news = fit.follow(job, report)
    except BaseException:
        fit.stop(wait=False)
        raise
    fit.stop(wait=True)
    return news.metrics or {}


def release(*, wait: bool = True) -> None:
    """Stop the workers that wait for another stage, so that their CPUs are free for other work. Does nothing
    when there are none.
    """
    _groups.release(wait=wait)


def from_anywhere(execution: ExecutionConfig) -> ExecutionConfig:
    """The same execution with paths that mean the same on every node: ranks of a cluster that runs already
    work in another directory.
    """
    store = Storage(execution.checkpoint_store).url if execution.checkpoint_store else ""
    paths = {
        "scratch": str(Path(execution.scratch).absolute()),
        "inputs": str(inputs_directory(execution.inputs).absolute()),
    }
    return execution.model_copy(update={**paths, "checkpoint_store": store})
