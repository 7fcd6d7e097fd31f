"""Checkpoints beside training: asynchronous, bit-exact, pruned, refused by a full disk; and loss spikes."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard import progress
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.checkpoints.writer import DiskFullError
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch, LossOutput
from modelyard.model.training.engine import Engine
from modelyard.model.training.spikes import Recent, SpikeConfig, limit, note
from modelyard.progress import PreemptedError, Stop, StopError, silent

from .layout_program import OPTIMIZER, batch, masked_loss, model

EXECUTION = ExecutionConfig(threads=1, checkpoint_every=2, log_every=1)
STEPS = 9


def engine() -> Engine:
    return Engine(model("llama", True), EXECUTION, seed=1, precision="fp32", optim=OPTIMIZER, total_steps=STEPS)


def train(checkpoints: Path, *, steps: int = STEPS, spike: SpikeConfig | None = None, poison: Any = (), **where: Any) -> tuple[Engine, Any]:
    """Train on batches that depend on the step; steps in ``poison`` have a hundredfold loss, and what it maps them to is called before."""
    trained, factor = engine(), [1.0]

    def batches(step: int) -> Batch:
        factor[0] = 100.0 if step in poison else 1.0
        if isinstance(poison, dict) and step in poison:
            factor[0] = 1.0
            poison[step]()
        data = batch()
        return data._replace(tokens=torch.randint(0, 128, data.tokens.shape, generator=torch.Generator().manual_seed(step)))

    def loss(output: torch.Tensor, part: Batch) -> LossOutput:
        result = masked_loss(output, part)
        return LossOutput(result.loss_sum * factor[0], result.count, result.metrics)

    history = trainer.train(
        trained,
        batches,
        steps=steps,
        micro_batch=4,
        loss_fn=loss,
        stage="tiny",
        checkpoints=checkpoints,
        execution=EXECUTION.model_copy(update=where),
        report=silent,
        spike=spike,
    )
    return trained, history


def equal(one: Engine, other: Engine) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.gpt.parameters(), other.gpt.parameters(), strict=True))


def complete(root: Path) -> list[int]:
    return sorted(checkpoint.step_of(path.parent.name) for path in root.glob(f"step_*/{checkpoint.COMPLETE}"))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds back the mark of completeness until it is set, as a slow disk would."""
    opened, seal = threading.Event(), checkpoint.seal

    def slow(directory: Path, written: dict[str, Any], files: object = None) -> None:
        assert opened.wait(60)
        seal(directory, written, files)

    monkeypatch.setattr(checkpoint, "seal", slow)
    yield opened
    opened.set()


def test_save_beside_training_lets_steps_go_on_and_holds_the_state_of_its_step(tmp_path: Path, gate: threading.Event) -> None:
    whole, _ = train(tmp_path / "whole", checkpoint_every=100)
    seen: dict[int, list[int]] = {}
    # the checkpoint of step 2 is being written while steps 3 and 4 are taken; then it may finish
    poison = {2: lambda: seen.update({2: complete(tmp_path / "slow")}), 3: lambda: seen.update({3: complete(tmp_path / "slow")})}
    poison[3] = lambda: (seen.update({3: complete(tmp_path / "slow")}), gate.set())
    train(tmp_path / "slow", steps=4, poison=poison, checkpoint_every=2)
    assert seen == {2: [], 3: []}
    assert complete(tmp_path / "slow") == [2]
    resumed, history = train(tmp_path / "slow")
    assert [line["step"] for line in history.lines] == list(range(1, STEPS + 1))
    assert equal(whole, resumed)


def test_run_given_up_while_a_checkpoint_is_written_goes_on_from_the_one_before(tmp_path: Path, gate: threading.Event) -> None:
    whole, _ = train(tmp_path / "whole", checkpoint_every=100)
    gate.set()
    train(tmp_path / "run", steps=5)
    newest = checkpoint.step_directory(tmp_path / "run", 4)
    (newest / checkpoint.COMPLETE).unlink()  # what a kill leaves between the last file and the mark
    resumed, _ = train(tmp_path / "run")
    assert equal(whole, resumed)


@pytest.mark.parametrize(
    ("steps", "last", "every", "deleted"),
    [
        ([2, 4, 6, 8], 2, 0, [2, 4]),
        ([2, 4, 6, 8], 9, 0, []),
        ([2, 4, 6, 8, 10, 12], 1, 4, [2, 6, 10]),
        ([3, 6, 9, 12, 15], 1, 5, [3, 9]),  # the first at or after 5, 10 and 15
        ([], 2, 5, []),
    ],
)
def test_superseded_checkpoints_are_all_but_the_last_and_one_of_every_so_many(
    steps: list[int], last: int, every: int, deleted: list[int]
) -> None:
    names = [checkpoint.step_directory(Path(), step).name for step in steps]
    assert [checkpoint.step_of(name) for name in checkpoint.superseded(names, last, every)] == deleted


