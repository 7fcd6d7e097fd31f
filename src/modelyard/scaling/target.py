"""What a run that is to be predicted shares with the runs that a law is fitted to: its data mix and, for L(C), its token horizon.

A law says nothing of a run that is trained otherwise, and a file of finished runs cannot know how the next one will be trained. So both are asked
for, and silence is refused.
"""

from __future__ import annotations

from typing import NamedTuple

from modelyard.scaling.chinchilla import SAME_HORIZON
from modelyard.scaling.runs import COMPUTE, HORIZON, MIX, TOKENS, Table, changed_mix, mixed_horizon

SAME = "same"
"""The fitted runs' data mix, where no column says what that is."""


class Target(NamedTuple):
    """The run to predict where it is none of the file's, and what it may differ in."""

    compute: float | None
    """FLOPs."""
    params: float | None
    tokens: float | None
    """Training tokens."""
    mix: str | None
    """Data mix, or ``same``."""
    mixed_horizons: bool
    changed_mix: bool

    @property
    def named(self) -> bool:
        """Whether there is one: else runs of the file are predicted."""
        return not (self.compute is self.params is self.tokens is None)


def comparable(picked: Table, fitted: Table, wanted: Target, joint: bool = False) -> tuple[str, ...]:
    """What was allowed that is refused otherwise, and what could not be checked.

    Args:
        picked: the runs that are fitted or predicted.
        fitted: those that are fitted.
        wanted: the run that is predicted.
        joint: whether the law is of size and tokens, so that horizons may differ.

    Raises:
        ValueError: runs of different mixes or horizons, or a target whose own was not said.
    """
    objections = [(changed_mix(picked), "--allow-changed-mix", wanted.changed_mix)]
    if not joint:
        objections.append((mixed_horizon(picked), "--allow-mixed-horizons", wanted.mixed_horizons))
    if wanted.named:
        objections.append((other_mix(fitted, wanted.mix), "--allow-changed-mix", wanted.changed_mix))
    if not joint and wanted.compute is not None and not (wanted.tokens is None and wanted.mixed_horizons):
        objections.append((other_horizon(fitted, wanted.compute, wanted.tokens), "--allow-mixed-horizons", wanted.mixed_horizons))
    for objection, flag, allowed in objections:
        if objection and not allowed:
            raise ValueError(f"{picked.path}: {objection}; select with --fit or say {flag}")
    warnings = [objection for objection, _, _ in objections if objection]
    if not joint and picked.find(TOKENS) is None:
        if picked.find(HORIZON) is None:
            warnings.append("no column says how many tokens the runs saw: that they are of one token horizon was not checked")
        elif wanted.tokens is not None:
            warnings.append("no column says how many tokens the runs saw: that the run to predict is of their horizon was not checked")
    return tuple(warnings)


def other_mix(table: Table, mix: str | None) -> str | None:
    """How the target's data mix differs from that of the rows; None where it does not. Raises ValueError where it was not said."""
    known = {column: {row.cells[column] for row in table.rows} for column in MIX if column in table.columns}
    labels = sorted(set().union(*known.values()))
    if mix is None:
        there = f"{SAME!r} or its label (here: {', '.join(labels)})" if labels else f"{SAME!r}, if it is that of these runs"
        raise ValueError(f"{table.path}: say --at-mix, the data mix of the run to predict: {there}")
    if mix == SAME or any(values == {mix} for values in known.values()):
        return None
    return f"the run to predict is of data mix {mix!r}, the fitted runs of {', '.join(labels) or 'one that no column names'}"


def other_horizon(table: Table, compute: float, tokens: float | None) -> str | None:
    """How the target's token horizon differs from that of the rows; None where it does not, or where the file has no tokens to compare with.

    Tokens per parameter, N as C / (6 D) on both sides, may differ by a factor of 1.5, as between fitted runs.

    Args:
        table: the fitted runs, of one horizon.
        compute: of the target, FLOPs.
        tokens: training tokens of the target.

    Raises:
        ValueError: the target's tokens were not said.
    """
    if tokens is None:
        raise ValueError(f"{table.path}: say --at-tokens D, the training tokens of the run to predict: L(C) holds at one token horizon")
    flops, trained = table.find(COMPUTE), table.find(TOKENS)
    if flops is None or trained is None:
        return None
    ratios = [6 * table.number(row, trained) ** 2 / table.number(row, flops) for row in table.rows]
    target = 6 * tokens**2 / compute
    if max(*ratios, target) / min(*ratios, target) < SAME_HORIZON:
        return None
    return (
        f"the run to predict sees {target:.3g} tokens a parameter, the fitted runs "
        f"{min(ratios):.3g}{f' to {max(ratios):.3g}' if max(ratios) > 1.01 * min(ratios) else ''}"
    )
