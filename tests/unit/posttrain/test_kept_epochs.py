"""The weights after every epoch, where a run goes on with what the checkpoint store has alone."""

from pathlib import Path
from typing import Any

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.model.training.engine import Engine
from modelyard.posttrain import sft
from modelyard.posttrain.kept_epochs import EPOCHS

from .conftest import MODEL
from .test_sft_reward import sft_config

CONFIG = sft_config(epochs=3, keep_epochs=True, pretraining_share=0.0)


class LostError(Exception):
    """The machine is gone."""


def train(world: dict[str, Path], machine: Path, store: str, until: float = 2.0) -> Path:
    """The result of a machine that is lost after ``until`` of the steps."""

    def report(done: int, total: int, *_: Any, **__: Any) -> None:
        if done / total >= until:
            raise LostError

    execution = ExecutionConfig(checkpoint_every=1, log_every=1, threads=1, scratch=str(machine), checkpoint_store=store)
    out = machine / "sft-1" / "out"
    out.mkdir(parents=True)
    sft.run(CONFIG, {"base": world["base"], "feedback": world["feedback"]}, out, machine / "sft-1" / "checkpoints", execution, report)
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
    with pytest.raises(ValueError, match=r"sft.keep_epochs: of 3 epochs the weights after 001 are not there; remove "):
        train(world, tmp_path / "third", f"file://{tmp_path / 'cut'}")
