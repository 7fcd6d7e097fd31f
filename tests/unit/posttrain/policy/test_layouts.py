"""Policies trained on two ranks are one rank's: samples, judgements, metrics, weights of policy, critic and average after every update."""

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
from modelyard.posttrain.policy.config import PolicyConfig
from tests.unit.posttrain.conftest import ALL, optimizer
from tests.unit.posttrain.preference.preferences import dpo_config, ipo_config, kto_config, kwise_config

from . import policy_program
from .policies import Inputs, grpo_config, opd_config, ppo_config, rloo_config

pytestmark = pytest.mark.numerics

# a large epsilon keeps Adam from blowing rounding of tiny gradients up to whole steps
SLOW = optimizer(5e-3, eps=1e-3, clip_grad=0.5)
CONFIGS: dict[str, PolicyConfig] = {
    "ppo": ppo_config(micro_batch=2, optimizer=SLOW, value_optimizer=SLOW),
    "ppo_lora": ppo_config(micro_batch=2, optimizer=SLOW, value_optimizer=SLOW, lora=ALL),
    "grpo": grpo_config(micro_batch=2, optimizer=SLOW),
    "grpo_lora": grpo_config(micro_batch=2, optimizer=SLOW, lora=ALL),
    "rloo": rloo_config(micro_batch=2, optimizer=SLOW),
    "kwise_dpo": kwise_config(optimizer=SLOW),
    "dpo": dpo_config(optimizer=SLOW),
    "ipo": ipo_config(optimizer=SLOW),
    "kto": kto_config(optimizer=SLOW),
}


class Measured(NamedTuple):
    """Answers by layout and policy, one rank's under ``one``, and where the weights stand."""

    answers: dict[str, Any]
    root: Path


def run(split: dict[str, list[str]], inputs: Inputs, adapted: Inputs, root: Path) -> Measured:
    """Every layout's answers for the policies that ``split`` names, beside one rank's."""
    configs = {**CONFIGS, "opd": opd_config(micro_batch=2, optimizer=SLOW)}
    read = {name: adapted if name.endswith("_lora") else inputs for name in configs}
    given = {
        "configs": {name: config.model_dump() for name, config in configs.items()},
        "inputs": {name: {role: str(path) for role, path in roles.items()} for name, roles in read.items()},
        "split": split,
        "out": str(root),
    }
    (root / "given.json").write_text(json.dumps(given))
    alone = ExecutionConfig(threads=1)
    named = {name for names in split.values() for name in names}
    one = {name: policy_program.measure(configs[name], read[name], alone, root / "one" / name) for name in sorted(named)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", policy_program.__file__]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4] / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(root / "given.json")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    return Measured({"one": one, **json.loads(done.stdout.strip().splitlines()[-1])}, root)


@pytest.fixture(scope="module")
def measured(inputs: Inputs, adapted: Inputs, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return run(policy_program.DEFAULT, inputs, adapted, tmp_path_factory.mktemp("policy-layouts"))


@pytest.fixture(scope="module")
def slow_measured(inputs: Inputs, adapted: Inputs, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return run(policy_program.SLOW, inputs, adapted, tmp_path_factory.mktemp("policy-layouts"))


@pytest.mark.parametrize(("layout", "name"), policy_program.cases(policy_program.DEFAULT))
def test_policy_updates_split_over_two_ranks_equal_one_rank(layout: str, name: str, measured: Measured) -> None:
    assert_same_updates(layout, name, measured)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), policy_program.cases(policy_program.SLOW))
def test_every_other_policy_split_over_two_ranks_equals_one_rank(layout: str, name: str, slow_measured: Measured) -> None:
    assert_same_updates(layout, name, slow_measured)


def assert_same_updates(layout: str, name: str, measured: Measured) -> None:
    """Texts, numbers, metrics and weights of two updates."""
    split, one = measured.answers[layout][name], measured.answers["one"][name]
    assert split["completions"] == one["completions"]
    for found, expected in zip(split["numbers"], one["numbers"], strict=True):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    for found, expected in zip(split["metrics"], one["metrics"], strict=True):
        assert found.keys() == expected.keys()
        for key, number in expected.items():
            assert found[key] == pytest.approx(number, abs=1e-5, rel=2e-5), key
    root = measured.root
    trained = sorted(path.name for path in (root / "one" / name).iterdir() if path.name[-2:] in ("-0", "-1"))
    assert {"actor-0", "actor-1"} <= set(trained)
    for model in trained:
        ours, theirs = (read_checkpoint(root / where / name / model) for where in (layout, "one"))
        assert ours.keys() == theirs.keys()
        for key in theirs:
            torch.testing.assert_close(
                ours[key], theirs[key], atol=2e-6, rtol=1e-4, msg=lambda m, model=model, key=key: f"{model} {key}: {m}"
            )
    before, after = (read_checkpoint(root / "one" / name / f"actor-{i}") for i in range(2))
    assert max(float((after[key] - before[key]).abs().max()) for key in before) > 1e-3
