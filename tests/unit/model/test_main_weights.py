"""New weights are written from the optimizer's together, and are those that megatron-core writes one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.network.model_config import Precision
from modelyard.model.training.engine import Engine

from . import layout_program as program
from . import main_weights_program

pytestmark = pytest.mark.numerics


def made(case: str = "llama-tied", precision: Precision = "bf16") -> Engine:
    return Engine(program.case(case), ExecutionConfig(threads=1), seed=0, precision=precision, optim=program.OPTIMIZER, total_steps=6)


def one_by_one(engine: Engine) -> Engine:
    """The same engine with megatron-core's own copies."""
    for part in engine.optimizer.chained_optimizers:
        del part._copy_main_params_to_model_params  # of the object; the class still has its own
    return engine


def stepped(engine: Engine, steps: int) -> dict[str, torch.Tensor]:
    batch = program.batch_of(engine.model)
    for _ in range(steps):
        engine.train_step(batch, 4, program.masked_loss)
    return {name: parameter.detach().clone() for name, parameter in engine.gpt.named_parameters()}


@pytest.mark.parametrize("case", ["llama-tied", "llama-experts", "gpt-untied"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_weights_written_together_are_bit_for_bit_those_written_one_by_one(case: str, precision: Precision) -> None:
    together, single = stepped(made(case, precision), 3), stepped(one_by_one(made(case, precision)), 3)
    before = {name: parameter.detach() for name, parameter in made(case, precision).gpt.named_parameters()}
    assert together.keys() == single.keys()
    assert all(torch.equal(together[name], single[name]) for name in together)
    assert any(not torch.equal(together[name], before[name]) for name in together), "nothing was trained"


def test_weights_after_a_resume_are_those_of_the_uninterrupted_run(tmp_path: Path) -> None:
    engine = made()
    stepped(engine, 2)
    engine.save(tmp_path / "checkpoint")
    whole = stepped(engine, 2)
    resumed = made()
    resumed.load(tmp_path / "checkpoint")
    assert all(torch.equal(weight, whole[name]) for name, weight in stepped(resumed, 2).items())


def test_weights_in_fp32_are_the_optimizers_own_and_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(precision="fp32")
    monkeypatch.setattr(torch, "_foreach_copy_", lambda *lists: pytest.fail("a copy of memory onto itself"))
    stepped(engine, 1)


@pytest.mark.slow
def test_two_replicas_write_their_shares_together_as_one_by_one() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", main_weights_program.__file__]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    assert done.stdout.count("equal") == 2
