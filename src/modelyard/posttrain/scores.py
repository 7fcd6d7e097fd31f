"""What a reward model says of texts: the value at the last token of each, alone in a row or beside others that begin alike."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.model.training.engine import Engine
from modelyard.posttrain.rows.comparison_rows import Row, batch_of, row_of

SCORED_TEXTS = 64
"""Texts of a forward pass."""


def score(engine: Engine, documents: Sequence[list[int]], pad_id: int) -> list[float]:
    """The score of each document (token ids): the value at its last token. Longer ones than the model reads are cut on the right.

    Raises:
        ValueError: an empty document.
    """
    if not all(documents):
        raise ValueError("every document needs at least one token")
    return scores_of(engine, [row_of([document[: engine.model.seq_len]], 0) for document in documents], False, pad_id)


def scores_of(engine: Engine, rows: Sequence[Row], shared: bool, pad_id: int) -> list[float]:
    """The score of every text of every row, one after another; ``shared``: whether the texts of a row have their beginning in common."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
    together = max(1, SCORED_TEXTS // max((len(row.ends) for row in rows), default=1))
    scores: list[list[float]] = [[] for _ in rows]
    for start in range(0, len(order), together):
        chosen = order[start : start + together]
        batch = batch_of([rows[i] for i in chosen], shared, pad_id)
        found = engine.evaluate(batch, together).cpu().gather(1, batch.extras["ends"])
        for i, values in zip(chosen, found.tolist(), strict=True):
            scores[i] = values[: len(rows[i].ends)]
    return [value for values in scores for value in values]
