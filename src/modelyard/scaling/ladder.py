"""The ladder: several small runs of the main run's recipe, trained one after the other in one worker group, and the forecast fitted to them.

How the recipe transfers, from the main run's size to a rung's:

- shape: head width and feed-forward ratio are kept, so heads and feed-forward width follow the width;
- initialisation: ``init_std`` goes by 1/sqrt(width), which keeps the scale of every layer's output (Yang et al. 2022, table 3);
- learning rate and batch: by a power of N, the parameters that a token multiplies (``lr_exponent``, -1/3, and ``batch_exponent``, 2/3, in
  Bhagia et al. 2024, arXiv:2412.04403, after Porian et al. 2024), warm-up a fixed share of the steps, and every run decays fully, as only
  finished runs compare;
- tokens: those that the main run sees per N, so all runs are of one horizon, which is checked;
- data: the same packed rows; a rung's first seed is the main run's, further ones change weights and order.

Every run can also be asked benchmarks (:mod:`modelyard.scaling.right_answers`). Depth is each rung's own; a ratio of depth to width other
than the main run's is allowed, but bends the law. Left out: rungs split over ranks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.forecast import write_forecast
from modelyard.model.encoder import Encoder
from modelyard.model.training.recipe import Recipe, train_language_model
from modelyard.progress import Report
from modelyard.scaling.chinchilla import SAME_HORIZON
from modelyard.scaling.power_law import Point, forecast, sealed
from modelyard.scaling.right_answers import Nats, Problems, answers, problems
from modelyard.scaling.right_answers import buckets as asked_buckets

COLUMNS = "run,seed,layers,hidden,train_flops,train_tokens,val_loss"


class Rung(Config):
    """One small size: what differs from the main run."""

    layers: int
    """Transformer blocks."""
    hidden: int
    """Width; heads and feed-forward width scale with it."""
    steps: int
    """Optimizer steps."""
    seeds: int = Field(ge=1)
    """Runs of this size."""


class LadderConfig(Config):
    """The small runs."""

    rungs: tuple[Rung, ...]
    """At least four."""
    lr_exponent: float
    """Power of N by which the learning rate follows; 0 keeps it."""
    batch_exponent: float
    """Power of N by which the sequences of a step follow; 0 keeps them."""
    noise_floor: float
    """Least relative standard deviation of one run's loss."""
    compute_share: float
    """Most the ladder may cost, as a share of the main run's compute."""
    benchmarks: tuple[str, ...] = ()
    """Of the line's benchmarks, those on which it is forecast what the main run can do; each item has one text that is right, such as a last word."""
    buckets: int = Field(default=3, ge=1)
    """Into which the items of each are split by how the small runs do."""


class ScalingConfig(LadderConfig):
    """The ladder and the run it forecasts."""

    main: Recipe
    """The run to come."""

    @model_validator(mode="after")
    def _comparable(self) -> ScalingConfig:
        if len(self.rungs) < 4:
            raise ValueError(f"forecast.rungs: a forecast needs at least 4 small runs, got {len(self.rungs)}")
        if self.share > self.compute_share:
            raise ValueError(
                f"forecast.rungs: the ladder costs {self.share:.1%} of the main run's compute, more than {self.compute_share:.1%}"
            )
        horizons = [horizon(self.main), *(horizon(recipe) for recipe in self.recipes)]
        if max(horizons) >= SAME_HORIZON * min(horizons):
            shown = ", ".join(f"{value:.3g}" for value in horizons[1:])
            raise ValueError(
                f"forecast.rungs: tokens a parameter are {shown}, but {horizons[0]:.3g} in the main run; a ladder is of one horizon"
            )
        return self

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The first seed's recipe of every rung."""
        return tuple(rung_recipe(rung, self, self.main) for rung in self.rungs)

    @property
    def share(self) -> float:
        """The ladder's compute as a share of the main run's."""
        return sum(recipe.compute * rung.seeds for recipe, rung in zip(self.recipes, self.rungs, strict=True)) / self.main.compute


class AskedScalingConfig(ScalingConfig):
    """One whose runs are asked benchmarks too."""


def active_parameters(recipe: Recipe) -> float:
    """N: FLOPs of a token / 6, so that compute is 6 N D; it counts attention and the output layer, and no look-up."""
    return recipe.model.flops_per_token() / 6


def horizon(recipe: Recipe) -> float:
    """Tokens a parameter."""
    return recipe.tokens / active_parameters(recipe)


def _dividing(whole: int, most: int) -> int:
    """The greatest divisor of ``whole`` that is at most ``most``."""
    return next(divisor for divisor in range(most, 0, -1) if whole % divisor == 0)


