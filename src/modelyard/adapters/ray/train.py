"""Runs a training stage on a Ray Train worker group, one worker per rank, and brings progress, metrics or one clear error line back.

Consecutive stages with the same layout share one worker group (see `rank`): the first :func:`launch` starts it; :func:`release`,
another layout or a failed rank end it. Ray Train restarts a group in which a rank raised or died up to ``execution.max_restarts`` times for each
launch, with a line that names rank and cause; the stage then continues from its last checkpoint. A group that hangs loses the rank at fault
(see `watch`) and is restarted like any other. A ValueError (the stage refuses its input) and a StopError (it has to end) are never retried.
SIGTERM to this process or to a rank ends the stage after its step, with a checkpoint. Left out: elastic world sizes and Ray's own checkpoint
transport, since stages write Megatron checkpoints to shared scratch.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.adapters.ray.mailbox import Failure, Job, Mailbox, News
from modelyard.adapters.ray.rank import one_line, serve
from modelyard.adapters.ray.watch import Verdict
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.progress import Report
from modelyard.store.inputs import inputs_directory
from modelyard.store.storage import Storage

POLL_SECONDS = 0.1
STOP_SECONDS = 30
BACKEND_TIMEOUT_SECONDS = 1800
# Ray Train's parts that start an actor each (three seconds of imports) for what a group without Ray datasets never uses; the cleaner's work,
# placement groups of a dead controller, is done by the end of the driver's job.
UNUSED_CALLBACKS = ("DatasetsCallback", "PlacementGroupCleanerCallback")
# What a healthy rank sees when another one is gone; the other's own failure is the cause to name.
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")

_log = logging.getLogger(__name__)

StageRun = Callable[..., Mapping[str, float]]


class StageError(RuntimeError):
    """A stage that failed on a rank; the message is one line naming stage, rank and cause."""


class Layout(NamedTuple):
    """What a worker group is made for; launches with an equal layout share a group."""

    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    expert_parallel: int
    threads: int
    max_restarts: int
    scratch: str

    @property
    def ranks(self) -> int:
        """Number of workers."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


class WorkerGroup:
    """A running ``TorchTrainer.fit()`` in a thread and the mailbox to its ranks."""

    def __init__(self, layout: Layout) -> None:
        ray_cluster.connect()
        import ray

        self.layout = layout
        self.jobs = 0
        self.error: BaseException | None = None
        # Zero CPUs and no own environment: it moves into a process that Ray started in advance.
        self.mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote(layout.ranks)
        self.thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            self._trainer().fit()
        except BaseException as error:
            self.error = error

    def _trainer(self) -> Any:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from modelyard.adapters.ray.callbacks import LostRanks, PreemptibleConfig

        resources = ray.cluster_resources()
        use_gpu = resources.get("GPU", 0) >= self.layout.ranks
        cpus = min(float(self.layout.threads), resources.get("CPU", 1) / self.layout.ranks)
        threads = str(self.layout.threads)
        trainer = TorchTrainer(
            serve,
            train_loop_config={"mailbox": self.mailbox},
            torch_config=PreemptibleConfig(backend="nccl" if use_gpu else "gloo", timeout_s=BACKEND_TIMEOUT_SECONDS),
            scaling_config=ScalingConfig(num_workers=self.layout.ranks, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}),
            run_config=RunConfig(
                name="train",
                storage_path=str(Path(self.layout.scratch).absolute() / "ray"),
                failure_config=FailureConfig(max_failures=self.layout.max_restarts),
                callbacks=[LostRanks(self.mailbox)],
                worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}},
            ),
        )
        defaults = trainer._create_default_callbacks
        trainer._create_default_callbacks = lambda: [item for item in defaults() if type(item).__name__ not in UNUSED_CALLBACKS]
        return trainer

    def run(self, job: Job, report: Report) -> tuple[dict[str, float], News]:
        """Run ``job`` on every rank; blocks. Raises StageError."""
        import ray

        self.jobs = job.number
        ray.get(self.mailbox.post.remote(job))
        attempt, told = 1, False
        with _sigterm() as terminated:
            while True:
                alive = self.thread.is_alive()
                news: News = ray.get(self.mailbox.news.remote())
                for event in news.events:
                    report(event.done, event.total, event.metrics, event.unit)
                for line in news.warnings:
                    _log.warning(line)
                if news.metrics is not None:
                    return news.metrics, news
                if not alive or any(failure.final for failure in news.failures):
                    raise self._failed(job, news)
                if news.attempt > attempt:
                    attempt = news.attempt
                    _log.warning("%s; restart %d of %d", self._cause_line(job, news), attempt - 1, self.layout.max_restarts)
                if news.hung:
                    self._kill(news.hung)
                if terminated.is_set() and not told:
                    ray.get(self.mailbox.tell_to_stop.remote())
                    told = True
                time.sleep(POLL_SECONDS)

    def _kill(self, hung: Verdict) -> None:
        """End the process of a rank that hangs; Ray Train sees that and does with the group what it does when a rank dies."""
        import ray

        actor = ray.get(self.mailbox.actor.remote(hung.rank))
        ray.get(self.mailbox.fail.remote(Failure(hung.rank, hung.cause, hung.cause, final=False)))
        ray.kill(actor)

    def _cause_line(self, job: Job, news: News) -> str:
        """Stage, rank and cause."""
        rank, cause = _cause(news.failures, self.error)
        return f"{job.run.__module__.rsplit('.', 1)[-1]}: {rank}: {cause}"

    def _failed(self, job: Job, news: News) -> StageError:
        log = job.checkpoints.parent / "failure.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        details = [failure.traceback for failure in news.failures] + ([str(self.error)] if self.error else [])
        log.write_text("\n".join(details) + "\n")
        return StageError(f"{self._cause_line(job, news)} (details: {log})")

    def stop(self, *, wait: bool) -> None:
        """Send the ranks home; with ``wait`` return only when Ray Train has cleaned up after them."""
        import ray

        if ray.is_initialized() and self.thread.is_alive():
            self.mailbox.stop.remote()
            if wait:
                self.thread.join(STOP_SECONDS)


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM to this process sets while the block runs; a second SIGTERM does what it did before. Main thread only."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: object) -> None:
        terminated.set()
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, note)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


