"""A stage that is asked to end: work without checkpoints ends at its next report, a loop with checkpoints after its step."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard import progress
from modelyard.adapters.ray import rank
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.training import trainer
from modelyard.progress import PreemptedError, Stop
from modelyard.store.manifest import Spec
from tasks import build


class Nothing(Config):
    """Nothing to configure."""


@pytest.fixture(autouse=True)
def nobody_asks() -> Iterator[None]:
    yield
    progress.request_stop(Stop.NOBODY)


def scores(config, inputs, out, checkpoints, execution, report):
    """Asked to stop while it does its third item."""
    for item in range(1, 6):
        if item == 3:
            progress.request_stop(Stop.TOLD)
        report(item, 5, unit="item")
    return {"scores/items": 5.0}


def trains(config, inputs, out, checkpoints, execution, report):
    """The same in a loop that writes checkpoints."""
    with trainer.checkpoints_written():
        return scores(config, inputs, out, checkpoints, execution, report)


def run_on_rank(stage) -> dict[str, float]:
    class Mailbox:
        report = warn = SimpleNamespace(remote=lambda *words: None)

    job = rank.Job("tiny", stage, Nothing(), {}, Path("out"), Path("checkpoints"), ExecutionConfig(threads=1), "", {})
    return rank._run(job, 0, True, Mailbox)


def test_stage_without_checkpoints_ends_at_its_next_report_and_says_where() -> None:
    with pytest.raises(PreemptedError, match="stopped by SIGTERM after 3 of 5 items; run again"):
        run_on_rank(scores)
    assert progress.stop_requested() is Stop.NOBODY


def test_work_between_two_reports_ends_at_its_next_beat_and_a_finished_stage_is_kept() -> None:
    def computes(config, inputs, out, checkpoints, execution, report):
        progress.request_stop(Stop.TOLD)
        progress.beat()
        raise AssertionError("it went on")

    def finishes(config, inputs, out, checkpoints, execution, report):
        progress.request_stop(Stop.TOLD)
        report(5, 5, unit="item")
        return {"scores/items": 5.0}

    with pytest.raises(PreemptedError, match="stopped by SIGTERM between two reports; run again"):
        run_on_rank(computes)
    assert run_on_rank(finishes) == {"scores/items": 5.0}


def test_loop_with_checkpoints_is_left_to_end_after_its_step() -> None:
    assert run_on_rank(trains) == {"scores/items": 5.0}
    assert progress.stop_requested() is Stop.TOLD


def test_no_stage_begins_after_one_that_was_through_when_it_was_asked_to_stop() -> None:
    progress.request_stop(Stop.TOLD)
    with pytest.raises(PreemptedError, match="stopped by SIGTERM before sft; run again to go on"):
        build.build(Spec("sft", Nothing(), {}, "code"), lambda *given: {}, build.Place("line", ExecutionConfig()))
