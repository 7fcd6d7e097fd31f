"""How the recipe transfers to the rungs, what makes a ladder refuse, and a ladder that is really trained, killed and resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import write_rows
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.recipe import Recipe
from modelyard.progress import silent
from modelyard.scaling import ladder
from modelyard.scaling.ladder import Rung, ScalingConfig, active_parameters

SHAPE = {"style": "llama", "layers": 1, "hidden": 32, "heads": 4, "kv_heads": 2, "ffn_hidden": 64, "seq_len": 16, "vocab_size": 64}
MODEL = ModelConfig.model_validate({**SHAPE, "tie_embeddings": True, "rope_base": 1e4, "norm_eps": 1e-5, "init_std": 0.04})
RATES = {
    "lr": 4e-3,
    "min_lr_ratio": 0.1,
    "warmup_steps": 6,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "clip_grad": 1.0,
}
OPTIMIZER = OptimizerConfig.model_validate({**RATES, "schedule": "cosine"})
MAIN = Recipe(model=MODEL, optimizer=OPTIMIZER, precision="fp32", steps=30, batch=16, micro_batch=16, seed=5)
KINDS = {"lr_exponent": -1 / 3, "batch_exponent": 2 / 3, "noise_floor": 0.01, "compute_share": 0.5}
RUNGS = ((8, 13, 2), (12, 15, 1), (16, 18, 1), (20, 20, 1))


def config(rungs: tuple[tuple[int, int, int], ...] = RUNGS, **changes: float) -> ScalingConfig:
    made = tuple(Rung(layers=1, hidden=h, steps=s, seeds=k) for h, s, k in rungs)
    return ScalingConfig.model_validate({**KINDS, **changes, "rungs": made, "main": MAIN})


def test_rung_recipe_follows_the_rules_by_size() -> None:
    small = config().recipes[2]
    size = small.model.flops_per_token() / MODEL.flops_per_token()
    assert (small.model.heads, small.model.kv_heads, small.model.ffn_hidden) == (2, 1, 32)
    assert small.model.init_std == pytest.approx(0.04 * math.sqrt(2))
    assert small.optimizer.lr == pytest.approx(4e-3 * size ** (-1 / 3))
    assert small.batch == small.micro_batch == round(16 * size ** (2 / 3))
    assert small.optimizer.warmup_steps == 4
    assert small.compute == pytest.approx(6 * active_parameters(small) * small.tokens)


@pytest.mark.parametrize(
    ("rungs", "changes", "message"),
    [
        (RUNGS[:3], {}, "at least 4 small runs, got 3"),
        (((8, 40, 1), *RUNGS[1:]), {}, "a ladder is of one horizon"),
        (RUNGS, {"compute_share": 0.05}, "of the main run's compute, more than 5.0%"),
    ],
)
def test_ladder_that_would_mean_nothing_is_refused(rungs: tuple, changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(rungs, **changes)


def test_ladder_killed_and_resumed_gives_the_forecast_of_an_uninterrupted_one(tmp_path: Path) -> None:
    walk = np.cumsum(np.random.default_rng(0).integers(-2, 3, (4000, 17)), axis=1) % 64
    write_rows(tmp_path, {"train": walk[:3800], "validation": walk[3800:]}, vocabulary=64, separator=0)
    execution = ExecutionConfig(threads=1, checkpoint_every=1000, log_every=1)
    made, trained = [], []

    def run(name: str, kill_at: int | None = None) -> None:
        def report(done: int, total: int, metrics: object = None, unit: str = "") -> None:
            trained.append(done)
            if kill_at is not None and done >= kill_at:
                raise KeyboardInterrupt

        out = tmp_path / f"{name}-out"
        out.mkdir(exist_ok=True)
        ladder.run(config(), {"tokens": tmp_path}, out, tmp_path / name, execution, report if name == "killed" else silent)
        made.append((out / "forecast.json").read_text())

    run("whole")
    done = sum(recipe.tokens for recipe in config().recipes[:1]) * 2
    with pytest.raises(KeyboardInterrupt):
        run("killed", kill_at=done + 1)
    trained.clear()
    run("killed")
    assert made[0] == made[1]
    assert min(trained) >= done  # the finished rung was not trained again
    found = json.loads(made[0])
    assert len(found["points"]) == 5
    assert found["at_compute"] == MAIN.compute


def test_ladder_points_are_what_the_command_reads(tmp_path: Path) -> None:
    lines = [f"1x{r.model.hidden}-5,5,1,{r.model.hidden},{r.compute!r},{r.tokens},{3 + 1e3 * r.compute**-0.4!r}" for r in config().recipes]
    (tmp_path / "points.csv").write_text("\n".join([ladder.COLUMNS, *lines]))
    asked = [
        str(tmp_path / "points.csv"),
        "--at",
        str(MAIN.compute),
        "--at-tokens",
        str(MAIN.tokens),
        "--at-mix",
        "same",
        "--json",
        str(tmp_path / "out.json"),
    ]
    assert main(["forecast", *asked]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["prediction"] == pytest.approx(3 + 1e3 * MAIN.compute**-0.4, rel=1e-3)
