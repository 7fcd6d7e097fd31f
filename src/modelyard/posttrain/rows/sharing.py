"""When texts that begin alike are computed in one row: what rows cost, and how many completions of a prompt share one.

A shared row has the beginning once, and every text goes on from it, seeing it and itself (:func:`modelyard.model.training.batch.segmented`):
fewer tokens for the products with the weights, more places for each to attend over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelyard.model.network.model_config import ModelConfig

WORTH = 0.9
"""Rows are shared when their work is at most this part of the separate rows': batches are padded, and not all of a step is the model's work."""


def row_work(model: ModelConfig, length: int, seen: float) -> float:
    """Multiplications of a row of ``length`` tokens, each of which looks at ``seen`` places on average (PaLM, appendix B), without the output
    layer."""
    body = model.parameters(active=True) - model.vocab_size * model.hidden * (1 if model.tie_embeddings else 2)
    return length * (body + 2 * model.layers * model.heads * model.head_width * seen)


def texts_of_a_row(
    model: ModelConfig, lengths: Sequence[int], shared: Sequence[int], repeats: int, most: int, *, one_width: bool = True
) -> int:
    """How many texts to put in each row, so that rows cost least: 1, or a divisor of ``repeats`` and of ``most``.

    Args:
        model: whose work it is.
        lengths: tokens of every text; ``repeats`` neighbours each begin alike.
        shared: for every text with how many tokens it and its neighbours begin.
        repeats: how many neighbours begin alike.
        most: texts of one forward pass, which rows are to fill.
        one_width: rows are all padded to the longest; otherwise they are sorted by length and hardly padded.
    """

    def work(texts: int) -> float:
        starts = range(0, len(lengths), texts)
        widths = [sum(lengths[i : i + texts]) - (texts - 1) * shared[i] for i in starts]
        if one_width:
            widths = [max(widths)] * len(widths)
        return sum(row_work(model, width, width if texts > 1 else width / 2) for width in widths)  # causal attention leaves out half

    common = math.gcd(repeats, most)
    best = min((texts for texts in range(1, common + 1) if common % texts == 0), key=work)
    return best if work(best) <= WORTH * work(1) else 1
