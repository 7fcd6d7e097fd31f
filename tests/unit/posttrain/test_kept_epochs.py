"""The weights after every epoch, where a run goes on with what the checkpoint store has alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.training import adapter_file
from modelyard.model.training.engine import Engine
from modelyard.posttrain import sft
from modelyard.posttrain.kept_epochs import EPOCHS

from .conftest import ALL, MODEL
from .test_sft_reward import sft_config

CONFIG = sft_config(epochs=3, keep_epochs=True, pretraining_share=0.0)


class LostError(Exception):
    """The machine is gone."""


def train(world: dict[str, Path], machine: Path, store: str, until: float = 2.0, config: sft.SFTConfig = CONFIG, **layout: int) -> Path:
    """The result of a machine that is lost after ``until`` of the steps."""

    def report(done: int, total: int, *_: Any, **__: Any) -> None:
        if done / total >= until:
            raise LostError

    execution = ExecutionConfig(checkpoint_every=1, log_every=1, threads=1, scratch=str(machine), checkpoint_store=store, **layout)
    out = machine / "sft-1" / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    sft.run(config, {"base": world["base"], "feedback": world["feedback"]}, out, machine / "sft-1" / "checkpoints", execution, report)
    return out


def weights(out: Path, execution: ExecutionConfig) -> dict[str, list[Any]]:
    engine, found = Engine(MODEL, execution, seed=0, precision="fp32"), {}
    for epoch in sorted((out / EPOCHS).iterdir()):
        engine.load_weights(epoch)
        found[epoch.name] = [parameter.tolist() for parameter in engine.gpt.parameters()]
    return found


def test_run_that_goes_on_from_the_store_alone_has_every_epoch_of_an_undisturbed_one_and_is_refused_without(
    world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    whole = weights(train(world, tmp_path / "whole", ""), execution)
    assert list(whole) == ["001", "002", "003"]
    for name in ("kept", "cut"):
        with pytest.raises(LostError):
            train(world, tmp_path / f"{name}-lost", f"file://{tmp_path / name}", until=0.8)
    assert weights(train(world, tmp_path / "another", f"file://{tmp_path / 'kept'}"), execution) == whole
    (tmp_path / "cut/sft-1/checkpoints" / EPOCHS / "001/complete.json").unlink()  # never came there whole
    with pytest.raises(
        ValueError, match=r"sft.keep_epochs: the weights after epoch 001 are not there; remove .* and what file:.*/cut has of it"
    ):
        train(world, tmp_path / "third", f"file://{tmp_path / 'cut'}")


def test_adapters_of_every_epoch_come_back_from_the_store_with_its_weights_and_are_required(world: dict[str, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"lora": ALL})

    def adapters(out: Path) -> list[bytes]:
        return [(out / EPOCHS / name / file).read_bytes() for name in ("001", "002", "003") for file in adapter_file.FILES]

    whole = adapters(train(world, tmp_path / "whole", "", config=config))
    for name in ("kept", "cut"):
        with pytest.raises(LostError):
            train(world, tmp_path / f"{name}-lost", f"file://{tmp_path / name}", until=0.8, config=config)
    assert adapters(train(world, tmp_path / "another", f"file://{tmp_path / 'kept'}", config=config)) == whole
    (tmp_path / "cut/sft-1/checkpoints" / EPOCHS / "001" / adapter_file.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"sft.keep_epochs: the weights after epoch 001 are not there"):
        train(world, tmp_path / "third", f"file://{tmp_path / 'cut'}", config=config)


@pytest.mark.slow
def test_ranks_on_disks_of_their_own_publish_every_part_of_every_epoch_when_one_is_lost(world: dict[str, Path], tmp_path: Path) -> None:
    for name in ("base", "feedback"):
        shutil.copytree(world[name], tmp_path / name)
    project, root = Path(__file__).parents[3], tmp_path / "apart"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    for until in ("0.8", "2"):
        shutil.rmtree(root / "machine-1", ignore_errors=True)
        done = subprocess.run(
            [*command, "tests.unit.posttrain.kept_epochs_program", str(tmp_path), str(root), f"file://{tmp_path / 'store'}", until],
            capture_output=True,
            text=True,
            cwd=project,
            env={**os.environ, "PYTHONPATH": f"{project / 'src'}{os.pathsep}{project}", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
    for machine in ("machine-0", "machine-1"):  # as the driver brings together what nodes send
        shutil.copytree(root / machine / "sft-1" / "out", tmp_path / "together", dirs_exist_ok=True)
    assert {path.name: checkpoint.damage(path) for path in (tmp_path / "together" / EPOCHS).iterdir()} == dict.fromkeys(
        ("001", "002", "003")
    )
