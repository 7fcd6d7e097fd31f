"""Checkpoints copied to a store: a real S3 server (SeaweedFS) and file://, a machine that has none of its own, and copies cut short."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint, download, mirror
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
    here: list[str] = []
    checkpoints = tmp_path / "second" / "base-1" / "checkpoints"
    resumed = train(tmp_path / "second", store, seen=seen, before={6: lambda: here.extend(os.listdir(checkpoints))})
    assert seen == [6, 7, 8]
    assert here == ["step_00000006"], "no older one is downloaded"
    assert equal(whole, resumed)
    assert steps(tmp_path / "second", store) == [6, 8]


def on_two_machines(root: Path, store: str, steps: int) -> list[dict[str, Any]]:
    """What the ranks of :mod:`tests.integration.separate_disks_program` say."""
    project = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    done = subprocess.run(
        [*command, "tests.integration.separate_disks_program", str(root), store, str(steps)],
        capture_output=True,
        text=True,
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project / 'src'}{os.pathsep}{project}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the ranks say of nine steps at one go."""
    root = tmp_path_factory.mktemp("whole")
    said = on_two_machines(root, f"file://{root / 'store'}", 9)
    assert {rank["first"] for rank in said} == {0}
    return said


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two machines stopped after seven of the nine steps; copies of it may go on, since a store is named by each launch."""
    root = tmp_path_factory.mktemp("stopped")
    assert {rank["first"] for rank in on_two_machines(root / "apart", f"file://{root / 'store'}", 7)} == {0}
    return root


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["machine-0", "machine-1"])
def test_ranks_on_disks_of_their_own_go_on_when_one_is_lost_bit_for_bit(
    tmp_path: Path, undisturbed: list[dict[str, Any]], stopped: Path, lost: str
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "apart" / lost)
    resumed = on_two_machines(tmp_path / "apart", f"file://{tmp_path / 'store'}", 9)
    assert {rank["first"] for rank in resumed} == {6}
    assert {rank["weights"] for rank in resumed} == {rank["weights"] for rank in undisturbed}
    assert all(rank["kept"] == ["step_00000006", "step_00000008"] for rank in resumed)


def test_copy_cut_short_is_not_seen_and_the_one_before_is_used(tmp_path: Path, store: str) -> None:
    train(tmp_path / "first", store, steps=7)
    there = of(tmp_path / "first", store)
    there.storage.remove(f"{there.key}/step_00000006/{checkpoint.COMPLETE}")  # killed between the last file and the mark
    assert steps(tmp_path / "second", store) == [4]
    seen: list[int] = []
    resumed = train(tmp_path / "second", store, seen=seen)
    assert seen[0] == 4
    assert equal(resumed, train(tmp_path / "whole", ""))


def test_models_trained_together_come_from_the_store_as_of_one_step(tmp_path: Path) -> None:
    store, roots = f"file://{tmp_path / 'store'}", [tmp_path / "second" / "ppo-1" / "checkpoints" / name for name in ("actor", "value")]
    train(tmp_path / "first", store, steps=5)
    for root in roots:
        shutil.copytree(tmp_path / "store" / "base-1" / "checkpoints", tmp_path / "store" / root.relative_to(tmp_path / "second"))
    (tmp_path / "store/ppo-1/checkpoints/value/step_00000004" / checkpoint.COMPLETE).unlink()  # killed between the two
    found = download.newest(roots, ExecutionConfig(scratch=str(tmp_path / "second"), checkpoint_store=store))
    assert found == roots[0] / "step_00000002"
    assert [os.listdir(root) for root in roots] == [["step_00000002"]] * 2


def test_checkpoint_that_is_damaged_in_the_store_gives_way_to_the_one_before(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    train(tmp_path / "first", store, steps=7)
    there = of(tmp_path / "first", store)
    there.storage.write(f"{there.key}/step_00000006/common.pt", b"changed")
    seen: list[int] = []
    train(tmp_path / "second", store, seen=seen)
    assert seen[0] == 4


def test_download_that_was_cut_off_goes_on_with_the_files_that_are_missing(tmp_path: Path, store: str) -> None:
    train(tmp_path / "first", store, steps=3)
    there, root = of(tmp_path / "first", store), tmp_path / "second"
    there.pull("step_00000002", root)
    names = sorted(path.name for path in (root / "step_00000002").iterdir())
    partial = (root / "step_00000002").rename(root / "partial.step_00000002")
    kept, torn, changed = partial / "__0_0.distcp", partial / "common.pt", partial / "metadata.json"
    os.utime(kept, (1, 1))
    torn.write_bytes(torn.read_bytes()[:-1])
    changed.write_bytes(changed.read_bytes()[::-1])
    (partial / "of_another_layout").touch()
    there.pull("step_00000002", root)
    assert checkpoint.damage(root / "step_00000002") is None
    assert sorted(path.name for path in (root / "step_00000002").iterdir()) == names
    assert (root / "step_00000002" / kept.name).stat().st_mtime == 1, "it is not downloaded again"
    assert not partial.exists()


def test_download_that_was_cut_off_is_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scratch, store = tmp_path / "first", f"file://{tmp_path / 'store'}"
    checkpoints = scratch / "base-1" / "checkpoints"
    train(scratch, store, steps=5)
    shutil.copytree(checkpoints / "step_00000004", checkpoints / "step_00000005.partial")
    shutil.copytree(checkpoints / "step_00000004", checkpoints / "partial.step_00000005")
    there = of(scratch, store)
    there.storage.put_file(checkpoints / "step_00000004" / checkpoint.COMPLETE, f"{there.key}/step_00000005.partial/{checkpoint.COMPLETE}")
    with caplog.at_level(logging.WARNING, "modelyard"):
        train(scratch, store, keep_last=1, keep_every=4)
    assert caplog.messages == []
    assert steps(scratch, store) == [4, 8]
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step_00000004", "step_00000008"]


def test_copy_goes_to_the_store_though_nothing_can_be_pruned_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not now")

    monkeypatch.setattr(checkpoint, "prune", refuse)
    train(tmp_path / "first", f"file://{tmp_path / 'store'}", steps=5)
    assert steps(tmp_path / "first", f"file://{tmp_path / 'store'}") == [2, 4]


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
