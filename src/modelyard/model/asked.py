"""What any model can be asked, whatever answers: an engine of ours, a Hugging Face directory (``model.subject``), a server (``model.endpoint``).

Two questions are enough for everything that evaluates, judges or labels: complete these prompts, and how likely are these continuations.
Left out: chat completions, whose template would make another prompt of ours on the server's side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pydantic import Field

from modelyard.config import Config


class Decoding(Config):
    """How outputs are drawn."""

    max_new_tokens: int = Field(ge=0)
    """Longest output; 0: nothing is generated, the target's log-likelihood is the score."""
    temperature: float = Field(ge=0, allow_inf_nan=False)
    """0: greedy."""
    samples: int = Field(ge=0)
    """Outputs an item."""
    seed: int = Field(ge=0)
    """Of the sampling."""
    stops: tuple[str, ...] = ()
    """The output ends before the first of these."""


class Sampled(NamedTuple):
    """One completion."""

    prompt: list[int]
    """Token ids fed, cut where necessary; empty where a server keeps them to itself."""
    tokens: list[int]
    """New token ids, the closing one included where it was sampled."""
    logprobs: list[float]
    """Of each new token at temperature 1."""
    text: str
    """Decoded, without special tokens, ended before the first stop."""
    cut: bool
    """Whether the prompt lost its beginning."""


class Likelihood(NamedTuple):
    """One continuation: log p of each of its tokens (nats), and by how much the least likely of them beats every other token there."""

    logprobs: list[float]
    margin: float

    @property
    def greedy(self) -> bool:
        """Whether greedy decoding would say it."""
        return self.margin >= 0

    @property
    def total(self) -> float:
        """log p of all of it."""
        return math.fsum(self.logprobs)


class Model(Protocol):
    """What can be asked."""

    name: str
    weights: str
    """Identity of what answers."""

    def complete(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt."""
        ...

    def likelihoods(self, questions: Sequence[Sequence[tuple[str, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation) of each question."""
        ...


def softmax(totals: Sequence[float]) -> list[float]:
    """Shares of probability among alternatives of the given log-probabilities."""
    return [math.exp(value) for value in log_softmax(totals)]


def log_softmax(totals: Sequence[float]) -> list[float]:
    """log of :func:`softmax`."""
    most = max(totals)
    whole = most + math.log(math.fsum(math.exp(total - most) for total in totals))
    return [total - whole for total in totals]
