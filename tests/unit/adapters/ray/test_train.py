"""Real Ray, real workers: what a launch returns and what its errors say (what becomes of a training is in test_ray_failures.py)."""

import contextlib
import logging
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from ray import cloudpickle

from modelyard.adapters.ray import cluster
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.fit import Layout, StageError, sigterm
from modelyard.adapters.ray.warm import WarmGroup
from modelyard.config import Config
from modelyard.execution import ExecutionConfig

pytestmark = pytest.mark.integration
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class TinyConfig(Config):
    steps: int


def count(config, inputs, out, checkpoints, execution, report):
    import torch
    import torch.distributed as dist

    if config.steps < 0:
        raise ValueError("steps: must not be negative")
    rank = dist.get_rank()
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    for step in range(config.steps):
        report(step + 1, config.steps, {"tiny/loss": 1.0 / (step + 1)})
    if rank == 0:
        logging.getLogger("modelyard.model.tiny").warning("seen on %s", "rank 0")
        (out / "answer").write_text(inputs["text"].read_text().upper())
    return {"tiny/ranks": total.item(), "tiny/threads": float(torch.get_num_threads()), "tiny/pid": float(os.getpid())}


def die_always(config, inputs, out, checkpoints, execution, report):
    os.kill(os.getpid(), signal.SIGKILL)


def stumble(config, inputs, out, checkpoints, execution, report):
    import torch.distributed as dist

    if dist.get_rank() == 1:
        raise OSError("disk\nfull")
    dist.barrier()


def meet(config, inputs, out, checkpoints, execution, report):
    """Two stages that are there at the same time."""
    import time

    (inputs["room"] / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(inputs["room"].iterdir())) < config.steps:
        if time.monotonic() > deadline:
            raise ValueError("nobody came")
        time.sleep(0.02)
    return {"tiny/pid": float(os.getpid())}


def take_turns(config, inputs, out, checkpoints, execution, report):
    """A stage beside which no other may run."""
    import time

    (inputs["room"] / "taken").touch(exist_ok=False)
    time.sleep(1.0)
    (inputs["room"] / "taken").unlink()
    return {"tiny/pid": float(os.getpid())}


def go_on(config, inputs, out, checkpoints, execution, report):
    """A stage that takes its time."""
    import time

    for step in range(1000):
        report(step + 1, 1000)
        time.sleep(0.1)
    return {"tiny/pid": float(os.getpid())}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    cluster.connect()
    yield
    ray_train.release()
    cluster.disconnect()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "out").mkdir()
    return tmp_path


def launch(stage, place: Path, steps=3, report=lambda *a, **k: None, **execution):
    where = execution_of(place, **execution)
    config, inputs = TinyConfig(steps=steps), {"text": place / "text"}
    return ray_train.launch("tiny", stage, config, inputs, place / "out", place / "work" / "checkpoints", where, report)


def execution_of(place: Path, **settings) -> ExecutionConfig:
    """All tests share one scratch directory: workers are made for it, and starting them is what takes these tests' time."""
    return ExecutionConfig(**{"scratch": str(place.parent / "scratch"), "threads": 1, "max_restarts": 0, **settings})


