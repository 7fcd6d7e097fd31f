"""Benchmarks of packed token rows, which models that share a tokenizer can be asked: loss and next-token confidence.

``validation_loss`` is what the forecast predicts; ``next_token`` says how well a model knows how sure it may be. Their
items are named by the hash of a row, so an id changes with the tokens, and with the masks where a row's documents are kept apart: what a
document may see is part of the question.
"""

from __future__ import annotations

import numpy as np

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.item import Item
from modelyard.evals.recorder import sha256_text
from modelyard.formats.token_rows import PackedRows


def benchmarks(rows: PackedRows, confident_rows: int, positions: int) -> list[Benchmark]:
    """Loss on every row, and confidence at ``positions`` places, evenly spread, of the first ``confident_rows``."""
    hashes = [sha256_text(text) for text in spelled(rows)]
    places = np.linspace(0, rows.tokens.shape[1] - 1, positions + 2)[1:-1].astype(int).tolist()
    loss = Benchmark(
        name="validation_loss",
        items=tuple(Item(id=f"row-{i}", fields={"row": str(i), "tokens": tokens}, target="") for i, tokens in enumerate(hashes)),
        prompt="{tokens}",
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="log_likelihood",
        metrics=("loss", "perplexity"),
        method="rows",
    )
    items = tuple(
        Item(id=f"row-{i}/{place}", fields={"row": str(i), "position": str(place), "tokens": tokens}, target="")
        for place in places
        for i, tokens in enumerate(hashes[:confident_rows])
    )
    changed = {"name": "next_token", "items": items, "metrics": ("calibration_error", "acc"), "method": "next_token"}
    return [loss, loss.model_copy(update=changed)]


def spelled(rows: PackedRows) -> list[str]:
    """Each row's token ids, and behind them, where documents are kept apart, the document of each."""
    lines = [" ".join(map(str, row.tolist())) for row in rows.tokens]
    if rows.documents is None:
        return lines
    return [f"{line} / {' '.join(map(str, row.tolist()))}" for line, row in zip(lines, rows.documents, strict=True)]
