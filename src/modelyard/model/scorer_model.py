"""A reward model asked for the value of whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.padded_rows import batches, pad
from modelyard.model.training.batch import Batch
from modelyard.store.file_hash import sha256_tree


class ScorerModel:
    """The scorer model: a value for a whole text (read at its last token)."""

    def __init__(self, directory: Path, execution: ExecutionConfig, micro_batch: int) -> None:
        self.encoder, self.micro_batch = Encoder(directory), micro_batch
        self.engine = model_directory.load(directory, execution, head="scalar")
        self.weights = sha256_tree(directory / "checkpoint")

    def scores(self, documents: Sequence[Sequence[int]]) -> list[float]:
        """Score of each document (token ids); longer ones than the model reads are cut on the right."""
        rows = [list(document)[: self.engine.model.seq_len] for document in documents]
        result = [0.0] * len(rows)
        for chosen in batches(rows, self.micro_batch):
            padded = pad([rows[i] for i in chosen], self.encoder.padding)
            values = self.engine.evaluate(Batch(padded, padded, {}), self.micro_batch)
            for line, i in zip(values.tolist(), chosen, strict=True):
                result[i] = line[len(rows[i]) - 1]
        return result
