"""``modelyard plan``: a main run for a compute budget, and the ladder that forecasts it, as TOML for a pipeline's config.

With ``--points`` the horizon is the compute-optimal one of the joint law fitted to those runs. The plan is
:mod:`modelyard.scaling.plan`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import between

if TYPE_CHECKING:
    from modelyard.scaling.ladder import ScalingConfig

CONFIG = typer.Argument(help="A pipeline's TOML file, for shape, recipe and exponents.")
COMPUTE = typer.Option(metavar="FLOPS", help="Budget of the main run.", callback=between(0, 1e40, ends=False))
RATIO = typer.Option(metavar="R", help="Horizon of the main run.", callback=between(0, 1e9, ends=False))
RUNGS = typer.Option(help="Runs of the ladder.", callback=between(4, 1000))
REACH = typer.Option(help="Budget over the largest rung's compute.", callback=between(1, 1e12, ends=False))
SPAN = typer.Option(help="Largest over smallest rung's compute.", callback=between(1, 1e12, ends=False))
POINTS = typer.Option(metavar="CSV", help="Runs of several horizons, for the compute-optimal one.")


def plan(
    config: Annotated[Path, CONFIG],
    compute: Annotated[float, COMPUTE],
    tokens_per_parameter: Annotated[float | None, RATIO] = None,
    points: Annotated[Path | None, POINTS] = None,
    rungs: Annotated[int, RUNGS] = 5,
    reach: Annotated[float, REACH] = 100.0,
    span: Annotated[float, SPAN] = 20.0,
    depth_follows_width: Annotated[bool, typer.Option("--depth-follows-width", help="Deepen with the width.")] = False,
) -> None:
    """Choose size and tokens for a compute budget, and a ladder of small runs that forecasts the loss.

    Exactly one of --tokens-per-parameter and --points is needed.
    """
    from pydantic import ValidationError

    from modelyard.complaint import complaint
    from modelyard.config import read_tree
    from modelyard.pretrain.pretrain import PretrainConfig
    from modelyard.scaling.ladder import LadderConfig
    from modelyard.scaling.plan import plan as plan_runs

    if (tokens_per_parameter is None) == (points is None):
        raise ValueError("exactly one of --tokens-per-parameter and --points is needed")
    ratio = tokens_per_parameter if points is None else optimal_ratio(points, compute)
    assert ratio is not None  # one of the two is given
    tree = read_tree(config)
    if lacking := [name for name in ("base", "forecast") if name not in tree]:
        raise ValueError(f"{config}: no [{lacking[0]}]")
    try:
        recipe, ladder = PretrainConfig.model_validate(tree.get("base")), LadderConfig.model_validate(tree.get("forecast"))
        planned = plan_runs(recipe, ladder, compute, ratio, rungs, reach, span, depth_follows_width)
    except ValidationError as error:
        raise ValueError(f"{config}: {complaint(error)}") from None
    say(toml(planned), nl=False)


def optimal_ratio(points: Path, compute: float) -> float:
    """Tokens a parameter of the compute-optimal run, by the joint law of the runs in a CSV file. Raises ValueError."""
    from modelyard.scaling import chinchilla, runs
    from modelyard.scaling.chinchilla import Run
    from modelyard.scaling.plan import compute_optimal

    table = runs.read_table(points)
    loss, tokens = runs.loss_column(table, None), runs.required(table, runs.TOKENS, "training tokens")
    fitted = [Run(runs.parameters(table, row), table.number(row, tokens), table.number(row, loss)) for row in table.rows]
    best = compute_optimal(chinchilla.fit_law(fitted), compute)
    return best.tokens / best.params


def toml(planned: ScalingConfig) -> str:
    """What goes into the config."""
    from modelyard.scaling.ladder import active_parameters

    main, shape = planned.main, planned.main.model
    rungs = "\n".join(
        f"    {{ layers = {rung.layers}, hidden = {rung.hidden}, steps = {rung.steps}, seeds = {rung.seeds} }},"
        f"  # {recipe.compute:.3g} FLOPs, 1/{main.compute / recipe.compute:.0f}"
        for rung, recipe in zip(planned.rungs, planned.recipes, strict=True)
    )
    shapes = "\n".join(f"{key} = {getattr(shape, key)}" for key in ("layers", "hidden", "heads", "kv_heads", "ffn_hidden"))
    return (
        f"# {active_parameters(main):.4g} parameters that a token multiplies, {main.tokens:.4g} tokens, {main.compute:.4g} FLOPs; "
        f"ladder {planned.share:.2%} of it\n[forecast]\nrungs = [\n{rungs}\n]\n\n[base]\nsteps = {main.steps}\n\n"
        f"[base.model]\n{shapes}\ninit_std = {shape.init_std:.4g}\n\n[base.optimizer]\nwarmup_steps = {main.optimizer.warmup_steps}\n"
    )