def on_loopback_only() -> None:
    """The local cluster and its ranks listen there."""
    listening = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            open_ones = [found for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
            listening |= {(process.name(), found.laddr.ip) for found in open_ones}
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert any("RayTrainWorker" in name for name, _ in listening)
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening


def test_launch_two_ranks_returns_metrics_files_progress_and_warnings_and_listens_on_loopback(place, caplog):
    events = []
    metrics = launch(count, place, data_parallel=2, report=lambda done, total, m={}, unit="step": events.append((done, total, m)))
    assert metrics["tiny/ranks"] == 3.0
    assert metrics["tiny/threads"] == 1.0
    assert (place / "out" / "answer").read_text() == "HELLO"
    assert [event[0] for event in events] == [1, 2, 3]
    assert "seen on rank 0" in caplog.messages
    again = launch(count, place, data_parallel=2)
    assert again["tiny/ranks"] == 3.0
    on_loopback_only()


def test_launch_failing_rank_is_named_with_its_cause(place):
    with pytest.raises(StageError, match="rank 1: OSError: disk full"):
        launch(stumble, place, data_parallel=2)


def test_launch_same_layout_reuses_the_worker(place):
    assert launch(count, place)["tiny/pid"] == launch(count, place)["tiny/pid"]


def test_launch_refused_input_is_one_line_and_not_retried(place):
    with pytest.raises(StageError) as info:
        launch(count, place, steps=-1)
    message = str(info.value)
    assert "rank 0: steps: must not be negative" in message
    assert "\n" not in message
    assert "Traceback" in (place / "work" / "failure.log").read_text()


def test_launch_rank_that_always_dies_names_it(place):
    with pytest.raises(StageError, match=r"^tiny: rank 0: its process died: killed from outside"):
        launch(die_always, place)


def test_launch_given_up_in_a_step_leaves_nothing_that_waits_for_ray(place):
    """What waits for Ray while it is shut down crashes the process."""

    def enough(*args, **kwargs):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        launch(go_on, place, report=enough)
    ray_train.release(wait=False)
    assert not [thread for thread in threading.enumerate() if thread.name == "ray-train"]


def test_fit_given_up_before_anything_of_it_has_started_leaves_nothing_that_waits_for_ray(place):
    layout = Layout(1, 1, 1, 1, 1, 1, "cpu", 1, 0, str(place / "scratch"))
    WarmGroup(layout, 1_000).stop(wait=False)
    assert not [thread for thread in threading.enumerate() if thread.name == "ray-train"]


@pytest.mark.slow
def test_launch_without_kept_workers_is_a_fit_each_with_the_same_outcome(place):
    events = []
    first = launch(count, place, keep_workers=False, report=lambda done, total, m={}, unit="step": events.append((done, total)))
    assert first["tiny/ranks"] == 1.0
    assert events == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(
        StageError, match="rank 0: steps: must not be negative"
    ):  # the same name in Ray: nothing of the run before is taken up
        launch(count, place, steps=-1, keep_workers=False)


def test_launch_paths_sent_to_ranks_mean_the_same_in_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sent = ray_train.from_anywhere(ExecutionConfig(scratch="a/scratch", checkpoint_store="file://b/store"))
    assert (sent.scratch, sent.checkpoint_store) == (f"{tmp_path}/a/scratch", f"file://{tmp_path}/b/store")
    assert ray_train.from_anywhere(ExecutionConfig(scratch="/a", checkpoint_store="s3://bucket/c")).checkpoint_store == "s3://bucket/c"
    assert ray_train.from_anywhere(ExecutionConfig()).checkpoint_store == ""


def at_once(stage, root: Path, pool: ThreadPoolExecutor, report=lambda *a, **k: None, **execution) -> list[Future]:
    """Two launches that begin at the same time."""
    (root / "room").mkdir()

    def one(name: str) -> float:
        (root / name / "out").mkdir(parents=True)
        where = execution_of(root, **execution)
        inputs = {"room": root / "room"}
        out, checkpoints = root / name / "out", root / name / "work" / "checkpoints"
        return ray_train.launch("tiny", stage, TinyConfig(steps=2), inputs, out, checkpoints, where, report)["tiny/pid"]

    return [pool.submit(one, name) for name in ("one", "other")]


@pytest.mark.slow
@pytest.mark.parametrize("keep_workers", [True, False])
def test_launches_at_the_same_time_run_beside_each_other_where_there_is_room(place, keep_workers):
    with ThreadPoolExecutor(2) as pool:
        pids = [future.result() for future in at_once(meet, place, pool, keep_workers=keep_workers)]

    assert len(set(pids)) == 2
    if keep_workers:
        assert launch(count, place)["tiny/pid"] in pids, "both groups wait for another stage"


@pytest.mark.slow
def test_sigterm_stops_all_that_run_at_the_same_time(place):
    begun = threading.Semaphore(0)
    with sigterm(), ThreadPoolExecutor(2) as pool:
        both = at_once(go_on, place, pool, lambda done, *a, **k: begun.release() if done == 3 else None)
        assert begun.acquire(timeout=120)
        assert begun.acquire(timeout=120)
        os.kill(os.getpid(), signal.SIGTERM)
        for future in both:
            with pytest.raises(StageError, match="stopped by SIGTERM"):
                future.result(timeout=60)


@pytest.mark.slow
def test_launches_at_the_same_time_take_turns_where_there_is_no_room(place):
    with ThreadPoolExecutor(2) as pool:
        pids = [future.result() for future in at_once(take_turns, place, pool, threads=max(os.cpu_count() or 1, 2))]

    assert len(set(pids)) == 1
