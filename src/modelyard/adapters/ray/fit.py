"""One ``TorchTrainer.fit()`` as its driver sees it: progress, warnings and restarts as they come, then
metrics or one clear error line.

Ray Train restarts a group in which a rank raised or died up to ``max_restarts`` times; the stage then
continues from its last checkpoint. A group that hangs loses the rank at fault (see `watch`) and is restarted
like any other. A ValueError (the stage refuses its input) and a StopError (it has to end) are never retried.
SIGTERM to this process or to a rank ends the stage after its step, with a checkpoint where it keeps any.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.adapters.ray import cluster
from modelyard.adapters.ray.mailbox import Failure, News
from modelyard.adapters.ray.rank import Job, one_line
from modelyard.adapters.ray.watch import Verdict
from modelyard.execution import Device
from modelyard.log import logger
from modelyard.progress import Report, Stop, request_stop

POLL_SECONDS = 0.1
STOP_SECONDS = 90
"""That Ray Train gets to start a controller, and to end; on a machine with much else to do half a minute was too little."""
CONNECTIONS, ALLOCATOR = "CUDA_DEVICE_MAX_CONNECTIONS", "PYTORCH_CUDA_ALLOC_CONF"
ALLOCATORS = "PYTORCH_ALLOC_CONF"
"""The allocator's settings by their newer name, of every kind of device."""
BACKEND_TIMEOUT_SECONDS = 1800
# What a healthy rank sees when another one is gone; the other's own failure is the cause to name.
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")

_log = logger(__name__)
_heard: threading.Event | None = None
"""What SIGTERM sets, while the main thread is in :func:`sigterm`."""


class StageError(RuntimeError):
    """A stage that failed on a rank; the message is one line naming stage, rank and cause."""


