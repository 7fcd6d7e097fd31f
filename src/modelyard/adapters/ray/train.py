"""Runs a training stage on ranks: one ``TorchTrainer.fit()`` a stage; on one machine, one for consecutive
stages of the same layout (see `warm`).

Left out: elastic world sizes and Ray's own checkpoint transport, since stages write Megatron checkpoints to
scratch and to the checkpoint store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from modelyard.adapters.ray import is_on_this_machine, node
from modelyard.adapters.ray.devices import placed
from modelyard.adapters.ray.fit import Fit, Layout
from modelyard.adapters.ray.mailbox import Mailbox
from modelyard.adapters.ray.rank import Job, train_stage
from modelyard.adapters.ray.warm import WarmGroup
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.progress import Report
from modelyard.store import disk
from modelyard.store.inputs import inputs_directory
from modelyard.store.storage import Storage

StageRun = Callable[..., Mapping[str, float]]

_warm: WarmGroup | None = None
_turn = threading.Lock()
"""Held by the stage that has the ranks: stages that are built at the same time take turns on them."""


def launch(
    stage_run: StageRun,
    config: Config,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
) -> dict[str, float]:
    """Run ``stage_run(config, inputs, out, checkpoints, execution, report)`` on every rank and return rank 0's metrics.

    Raises:
        ValueError: fewer GPUs than ``execution.device`` asks for.
        StageError: a rank raised, or died more often than ``execution.max_restarts`` allows; one line, with the traceback in a file beside
            ``checkpoints``.
    """
    execution = placed(execution)
    layout = Layout(**{key: getattr(execution, key) for key in Layout._fields})
    execution = from_anywhere(execution)
    driver = "" if is_on_this_machine() else disk.identity(Path(execution.scratch))
    job = Job(stage_run, config, dict(inputs), out.absolute(), checkpoints.absolute(), execution, driver)
    apart = bool(driver and execution.checkpoint_store)
    if apart:
        node.forget(execution, job.out)
    with _turn:
        if execution.keep_workers and is_on_this_machine():
            return _on_warm_group(layout, job, report)
        release()
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


def _on_warm_group(layout: Layout, job: Job, report: Report) -> dict[str, float]:
    """Run ``job`` on the group that waits, or on a new one where there is none of this layout."""
    global _warm
    if _warm is not None and _warm.layout != layout:
        release()
    if _warm is None:
        _warm = WarmGroup(layout)
    try:
        news = _warm.run(job, report)
    except BaseException:
        release(wait=False)
        raise
    if news.failures:  # its restarts are spent: the next stage gets a group with all of them
        release()
    return news.metrics or {}


def release(*, wait: bool = True) -> None:
    """Stop the workers that wait for another stage, so that their CPUs are free for other work. Does nothing
    when there are none.
    """
    global _warm
    group, _warm = _warm, None
    if group is not None:
        group.stop(wait=wait)


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
