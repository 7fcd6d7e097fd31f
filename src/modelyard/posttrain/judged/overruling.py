"""Weights with which rule-based rewards overrule the reward model where the two conflict.

The GPT-4 Technical Report (arXiv:2303.08774, system card, section 3.1) says that the weights are chosen so that the rule-based reward models
overrule the reward model where they conflict and does not publish how; Mu et al. (arXiv:2411.01111, section 4.2) fit them by a hinge loss on ranked
responses, which is what stands here. For labelled pairs (better b, worse w) of one prompt and rules k with values phi_k in [-1, 1]:

    minimise over w_k >= 0   mean max(0, margin - [r(b) - r(w) + sum_k w_k (phi_k(b) - phi_k(w))]) + penalty * sum_k w_k

A linear program, solved exactly. Left out: rules that take each other's place, and weights that depend on the prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard.model.network.model_config import Precision
from modelyard.stats import ties

Floats = NDArray[np.float64]


class Ruling(NamedTuple):
    """What rules do to the reward model's order of labelled pairs."""

    pairs: int
    model_right: float
    """Share of pairs that the reward model alone orders as labelled (ties half)."""
    right: float
    """Share that reward model and rules together order so."""
    conflicts: int
    """Pairs that the reward model orders the other way."""
    overruled: int
    """Conflicts that the rules turn round."""


def fit_weights(rule_gaps: Floats, model_gaps: Floats, margin: float, penalty: float) -> Floats:
    """Weights [K] for rules whose values differ by ``rule_gaps`` [P, K] (better less worse), beside the reward model's ``model_gaps`` [P].

    Raises:
        ValueError: no pairs, or a number that is not finite.
    """
    from scipy.optimize import linprog

    pairs, rules = rule_gaps.shape
    if pairs == 0:
        raise ValueError("no labelled pairs to fit the weights of rules on")
    if not (np.isfinite(rule_gaps).all() and np.isfinite(model_gaps).all()):
        raise ValueError("a reward of a labelled response is not finite, so no weights can be fitted")
    cost = np.concatenate([np.full(rules, penalty), np.full(pairs, 1 / pairs)])
    slack = -np.eye(pairs)
    solved = linprog(cost, A_ub=np.hstack([-rule_gaps, slack]), b_ub=model_gaps - margin, bounds=(0, None), method="highs")
    assert solved.success, solved.message  # bounded below by 0, and w = 0 is feasible
    return np.asarray(solved.x[:rules])


def ruling(rule_gaps: Floats, model_gaps: Floats, weights: Floats, precision: Precision = "fp32") -> Ruling:
    """What ``weights`` do on pairs; ``precision``: the reward model's."""
    alone, helped = (ties.preferred(gaps, np.zeros(len(gaps)), precision) for gaps in (model_gaps, model_gaps + rule_gaps @ weights))
    conflict = alone == 0
    return Ruling(
        pairs=len(model_gaps),
        model_right=float(np.mean(alone)),
        right=float(np.mean(helped)),
        conflicts=int(conflict.sum()),
        overruled=int((conflict & (helped == 1)).sum()),
    )
