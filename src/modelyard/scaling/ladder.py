"""The ladder: several small runs of the main run's recipe, trained one after the other in one worker group, and the forecast fitted to them.

The recipe transfers as it is: same data order, initialisation rule and learning-rate schedule (each run decays fully, as only finished runs
compare); the learning rate follows 1/width. Left out: choosing the main run's size for a compute budget.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist
from pydantic import model_validator

from modelyard.config import Config, ExecutionConfig
from modelyard.model.recipe import Recipe, train_language_model
from modelyard.progress import Report
from modelyard.scaling.forecast import as_json
from modelyard.scaling.power_law import Point, forecast


class Rung(Config):
    """One small run: what differs from the main run."""

    layers: int
    """Transformer blocks."""
    hidden: int
    """Width; heads and feed-forward width scale with it."""
    steps: int
    """Optimizer steps."""

    def recipe(self, main: Recipe) -> Recipe:
        """The main recipe at this size: head width kept where it fits, feed-forward ratio kept, learning rate by 1/width."""
        heads = self.hidden // min(main.model.hidden // main.model.heads, self.hidden)
        model = {
            **main.model.model_dump(),
            "layers": self.layers,
            "hidden": self.hidden,
            "heads": heads,
            "kv_heads": max(1, heads * main.model.kv_heads // main.model.heads),
            "ffn_hidden": self.hidden * main.model.ffn_hidden // main.model.hidden,
        }
        optimizer = {
            **main.optimizer.model_dump(),
            "lr": main.optimizer.lr * main.model.hidden / self.hidden,
            "warmup_steps": min(main.optimizer.warmup_steps, max(1, self.steps // 10)),
        }
        return Recipe.model_validate(
            {**main.model_dump(exclude={"model", "optimizer"}), "model": model, "optimizer": optimizer, "steps": self.steps}
        )


class LadderConfig(Config):
    """The small runs."""

    rungs: tuple[Rung, ...]
    """At least four."""
    noise_floor: float
    """Least relative standard deviation of one run's loss."""
    compute_share: float
    """Most the ladder may cost, as a share of the main run's compute."""


class ScalingConfig(LadderConfig):
    """The ladder and the run it forecasts."""

    main: Recipe
    """The run to come."""

    @model_validator(mode="after")
    def _affordable(self) -> ScalingConfig:
        if len(self.rungs) < 4:
            raise ValueError(f"scaling.rungs: a forecast needs at least 4 small runs, got {len(self.rungs)}")
        if self.share > self.compute_share:
            raise ValueError(
                f"scaling.rungs: the ladder costs {self.share:.1%} of the main run's compute, more than {self.compute_share:.1%}"
            )
        return self

    @property
    def share(self) -> float:
        """The ladder's compute as a share of the main run's."""
        return sum(rung.recipe(self.main).compute for rung in self.rungs) / self.main.compute


def run(
    config: ScalingConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train the rungs on ``inputs["tokens"]``, fit, and write ``forecast.json`` (the sealed prediction of the main run's held-out loss)."""
    recipes = [rung.recipe(config.main) for rung in config.rungs]
    total = sum(recipe.tokens for recipe in recipes)
    points, before = [], 0
    for index, recipe in enumerate(recipes):
        shifted = _Shifted(report, before, total)
        trained = train_language_model(recipe, inputs["tokens"], "scaling", checkpoints / f"rung_{index}", execution, shifted)
        points.append(Point(recipe.compute, trained.held_out.value))
        before += recipe.tokens
    result = forecast(points, config.main.compute, config.main.seed, config.noise_floor)
    assert result.backtest is not None, "four runs leave three without the largest"
    if dist.get_rank() == 0:
        (out / "forecast.json").write_text(json.dumps(as_json(result), indent=1))
    return {
        "scaling/forecast/loss": result.prediction,
        "scaling/forecast/loss_low": result.low,
        "scaling/forecast/loss_high": result.high,
        "scaling/forecast/backtest_error": result.backtest.error,
        "scaling/ladder/compute_share": config.share,
    }


class _Shifted(NamedTuple):
    """A report of one rung as a part of the whole ladder."""

    report: Report
    before: int
    total: int

    def __call__(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        self.report(self.before + done, self.total, metrics, unit=unit)
