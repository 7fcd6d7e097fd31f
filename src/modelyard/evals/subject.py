"""A model under test: an engine with its tokenizer, asked for completions, log-likelihoods and next-token confidences.

Text goes in as in pretraining, ``<|endoftext|>`` first, so base, SFT and policy answer the same prompt. A prompt longer than the context
is cut on the left and the record says so. Left out: chat prompts, which none of the shipped benchmarks uses yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from modelyard.config import ExecutionConfig
from modelyard.evals.benchmark import Decoding
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.engine import Batch, Engine
from modelyard.model.generate import generate
from modelyard.storage import sha256_tree


class Sampled(NamedTuple):
    """One completion."""

    prompt: list[int]
    """Token ids fed, cut where necessary."""
    tokens: list[int]
    """New token ids, the closing one included where it was sampled."""
    logprobs: list[float]
    """Of each new token at temperature 1."""
    text: str
    """Decoded, without special tokens."""
    cut: bool
    """Whether the prompt lost its beginning."""


class Subject:
    """One model and what it can be asked."""

    def __init__(self, name: str, directory: Path, execution: ExecutionConfig, micro_batch: int) -> None:
        self.name, self.micro_batch = name, micro_batch
        self.encoder = Encoder(directory)
        self.engine: Engine = model_directory.load(directory, execution)
        self.weights = sha256_tree(directory / "checkpoint")

    def complete(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt, in order."""
        room = self.engine.model.seq_len - decoding.max_new_tokens - 1
        full = [self.encoder.ids(prompt) for prompt in prompts]
        fed = [[self.encoder.document_end, *ids[max(0, len(ids) - room) :]] for ids in full]
        order = sorted(range(len(fed)), key=lambda i: len(fed[i]))
        drawn = generate(
            self.engine,
            [fed[i] for i in order],
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            seed=decoding.seed,
            stop_id=self.encoder.document_end,
        )
        place = {index: row for row, index in enumerate(order)}
        return [
            Sampled(
                fed[i], drawn.tokens[place[i]], drawn.logprobs[place[i]], self.encoder.decode(drawn.tokens[place[i]]), len(full[i]) > room
            )
            for i in range(len(fed))
        ]

    def logprobs(self, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of each continuation's tokens after its prefix (both token ids, neither empty; a long prefix is cut on the left)."""
        limit = self.engine.model.seq_len
        rows = [[*prefix, *new][-(limit + 1) :] for prefix, new in zip(prefixes, continuations, strict=True)]
        result: list[list[float]] = [[] for _ in rows]
        for chosen in batches(rows, self.micro_batch):
            padded = pad([rows[i] for i in chosen], self.encoder.padding)
            output = self.engine.evaluate(Batch(padded[:, :-1].contiguous(), padded[:, 1:].contiguous(), {}), self.micro_batch)
            for line, i in zip(output.tolist(), chosen, strict=True):
                last = len(rows[i]) - 1
                result[i] = line[last - len(continuations[i]) : last]
        return result

    def row_logprobs(self, rows: NDArray[np.uint16]) -> list[float]:
        """Mean log p of the tokens of each packed row [N, S + 1], nats a token."""
        means: list[float] = []
        for start in range(0, len(rows), self.micro_batch):
            part = torch.from_numpy(rows[start : start + self.micro_batch].astype(np.int64))
            output = self.engine.evaluate(Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous(), {}), self.micro_batch)
            means += output.mean(1).tolist()
        return means

    def nats_per_byte(self, texts: Sequence[str]) -> list[float]:
        """-log p of each text after ``<|endoftext|>``, nats a UTF-8 byte. A text longer than the context is read in consecutive windows."""
        limit = self.engine.model.seq_len
        windows: list[tuple[int, list[int]]] = []
        for number, text in enumerate(texts):
            ids = [self.encoder.document_end, *self.encoder.ids(text)]
            windows += [(number, ids[start : start + limit + 1]) for start in range(0, len(ids) - 1, limit)]
        found = self.logprobs([window[:1] for _, window in windows], [window[1:] for _, window in windows])
        nats = [0.0] * len(texts)
        for (number, _), logprobs in zip(windows, found, strict=True):
            nats[number] -= sum(logprobs)
        return [total / len(text.encode()) for total, text in zip(nats, texts, strict=True)]

    def next_token(self, rows: NDArray[np.uint16], position: int) -> tuple[list[float], list[bool]]:
        """Confidence in the likeliest token at ``position`` of each row given those before it, and whether it stands there."""
        prompts = rows[:, :position].astype(np.int64).tolist()
        drawn = generate(self.engine, prompts, max_new_tokens=1, temperature=0.0, seed=0, stop_id=None)
        confidences = [min(1.0, float(np.exp(line[0]))) for line in drawn.logprobs]
        return confidences, [new[0] == int(row[position]) for new, row in zip(drawn.tokens, rows, strict=True)]


class Judge:
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


def batches(rows: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Indices in batches of ``size`` rows of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    """Token ids [B, S] int64, padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
