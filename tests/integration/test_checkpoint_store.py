"""Checkpoints copied to a store: a real S3 server (SeaweedFS) and file://, a machine that has none of its own, and copies cut short."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint, mirror
from modelyard.model.checkpoints.writer import CheckpointError
from modelyard.model.training import trainer
from modelyard.model.training.engine import Engine
from modelyard.progress import silent
from tests.unit.model.layout_program import OPTIMIZER, batch, masked_loss, model

pytestmark = pytest.mark.integration


@pytest.fixture(params=["s3", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3")) if request.param == "s3" else f"file://{tmp_path / 'store'}"


def train(
    scratch: Path, store: str, *, steps: int = 9, seen: list[int] | None = None, before: Mapping[int, Callable[[], None]] = {}, **where: Any
) -> Engine:
    execution = ExecutionConfig(
        scratch=str(scratch),
        checkpoint_store=store,
        threads=1,
        checkpoint_every=2,
        log_every=1,
        **{"keep_last": 2, "keep_every": 0, **where},
    )
    trained = Engine(model("llama", True), execution, seed=1, precision="fp32", optim=OPTIMIZER, total_steps=9)

    def data(step: int) -> Any:
        if step in before:
            checkpoint.wait()
            before[step]()
        if seen is not None:
            seen.append(step)
        return batch(24)._replace(tokens=torch.randint(0, 128, (8, 24), generator=torch.Generator().manual_seed(step)))

    trainer.train(
        trained,
        data,
        steps=steps,
        micro_batch=4,
        loss_fn=masked_loss,
        stage="tiny",
        checkpoints=scratch / "base-1" / "checkpoints",
        execution=execution,
        report=silent,
    )
    return trained


def of(scratch: Path, store: str) -> mirror.Mirror:
    found = mirror.of(ExecutionConfig(scratch=str(scratch), checkpoint_store=store), scratch / "base-1" / "checkpoints")
    assert found is not None
    return found


def steps(scratch: Path, store: str) -> list[int]:
    return [checkpoint.step_of(name) for name in of(scratch, store).steps()]


def equal(one: Engine, other: Engine) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.gpt.parameters(), other.gpt.parameters(), strict=True))


def test_machine_without_checkpoints_goes_on_from_the_store_bit_for_bit(tmp_path: Path, store: str) -> None:
    whole = train(tmp_path / "whole", "")
    train(tmp_path / "first", store, steps=7, keep_every=4)
    assert steps(tmp_path / "first", store) == [4, 6]
    seen: list[int] = []
    resumed = train(tmp_path / "second", store, seen=seen)
    assert seen == [6, 7, 8]
    assert equal(whole, resumed)
    assert steps(tmp_path / "second", store) == [6, 8]


def test_copy_cut_short_is_not_seen_and_the_one_before_is_used(tmp_path: Path, store: str) -> None:
    train(tmp_path / "first", store, steps=7)
    there = of(tmp_path / "first", store)
    there.storage.remove(f"{there.key}/step_00000006/{checkpoint.COMPLETE}")  # killed between the last file and the mark
    assert steps(tmp_path / "second", store) == [4]
    seen: list[int] = []
    resumed = train(tmp_path / "second", store, seen=seen)
    assert seen[0] == 4
    assert equal(resumed, train(tmp_path / "whole", ""))


def test_store_lost_on_the_way_warns_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "store"

    def lose() -> None:
        shutil.rmtree(place)
        place.write_text("a file where the store was")

    with caplog.at_level(logging.WARNING, "modelyard"):
        train(tmp_path / "first", f"file://{place}", steps=7, before={4: lose})
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"rank 0: checkpoint {checkpoint.step_directory(tmp_path / 'first' / 'base-1' / 'checkpoints', 6)}: ")
    assert line.endswith("; the copy on this machine is whole")


def test_store_that_cannot_be_reached_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    with pytest.raises(
        CheckpointError, match=r"checkpoint_store file://.*store: StorageRefusedError: file://.*store/.*: NotADirectoryError"
    ):
        train(tmp_path / "first", f"file://{tmp_path / 'store'}")