_group: WorkerGroup | None = None
_turn = threading.Lock()
"""Held by the stage that has the group: stages that are built at the same time take turns on the ranks."""


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
        StageError: a rank raised, or died more often than ``execution.max_restarts`` allows; one line, with the traceback in a file beside
            ``checkpoints``.
    """
    with _turn:
        return _launch(stage_run, config, inputs, out, checkpoints, execution, report)


def _launch(
    stage_run: StageRun,
    config: Config,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
) -> dict[str, float]:
    global _group
    layout = Layout(**{key: getattr(execution, key) for key in Layout._fields})
    if _group is not None and _group.layout != layout:
        release()
    if _group is None:
        _group = WorkerGroup(layout)
    try:
        job = Job(_group.jobs + 1, stage_run, config, dict(inputs), out.absolute(), checkpoints.absolute(), from_anywhere(execution))
        metrics, news = _group.run(job, report)
    except BaseException:
        release(wait=False)
        raise
    if news.failures:  # its restarts are spent: the next stage gets a group with all of them
        release()
    return metrics


def from_anywhere(execution: ExecutionConfig) -> ExecutionConfig:
    """The same execution with paths that mean the same on every node: ranks of a cluster that runs already work in another directory."""
    store = Storage(execution.checkpoint_store).url if execution.checkpoint_store else ""
    paths = {"scratch": str(Path(execution.scratch).absolute()), "inputs": str(inputs_directory(execution.inputs).absolute())}
    return execution.model_copy(update={**paths, "checkpoint_store": store})


def release(*, wait: bool = True) -> None:
    """Stop the worker group, so that its CPUs are free for other work. Does nothing when there is none."""
    global _group
    group, _group = _group, None
    if group is not None:
        group.stop(wait=wait)


def _cause(failures: list[Failure], error: BaseException | None) -> tuple[str, str]:
    """Rank and cause to name: a refusal, else the last failure that is no peer's echo, else whatever failed last."""
    for failure in failures:
        if failure.final:
            return f"rank {failure.rank}", failure.cause
    for failure in reversed(failures):
        if not any(text in failure.cause for text in PEER_LOST):
            return f"rank {failure.rank}", failure.cause
    if failures:
        return f"rank {failures[-1].rank}", failures[-1].cause
    return "worker group", one_line(error) if error else "ended without an answer"
