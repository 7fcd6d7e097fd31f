"""Plan a main run for a compute budget, and the ladder that forecasts it, as TOML to put into a pipeline's config.

``python -m modelyard.commands.plan CONFIG --compute FLOPS (--tokens-per-parameter R | --points CSV) [--rungs 5] [--reach 100] [--span 20]``.
The shape follows the config's ``[pretrain]``: head width, feed-forward ratio and depth are kept (``--depth-follows-width`` scales depth), the
width is the one (in steps of half a head) whose run at the horizon comes nearest to the budget, and the steps then spend the budget. With
``--points`` the horizon is the compute-optimal one of the joint law fitted to those runs (Hoffmann et al. 2022, equation 4). The rungs are
spread evenly in log compute from budget / (reach x span) to budget / reach, at the same horizon. Left out: batch size and learning rate of
another budget than the config's, which the ladder's exponents carry to its rungs only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from modelyard.config import complaint, read_tree
from modelyard.model.training.recipe import Recipe
from modelyard.scaling import chinchilla, runs
from modelyard.scaling.chinchilla import JointLaw, Run
from modelyard.scaling.ladder import LadderConfig, Rung, ScalingConfig, active_parameters, rung_recipe

WIDEST = 4096
"""Head widths tried."""


class Optimum(NamedTuple):
    """The compute-optimal split of a budget."""

    params: float
    tokens: float


def compute_optimal(law: JointLaw, compute: float) -> Optimum:
    """N and D that minimise L(N, D) under 6 N D = compute (Hoffmann et al. 2022, equation 4)."""
    ratio = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    params = ratio * (compute / 6) ** (law.beta / (law.alpha + law.beta))
    return Optimum(params, compute / (6 * params))


def sized(main: Recipe, ladder: LadderConfig, compute: float, tokens_per_parameter: float, depth_follows: bool) -> Recipe:
    """The recipe at the width whose run of that horizon comes nearest to ``compute``, with the steps that spend it.

    Raises:
        ValueError: no width comes within a factor of two.
    """
    head = main.model.hidden // main.model.heads
    best: Recipe | None = None
    for width in range(head, WIDEST * head + 1, max(2, head // 2)):
        heads = width // head
        if width % heads or width // heads % 2:  # rotary positions turn pairs
            continue
        layers = max(1, round(main.model.layers * width / main.model.hidden)) if depth_follows else main.model.layers
        draft = rung_recipe(Rung(layers=layers, hidden=width, steps=1, seeds=1), ladder, main)
        tokens = tokens_per_parameter * active_parameters(draft)
        steps = max(1, round(tokens / (draft.batch * draft.model.seq_len)))
        made = rung_recipe(Rung(layers=layers, hidden=width, steps=steps, seeds=1), ladder, main)
        if best is None or abs(np.log(made.compute / compute)) < abs(np.log(best.compute / compute)):
            best = made
        if made.compute > 2 * compute:
            break
    assert best is not None
    if not 0.5 < best.compute / compute < 2:
        raise ValueError(f"no width at {main.model.layers} layers and head width {head} comes near {compute:.3g} FLOPs")
    return best


def plan(
    main: Recipe,
    ladder: LadderConfig,
    compute: float,
    tokens_per_parameter: float,
    rungs: int,
    reach: float,
    span: float,
    depth_follows: bool,
) -> ScalingConfig:
    """The main run for ``compute`` FLOPs and its ladder. Raises ValueError when they do not fit together (too dear, not of one horizon)."""
    if not (compute > 0 and tokens_per_parameter > 0 and rungs >= 4 and reach > 1 and span > 1):
        raise ValueError("compute and tokens a parameter must be positive, rungs at least 4, reach and span over 1")
    planned = sized(
        main, ladder.model_copy(update={"lr_exponent": 0.0, "batch_exponent": 0.0}), compute, tokens_per_parameter, depth_follows
    )
    steps = max(1, round(compute / (planned.model.flops_per_token() * planned.batch * planned.model.seq_len)))
    warmup = round(main.optimizer.warmup_steps * steps / main.steps)
    planned = planned.model_copy(update={"steps": steps, "optimizer": planned.optimizer.model_copy(update={"warmup_steps": warmup})})
    budgets = np.geomspace(compute / reach / span, compute / reach, rungs)
    sizes = [sized(planned, ladder, budget, tokens_per_parameter, depth_follows) for budget in budgets]
    if len({(recipe.model.layers, recipe.model.hidden) for recipe in sizes}) < rungs:
        raise ValueError(
            f"{rungs} rungs between {budgets[0]:.3g} and {budgets[-1]:.3g} FLOPs are not of {rungs} different widths; widen --span"
        )
    made = tuple(Rung(layers=r.model.layers, hidden=r.model.hidden, steps=r.steps, seeds=1) for r in sizes)
    return ScalingConfig.model_validate({**ladder.model_dump(), "rungs": made, "main": planned})


def toml(planned: ScalingConfig) -> str:
    """What goes into the config."""
    main, shape = planned.main, planned.main.model
    rungs = "\n".join(
        f"    {{ layers = {rung.layers}, hidden = {rung.hidden}, steps = {rung.steps}, seeds = {rung.seeds} }},"
        f"  # {recipe.compute:.3g} FLOPs, 1/{main.compute / recipe.compute:.0f}"
        for rung, recipe in zip(planned.rungs, planned.recipes, strict=True)
    )
    shapes = "\n".join(f"{key} = {getattr(shape, key)}" for key in ("layers", "hidden", "heads", "kv_heads", "ffn_hidden"))
    return (
        f"# {active_parameters(main):.4g} parameters that a token multiplies, {main.tokens:.4g} tokens, {main.compute:.4g} FLOPs; "
        f"ladder {planned.share:.2%} of it\n[scaling]\nrungs = [\n{rungs}\n]\n\n[pretrain]\nsteps = {main.steps}\n\n"
        f"[pretrain.model]\n{shapes}\ninit_std = {shape.init_std:.4g}\n\n[pretrain.optimizer]\nwarmup_steps = {main.optimizer.warmup_steps}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 2 with one line when nothing can be planned."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.plan", description="Size and tokens for a compute budget, and a ladder."
    )
    parser.add_argument("config", type=Path, help="a pipeline's TOML file, for shape, recipe and exponents")
    parser.add_argument("--compute", type=float, required=True, metavar="FLOPS")
    horizon = parser.add_mutually_exclusive_group(required=True)
    horizon.add_argument("--tokens-per-parameter", type=float, metavar="R")
    horizon.add_argument("--points", type=Path, metavar="CSV", help="runs of several horizons, for the compute-optimal one")
    parser.add_argument("--rungs", type=int, default=5)
    parser.add_argument("--reach", type=float, default=100.0, help="budget over the largest rung's compute")
    parser.add_argument("--span", type=float, default=20.0, help="largest over smallest rung's compute")
    parser.add_argument("--depth-follows-width", action="store_true")
    options = parser.parse_args(arguments)
    try:
        tree = read_tree(options.config)
        if lacking := [name for name in ("pretrain", "scaling") if name not in tree]:
            raise ValueError(f"{options.config}: no [{lacking[0]}]")
        recipe, ladder = Recipe.model_validate(tree.get("pretrain")), LadderConfig.model_validate(tree.get("scaling"))
        ratio = options.tokens_per_parameter
        if ratio is None:
            table = runs.read_table(options.points)
            loss, tokens = runs.loss_column(table, None), runs.required(table, runs.TOKENS, "training tokens")
            points = [Run(runs.parameters(table, r), table.number(r, tokens), table.number(r, loss)) for r in table.rows]
            best = compute_optimal(chinchilla.fit_law(points), options.compute)
            ratio = best.tokens / best.params
        asked = (options.compute, ratio, options.rungs, options.reach, options.span)
        sys.stdout.write(toml(plan(recipe, ladder, *asked, options.depth_follows_width)))
    except (ValueError, OSError) as error:
        where = f"{options.config}: " if isinstance(error, ValidationError) else ""
        sys.stderr.write(f"plan: {where}{complaint(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
