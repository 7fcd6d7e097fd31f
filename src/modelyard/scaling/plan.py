"""Plan a main run for a compute budget, and the ladder that forecasts it.

The shape follows the config's ``[pretrain]``: head width, feed-forward ratio and depth are kept (depth is scaled on request), the
width is the one (in steps of half a head) whose run at the horizon comes nearest to the budget, and the steps then spend the budget. The
compute-optimal horizon is the joint law's (Hoffmann et al. 2022, equation 4). The rungs are
spread evenly in log compute from budget / (reach x span) to budget / reach, at the same horizon. Left out: batch size and learning rate of
another budget than the config's, which the ladder's exponents carry to its rungs only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelyard.model.training.recipe import Recipe
from modelyard.scaling.chinchilla import JointLaw
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
        what = f"no width at {main.model.layers} layers and head width {head} comes near {compute:.3g} FLOPs"
        raise ValueError(f"{what}, which a run of the plan would take; give it more --compute")
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