class Layout(NamedTuple):
    """What a worker group is made for."""

    tensor_parallel: int
    pipeline_parallel: int
    virtual_pipeline: int
    data_parallel: int
    context_parallel: int
    expert_parallel: int
    device: Device
    """``cuda`` or ``cpu``, as decided for this cluster."""
    threads: int
    max_restarts: int
    scratch: str

    @property
    def ranks(self) -> int:
        """Number of workers."""
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel * self.data_parallel

    def cpus(self, whole: Mapping[str, float]) -> float:
        """What each rank asks for of a cluster that has ``whole``: as many as it computes with, where there are so many."""
        return min(float(self.threads), whole.get("CPU", 1) / self.ranks)

    def resources(self, whole: Mapping[str, float]) -> dict[str, float]:
        """What the group asks for of a cluster that has ``whole``."""
        return {"CPU": self.ranks * self.cpus(whole), "GPU": float(self.ranks) if self.device == "cuda" else 0.0}

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Environment of a rank; what the driver's own environment ``given`` says of a GPU's settings wins.

        One queue of work a device: where tensor or context ranks talk within a layer, the collective is launched before the products that
        it is to run beside, which megatron-core relies on. Segments that grow: lengths differ from step to step, and freed blocks of one
        length are no use to another.
        """
        threads = str(self.threads)
        wanted = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self.device == "cuda":
            if ALLOCATORS not in given:
                wanted |= {ALLOCATOR: given.get(ALLOCATOR, "expandable_segments:True")}
            if self.tensor_parallel > 1 or self.context_parallel > 1:
                wanted |= {CONNECTIONS: given.get(CONNECTIONS, "1")}
        return wanted


class Fit:
    """A running ``TorchTrainer.fit()`` in a thread, and the mailbox of its ranks."""

    def __init__(
        self,
        layout: Layout,
        loop: Callable[[dict[str, Any]], None],
        mailbox: type,
        mailbox_arguments: tuple[Any, ...],
        arguments: Mapping[str, Any],
        name: str,
    ) -> None:
        """Args: ``loop``: what every rank runs, with ``arguments`` and the ``mailbox`` made for it; ``name``:
        of the run, in Ray.
        """
        cluster.connect()
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.layout = layout
        self.error: BaseException | None = None
        # Zero CPUs and no own environment: it moves into a process that Ray started in advance. On this node: what ranks said must
        # outlive a node that they were on.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(mailbox).remote(*mailbox_arguments)
        trainer = self._trainer(loop, {**arguments, "mailbox": self.mailbox}, name)
        self.thread = threading.Thread(target=self._fit, args=(trainer,), name="ray-train", daemon=True)
        self.thread.start()

    def _fit(self, trainer: Any) -> None:
        try:
            trainer.fit()
        except BaseException as error:
            self.error = error

    def _trainer(self, loop: Callable[[dict[str, Any]], None], arguments: dict[str, Any], name: str) -> Any:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from modelyard.adapters.ray.callbacks import ToMailbox
        from modelyard.adapters.ray.process_group import OwnAddressConfig

        cpus = self.layout.cpus(ray.cluster_resources())
        use_gpu = self.layout.device == "cuda"
        return TorchTrainer(
            loop,
            train_loop_config=arguments,
            torch_config=OwnAddressConfig(backend="nccl" if use_gpu else "gloo", timeout_s=BACKEND_TIMEOUT_SECONDS),
            scaling_config=ScalingConfig(num_workers=self.layout.ranks, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}),
            run_config=RunConfig(
                name=name,
                storage_path=str(Path(self.layout.scratch).absolute() / "ray"),
                failure_config=FailureConfig(max_failures=self.layout.max_restarts),
                callbacks=[ToMailbox(self.mailbox)],
                worker_runtime_env={"env_vars": self.layout.environment(os.environ)},
            ),
        )

    def follow(self, job: Job, report: Report) -> News:
        """Pass on what the ranks say of ``job`` until its metrics are there; blocks. Raises StageError."""
        import ray

        attempt, told = 1, False
        with sigterm() as terminated:
            while True:
                alive = self.thread.is_alive()
                news: News = self.answer(job, self.mailbox.news.remote())
                for event in news.events:
                    report(event.done, event.total, event.metrics, event.unit)
                for line in news.warnings:
                    _log.warning(line)
                if news.metrics is not None:
                    if terminated.is_set():  # the stage was through before it heard of it: no other begins
                        request_stop(Stop.TOLD)
                    return news
                if not alive or any(failure.final for failure in news.failures):
                    raise self._failed(job, news)
                if news.attempt > attempt:
                    attempt = news.attempt
                    _log.warning(
                        "%s; restart %d of %d",
                        self._cause_line(job, news),
                        attempt - 1,
                        self.layout.max_restarts,
                    )
                if news.hung:
                    self._kill(news.hung)
                if terminated.is_set() and not told:
                    _log.warning("stopping: %s ends after its step", job.stage)
                    ray.get(self.mailbox.tell_to_stop.remote())
                    told = True
                time.sleep(POLL_SECONDS)

    def answer(self, job: Job, asked: Any) -> Any:
        """What the mailbox answers. Raises StageError where its process is gone."""
        import ray

        from modelyard.adapters.ray.callbacks import cause_of_loss

        try:
            return ray.get(asked)
        except ray.exceptions.RayError as error:
            raise StageError(f"{job.stage}: the mailbox of its ranks: {cause_of_loss(error) or one_line(error)}") from error

    def _kill(self, hung: Verdict) -> None:
        """End the process of a rank that hangs; Ray Train sees that and does with the group what it does when
        a rank dies.
        """
        import ray

        actor = ray.get(self.mailbox.actor.remote(hung.rank))
        ray.get(self.mailbox.fail.remote(Failure(hung.rank, hung.cause, hung.cause, final=False)))
        ray.kill(actor)

    def _cause_line(self, job: Job, news: News) -> str:
        """Stage, rank and cause."""
        rank, cause = _cause(news.failures, self.error)
        return f"{job.stage}: {rank}: {cause}"

    def _failed(self, job: Job, news: News) -> StageError:
        log = job.checkpoints.parent / "failure.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        details = [failure.traceback for failure in news.failures] + ([str(self.error)] if self.error else [])
        log.write_text("\n".join(details) + "\n")
        return StageError(f"{self._cause_line(job, news)} (details: {log})")

    def stop(self, *, wait: bool) -> None:
        """No rank begins anything any more, and the thread ends: with ``wait`` when Ray Train has cleaned up after
        the ranks, else at once, what they do being lost.

        A thread that still waits for Ray when Ray is shut down reads memory that is freed by then, and takes the process with it.
        """
        import ray

        if not ray.is_initialized() or not self.thread.is_alive():
            return
        controller, until = None, time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ray.exceptions.RayError):  # the mailbox may be gone with its node, or the cluster
            while controller is None and self.thread.is_alive() and time.monotonic() < until:  # it may be about to start
                controller = ray.get(self.mailbox.stop.remote(), timeout=STOP_SECONDS)
                time.sleep(0 if controller else POLL_SECONDS)
        if wait:
            self.thread.join(STOP_SECONDS)
        if self.thread.is_alive() and controller is not None:
            controller.abort.remote()  # as Ray Train does at Ctrl-C: the ranks end, and their place in the cluster is free again
            self.thread.join(STOP_SECONDS)


@contextlib.contextmanager
def sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM to this process sets while the block runs; a second SIGTERM does what it did
    before. Signals come to the main thread: another one hears of them while the main thread is in such a block.
    """
    global _heard
    if threading.current_thread() is not threading.main_thread():
        yield _heard or threading.Event()
        return
    terminated, outer = threading.Event(), _heard
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: object) -> None:
        terminated.set()
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, note)
    _heard = terminated
    try:
        yield terminated
    finally:
        _heard = outer
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def interrupt_held() -> Iterator[None]:
    """Ctrl-C while the block runs is heard when it ends: what the block begins and what is known of it are one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def _cause(failures: list[Failure], error: BaseException | None) -> tuple[str, str]:
    """Rank and cause to name: a refusal, else the last failure that is no peer's echo, else whatever failed
    last.
    """
    for failure in failures:
        if failure.final:
            return f"rank {failure.rank}", failure.cause
    for failure in reversed(failures):
        if not any(text in failure.cause for text in PEER_LOST):
            return f"rank {failure.rank}", failure.cause
    if failures:
        return f"rank {failures[-1].rank}", failures[-1].cause
    return "worker group", one_line(error) if error else "ended without an answer"
