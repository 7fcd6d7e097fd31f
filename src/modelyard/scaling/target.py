"""What a run that is to be predicted shares with the runs that a law is fitted to: its data mix and, for L(C), its token horizon.

A law says nothing of a run that is trained otherwise, and a file of finished runs cannot know how the next one will be trained. So both are asked
for, and silence is refused.
"""

from __future__ import annotations

from modelyard.scaling.chinchilla import SAME_HORIZON
from modelyard.scaling.runs import COMPUTE, MIX, TOKENS, Table

SAME = "same"
"""The fitted runs' data mix, where no column says what that is."""


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