def rung_recipe(rung: Rung, ladder: LadderConfig, main: Recipe) -> Recipe:
    """The main recipe at a rung's size, by the rules of the module's docstring."""
    head = min(main.model.hidden // main.model.heads, rung.hidden)
    heads = rung.hidden // head
    model = main.model.model_copy(
        update={
            "layers": rung.layers,
            "hidden": rung.hidden,
            "heads": heads,
            "kv_heads": _dividing(heads, max(1, heads * main.model.kv_heads // main.model.heads)),
            "ffn_hidden": rung.hidden * main.model.ffn_hidden // main.model.hidden,
            "init_std": main.model.init_std * (main.model.hidden / rung.hidden) ** 0.5,
        }
    )
    size = model.flops_per_token() / main.model.flops_per_token()
    batch = max(1, round(main.batch * size**ladder.batch_exponent))
    optimizer = {
        **main.optimizer.model_dump(),
        "lr": main.optimizer.lr * size**ladder.lr_exponent,
        "warmup_steps": round(main.optimizer.warmup_steps * rung.steps / main.steps),
    }
    changed = {"optimizer": optimizer, "batch": batch, "micro_batch": batch, "steps": rung.steps, "model": model.model_dump()}
    return Recipe.model_validate({**main.model_dump(include=set(Recipe.model_fields)), **changed})


def run(
    config: ScalingConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train the rungs on ``inputs["tokens"]``, ask them ``config.benchmarks`` of ``inputs["continuations"]``, and fit.

    Writes ``forecast.json`` (the prediction of the main run's held-out loss, to be sealed) and ``points.csv`` (every run, as
    :mod:`modelyard.commands.forecast` reads it). A rung that is finished is not trained again when the ladder is resumed.

    Raises ValueError where a benchmark has too few items for its buckets.
    """
    asked = problems(config.benchmarks, inputs["continuations"], config.buckets) if config.benchmarks else {}
    recipes = [
        recipe.model_copy(update={"seed": recipe.seed + seed})
        for recipe, rung in zip(config.recipes, config.rungs, strict=True)
        for seed in range(rung.seeds)
    ]
    total, before = sum(recipe.tokens for recipe in recipes), 0
    runs: list[_Run] = []
    for index, recipe in enumerate(recipes):
        shifted = _Shifted(report, before, total)
        runs.append(_trained(recipe, inputs["tokens"], asked, checkpoints / f"run_{index}", execution, shifted, config.main.batch))
        before += recipe.tokens
    points = [Point(recipe.compute, run.loss) for recipe, run in zip(recipes, runs, strict=True)]
    result = forecast(points, config.main.compute, config.main.seed, config.noise_floor)
    assert result.backtest is not None, "four sizes leave three without the largest"
    said = [(recipe.compute, run.nats) for recipe, run in zip(recipes, runs, strict=True)]
    buckets = asked_buckets(said, config.benchmarks, config.buckets, config.main.compute, config.main.seed)
    if dist.get_rank() == 0:
        write_forecast(out, sealed(result).model_copy(update={"buckets": tuple(buckets)}))
        lines = [_line(recipe, run.loss) for recipe, run in zip(recipes, runs, strict=True)]
        (out / "points.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")
    return {
        "forecast/main/loss": result.prediction,
        "forecast/main/loss_low": result.low,
        "forecast/main/loss_high": result.high,
        "forecast/main/at_flops": result.at_compute,
        "forecast/main/backtest_error": result.backtest.error,
        "forecast/main/steepening": result.steepening,
        "forecast/ladder/compute_share": config.share,
        "forecast/ladder/reach": config.main.compute / max(points).compute,
        **{f"forecast/{one.benchmark}/bucket_{one.bucket + 1}": one.prediction for one in buckets},
    }


def _line(recipe: Recipe, loss: float) -> str:
    """A run as :data:`COLUMNS` name it."""
    model, seed = recipe.model, recipe.seed
    return f"{model.layers}x{model.hidden}-{seed},{seed},{model.layers},{model.hidden},{recipe.compute!r},{recipe.tokens},{loss!r}"


class _Run(NamedTuple):
    """What became of one run."""

    loss: float
    """Held out, nats a token."""
    nats: Nats


def _trained(recipe: Recipe, tokens: Path, asked: Problems, directory: Path, execution: ExecutionConfig, report: Report, rows: int) -> _Run:
    """What became of one run, from its note where it is finished already."""
    note = directory / "run.json"
    if note.is_file():
        return _Run(**json.loads(note.read_text()))
    trained = train_language_model(recipe, tokens, "forecast", directory, execution, report, rows)
    run = _Run(trained.held_out.value, answers(trained.engine, Encoder(tokens), asked) if asked else {})
    if dist.get_rank() == 0:
        directory.mkdir(parents=True, exist_ok=True)
        partial = note.with_suffix(".partial")
        partial.write_text(json.dumps(run._asdict()))
        partial.rename(note)
    return run


class _Shifted(NamedTuple):
    """A report of one rung as a part of the whole ladder."""

    report: Report
    before: int
    total: int

    def __call__(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        self.report(self.before + done, self.total, metrics, unit=unit)
