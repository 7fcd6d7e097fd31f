"""Real workers that die, freeze, diverge, are preempted or find the disk full, in a real training: how each ends, and that nothing is lost."""

import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from ray import cloudpickle

from modelyard.adapters.ray import cluster
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.fit import StageError
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.progress import Report, silent
from tests.unit.model import layout_program

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(900)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(layout_program)

STEPS = 12


class Troubles(Config):
    """What happens before which step, each once: ``kill``, ``stop`` and ``term`` (signals), ``nan``, ``full``; ``told``: wait to be told to stop."""

    at: dict[str, int]


def train(config, inputs, out, checkpoints, execution, report):
    """A tiny model on random tokens; rank 1 meets its troubles, rank 0 the full disk. Returns a fingerprint of weights and history."""
    import hashlib
    import json

    import torch

    from modelyard import progress
    from modelyard.model.checkpoints import checkpoint
    from modelyard.model.training import trainer
    from modelyard.model.training.batch import LossOutput
    from modelyard.model.training.engine import Engine

    engine = Engine(
        layout_program.model("llama", True), execution, seed=1, precision="fp32", optim=layout_program.OPTIMIZER, total_steps=STEPS
    )
    poisoned = False

    def batches(step):
        nonlocal poisoned
        poisoned = False
        for trouble, at in config.at.items():
            mark = checkpoints.parent / trouble
            if step == at and engine.layout.rank == (0 if trouble == "full" else 1) and not mark.exists():
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
                poisoned = trouble == "nan"
                if trouble == "told":
                    while not progress.stop_requested():
                        time.sleep(0.05)
                elif trouble == "full":
                    checkpoint.wait()  # the one of the step before
                    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
                elif not poisoned:
                    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[trouble])
        generator = torch.Generator().manual_seed(step)
        data = layout_program.batch()
        return data._replace(tokens=torch.randint(0, 128, data.tokens.shape, generator=generator))

    def loss(output, part):
        result = layout_program.masked_loss(output, part)
        return LossOutput(result.loss_sum * float("nan"), result.count, result.metrics) if poisoned else result

    started = []

    def noted(done, total, metrics={}, unit="step"):
        started.append(done)
        report(done, total, metrics, unit)

    history = trainer.train(
        engine,
        batches,
        steps=STEPS,
        micro_batch=2,
        loss_fn=loss,
        stage="tiny",
        checkpoints=checkpoints,
        execution=execution,
        report=noted,
    )
    weights = b"".join(parameter.detach().numpy().tobytes() for parameter in engine.gpt.parameters())
    digest = hashlib.sha256(weights + json.dumps(history.lines).encode()).hexdigest()
    return {"tiny/fingerprint": float(int(digest[:12], 16)), "tiny/started_at": float(started[0])}


class Launches(NamedTuple):
    """Launches of :func:`train` below one directory, and the lines about restarts that were logged meanwhile."""

    place: Path
    lines: list[str]
    keep_workers: bool

    def __call__(self, name: str, report: Report = silent, **at: int) -> dict[str, float]:
        """Train in ``name`` with these troubles."""
        execution = ExecutionConfig(
            scratch=str(self.place / "scratch"),
            data_parallel=2,
            threads=1,
            max_restarts=3,
            hang_seconds=10,
            checkpoint_every=2,
            log_every=1,
            keep_workers=self.keep_workers,
        )
        return ray_train.launch("troubled", train, Troubles(at=at), {}, self.place / "out", self.checkpoints(name), execution, report)

    def checkpoints(self, name: str) -> Path:
        """Where ``name`` keeps them."""
        return self.place / name / "checkpoints"


@pytest.fixture(scope="module", params=[True, False], ids=["warm", "fit-each"])
def launches(tmp_path_factory, request) -> Iterator[Launches]:
    place, lines = tmp_path_factory.mktemp("failures"), []
    (place / "out").mkdir()
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: "; restart " in record.getMessage())
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("modelyard").addHandler(handler)
    yield Launches(place, lines, request.param)
    logging.getLogger("modelyard").removeHandler(handler)
    ray_train.release()
    cluster.disconnect()


@pytest.fixture(scope="module")
def preempted(launches: Launches) -> str:
    """Killed, frozen, poisoned, then preempted: how the launch ended."""
    with pytest.raises(StageError) as error:
        launches("troubled", kill=3, stop=5, nan=7, term=9)
    return str(error.value)


def test_killed_rank_is_named_and_the_group_restarted(preempted: str, launches: Launches) -> None:
    assert "troubled: rank 1: its process died: killed from outside" in launches.lines[0]
    assert "restart 1 of 3" in launches.lines[0]


def test_frozen_rank_is_named_killed_and_the_group_restarted(preempted: str, launches: Launches) -> None:
    assert "rank 1: no step for" in launches.lines[1]
    assert "(its process does not answer); restart 2 of 3" in launches.lines[1]


def test_nan_loss_is_named_and_restarted_from_the_last_checkpoint(preempted: str, launches: Launches) -> None:
    assert "rank 1: loss is nan at step 7; restart 3 of 3" in launches.lines[2]


def test_sigterm_to_a_rank_writes_a_checkpoint_and_stops_with_one_line(preempted: str) -> None:
    assert "rank 1: stopped by SIGTERM after step 10; its checkpoint is written, run again to go on" in preempted
    assert "\n" not in preempted


def test_run_through_all_of_it_equals_an_uninterrupted_one_bit_for_bit(preempted: str, launches: Launches) -> None:
    resumed, whole = launches("troubled"), launches("whole")
    assert resumed["tiny/started_at"] == 10
    assert whole["tiny/started_at"] == 0
    assert resumed["tiny/fingerprint"] == whole["tiny/fingerprint"]


def test_sigterm_to_the_driver_stops_every_rank_with_a_checkpoint(launches: Launches) -> None:
    def terminate(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StageError, match="stopped by SIGTERM after step 4; its checkpoint is written, run again to go on"):
        launches("told", terminate, told=3)


def test_full_disk_on_a_rank_is_named_and_the_checkpoint_before_kept(launches: Launches) -> None:
    with pytest.raises(StageError, match=r"rank 0: checkpoint .*: no room to write it \(.*\); the one before is kept") as error:
        launches("full", full=5)
    assert "\n" not in str(error.value)
    kept = sorted(path.parent.name for path in launches.checkpoints("full").glob("*/complete.json"))
    assert kept == ["step_00000002", "step_00000004"]