def test_training_prunes_by_the_policy(tmp_path: Path) -> None:
    half_written = checkpoint.step_directory(tmp_path, 1)
    half_written.mkdir(parents=True)
    train(tmp_path, checkpoint_every=1, keep_last=2, keep_every=4)
    assert complete(tmp_path) == [4, 7, 8]
    assert not half_written.exists()


def test_models_trained_together_are_copied_at_once_and_pruned_when_all_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [trainer.Kept(engine(), tmp_path / name, trainer.History()) for name in ("value", "actor")]
    execution, seal, seen = EXECUTION.model_copy(update={"keep_last": 1}), checkpoint.seal, []

    def look(directory: Path, written: dict[str, Any], files: Any) -> None:
        seen.append((directory.parent.name, complete(tmp_path / "value"), complete(tmp_path / "actor")))
        seal(directory, written, files)

    trainer.keep(models, 1, execution)
    checkpoint.wait()
    monkeypatch.setattr(checkpoint, "seal", look)
    before = [parameter.clone() for parameter in models[1].engine.gpt.parameters()]
    trainer.keep(models, 2, execution)
    for kept in models:
        kept.engine.train_step(batch(), 4, masked_loss)
    checkpoint.wait()
    assert seen == [("value", [1], [1]), ("actor", [1, 2], [1])]
    assert [complete(kept.checkpoints) for kept in models] == [[2], [2]]
    models[1].engine.load(checkpoint.step_directory(tmp_path / "actor", 2))
    assert all(torch.equal(a, b) for a, b in zip(before, models[1].engine.gpt.parameters(), strict=True))


def test_full_disk_stops_with_one_line_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        checkpoint.wait()  # the one of step 4
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(DiskFullError, match=r"step_00000006: no room to write it \(.* MiB free\); the one before is kept") as raised:
            train(tmp_path, poison={5: fill})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.rank == 0
    assert "\n" not in str(raised.value)
    assert complete(tmp_path) == [2, 4]
    assert not checkpoint.step_directory(tmp_path, 6).exists()
    assert equal(train(tmp_path)[0], train(tmp_path / "whole")[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs at {place}: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_filesystem_without_room_stops_with_one_line_and_the_run_goes_on_when_there_is(small_disk: Path, tmp_path: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        checkpoint.wait()
        size = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(size - 65536))

    with pytest.raises(DiskFullError, match=r"step_00000006: no room to write it \(0\.\d MiB free\); the one before is kept"):
        train(small_disk / "run", poison={5: fill}, keep_last=1)
    filler.unlink()
    assert complete(small_disk / "run") == [4]
    assert equal(train(small_disk / "run", keep_last=1)[0], train(tmp_path / "whole", checkpoint_every=100)[0])


def test_stop_request_ends_after_the_step_with_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(PreemptedError, match=r"stopped by SIGTERM after step 6; its checkpoint is written, run again to go on") as raised:
        train(tmp_path / "run", poison={5: lambda: progress.request_stop(Stop.SIGNALLED)}, checkpoint_every=100)
    assert raised.value.rank == 0
    assert complete(tmp_path / "run") == [6]
    resumed, _ = train(tmp_path / "run")
    assert equal(whole, resumed)


SPIKES = SpikeConfig(factor=3.0, window=3, patience=2)


def test_spike_is_skipped_and_recorded_and_a_resumed_run_skips_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "modelyard"):
        whole, history = train(tmp_path / "whole", spike=SPIKES, poison=[4, 6], checkpoint_every=100)
    assert [line["step"] for line in history.lines if line.get("tiny/train/skipped")] == [5, 7]
    assert [record.getMessage()[:10] for record in caplog.records if "spike" in record.getMessage()] == ["tiny: loss"] * 2
    train(tmp_path / "run", steps=5, spike=SPIKES, poison=[4, 6])
    resumed, again = train(tmp_path / "run", spike=SPIKES, poison=[4, 6])
    assert again.lines == history.lines
    assert equal(whole, resumed)


def test_skipped_step_changes_no_weight() -> None:
    trained = engine()
    before = [parameter.clone() for parameter in trained.gpt.parameters()]
    metrics = trained.train_step(batch(), 4, masked_loss, loss_limit=1e-9)
    assert metrics["skipped"] == 1.0
    assert trained.step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, trained.gpt.parameters(), strict=True))


def test_spikes_in_a_row_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(StopError, match=r"at step 6 is the last of 2 in a row above 3 times the median of the 3 steps before .* diverged"):
        train(tmp_path, spike=SPIKES, poison=[4, 5])


def test_spike_limit_is_of_taken_steps_only_and_not_before_the_window_is_full() -> None:
    recent = Recent()
    for step, loss in enumerate([5.0, 4.0]):
        assert limit(SPIKES, recent) == float("inf")
        assert not note(SPIKES, recent, step, loss)
    assert not note(SPIKES, recent, 2, 30.0)  # the window was not full
    assert limit(SPIKES, recent) == 15.0  # 3 x median of 5, 4, 30
    assert note(SPIKES, recent, 3, 15.1)
    assert limit(SPIKES, recent) == 15.0
    assert not note(SPIKES, recent, 4, 3.0)
    assert recent == Recent([4.0, 30.0, 3.0], 0)
