"""PPO split over two ranks is one rank's computation: samples, judgements, metrics, weights of policy, value and average after every update."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.hf.weights import read_checkpoint
from tests.unit.posttrain.conftest import optimizer
from tests.unit.posttrain.ppo.test_loop import Inputs, ppo_config

from . import ppo_program

pytestmark = pytest.mark.numerics


class Measured(NamedTuple):
    """Answers by layout, one rank's under ``one``, and where the weights stand."""

    answers: dict[str, Any]
    root: Path


@pytest.fixture(scope="module")
def measured(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root = tmp_path_factory.mktemp("ppo-layouts")
    # a large epsilon keeps Adam from blowing rounding of tiny gradients up to whole steps
    settings = {"eps": 1e-3, "clip_grad": 0.5}
    config = ppo_config(micro_batch=2, optimizer=optimizer(5e-3, **settings), value_optimizer=optimizer(5e-3, **settings))
    given = {"config": config.model_dump(), "inputs": {name: str(path) for name, path in inputs.items()}, "out": str(root)}
    (root / "given.json").write_text(json.dumps(given))
    one = ppo_program.measure(config, inputs, ExecutionConfig(threads=1), root / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", ppo_program.__file__]
    source = Path(__file__).parents[4] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(root / "given.json")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    return Measured({"one": one, **json.loads(done.stdout.strip().splitlines()[-1])}, root)


@pytest.mark.parametrize("layout", list(ppo_program.LAYOUTS))
def test_ppo_updates_split_over_two_ranks_equal_one_rank(layout: str, measured: Measured) -> None:
    split, one = measured.answers[layout], measured.answers["one"]
    assert split["completions"] == one["completions"]
    for found, expected in zip(split["numbers"], one["numbers"], strict=True):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    for found, expected in zip(split["metrics"], one["metrics"], strict=True):
        assert found.keys() == expected.keys()
        for key, number in expected.items():
            assert found[key] == pytest.approx(number, abs=1e-5, rel=2e-5), key
    for name in ("actor-0", "value-0", "ema-0", "actor-1", "value-1", "ema-1"):
        ours, theirs = (read_checkpoint(measured.root / where / name) for where in (layout, "one"))
        assert ours.keys() == theirs.keys()
        for key in theirs:
            torch.testing.assert_close(ours[key], theirs[key], atol=2e-6, rtol=1e-4, msg=lambda m, name=name, key=key: f"{name} {key}: {m}")
    before, after = (read_checkpoint(measured.root / "one" / f"actor-{i}") for i in range(2))
    assert max(float((after[key] - before[key]).abs().max()) for key in before) > 1e-3
