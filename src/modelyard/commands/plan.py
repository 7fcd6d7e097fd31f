"""Plan a main run for a compute budget, and the ladder that forecasts it, as TOML to put into a pipeline's config.

``python -m modelyard.commands.plan CONFIG --compute FLOPS (--tokens-per-parameter R | --points CSV) [--rungs
5] [--reach 100] [--span 20]``. With ``--points`` the horizon is the compute-optimal one of the joint law
fitted to those runs. The plan is :mod:`modelyard.scaling.plan`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from modelyard.config import complaint, read_tree
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.scaling import chinchilla, runs
from modelyard.scaling.chinchilla import Run
from modelyard.scaling.ladder import LadderConfig, ScalingConfig, active_parameters
from modelyard.scaling.plan import compute_optimal, plan


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
        f"ladder {planned.share:.2%} of it\n[forecast]\nrungs = [\n{rungs}\n]\n\n[base]\nsteps = {main.steps}\n\n"
        f"[base.model]\n{shapes}\ninit_std = {shape.init_std:.4g}\n\n[base.optimizer]\nwarmup_steps = {main.optimizer.warmup_steps}\n"
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
        if lacking := [name for name in ("base", "forecast") if name not in tree]:
            raise ValueError(f"{options.config}: no [{lacking[0]}]")
        recipe, ladder = PretrainConfig.model_validate(tree.get("base")), LadderConfig.model_validate(tree.get("forecast"))
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
