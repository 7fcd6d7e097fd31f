"""What is planned spends the budget at the horizon asked for, and is a config that the ladder accepts."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.config import read_tree
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.scaling import plan
from modelyard.scaling.chinchilla import JointLaw
from modelyard.scaling.ladder import LadderConfig, horizon

CONFIG = Path(__file__).parents[3] / "configs" / "pipeline" / "forecast.toml"
TREE = read_tree(CONFIG)
MAIN, LADDER = PretrainConfig.model_validate(TREE["base"]), LadderConfig.model_validate(TREE["forecast"])


def test_compute_optimal_is_the_minimum_along_the_budget() -> None:
    law = JointLaw(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)
    best = plan.compute_optimal(law, 1e21)
    assert 6 * best.params * best.tokens == pytest.approx(1e21)
    losses = [law(best.params * f, best.tokens / f) for f in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)


def test_plan_spends_the_budget_at_the_horizon_and_reaches_as_far_as_asked() -> None:
    made = plan.plan(MAIN, LADDER, 1.4e13, 10.0, rungs=5, reach=120.0, span=20.0, depth_follows=False)
    assert made.main.compute == pytest.approx(1.4e13, rel=0.01)
    assert horizon(made.main) == pytest.approx(10.0, rel=0.4)
    assert len({recipe.model.hidden for recipe in made.recipes}) == 5
    assert max(recipe.compute for recipe in made.recipes) == pytest.approx(1.4e13 / 120, rel=0.5)


def test_plan_command_prints_what_a_config_takes(capsys) -> None:
    assert main(["plan", str(CONFIG), "--compute", "1e15", "--tokens-per-parameter", "20"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert len(printed["forecast"]["rungs"]) == 5
    shape = {**TREE["base"]["model"], **printed["base"]["model"]}
    assert PretrainConfig.model_validate({**TREE["base"], "model": shape, "steps": printed["base"]["steps"]}).compute == pytest.approx(
        1e15, rel=0.01
    )


def test_plan_passes_widths_whose_heads_do_not_share_keys_evenly(capsys) -> None:
    assert main(["plan", str(CONFIG.parent / "tiny.toml"), "--compute", "1e17", "--tokens-per-parameter", "20"]) == 0
    shape = tomllib.loads(capsys.readouterr().out)["base"]["model"]
    assert shape["heads"] % shape["kv_heads"] == 0


def test_plan_that_cannot_be_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["plan", str(CONFIG), "--compute", "1e8", "--tokens-per-parameter", "20"]) == 2
    assert "comes near 1e+08 FLOPs" in capsys.readouterr().err
    (tmp_path / "empty.toml").write_text("")
    assert main(["plan", str(tmp_path / "empty.toml"), "--compute", "1e15", "--tokens-per-parameter", "20"]) == 2
    assert capsys.readouterr().err == f"modelyard plan: {tmp_path / 'empty.toml'}: no [base]\n"
