"""What releasers look at: candidates with their decision, and the signature under one. What gives them lies
above, with the store; imports of the release's own code wait until somebody looks, so that a desk of labelers starts at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from modelyard.release.gates.gate import Decision
    from modelyard.release.sign_off import SignOff


class Flipped(NamedTuple):
    """An item that production and the candidate answer with different scores."""

    benchmark: str
    item: str
    prompt: str
    before: str
    after: str
    was: float
    now: float


class Candidate(NamedTuple):
    """A decided version."""

    ref: str
    """``decision/VERSION`` in the store."""
    decided_at: float
    decision: Decision
    signed: SignOff | None
    """The signature under it."""


class Releases(Protocol):
    """Where candidates are."""

    def candidates(self) -> Sequence[Candidate]:
        """Every decision in the store, the newest first."""
        ...

    def card(self, ref: str) -> Path:
        """The page that describes a candidate. Raises ValueError."""
        ...

    def flipped(self, ref: str) -> Sequence[Flipped]:
        """Items on which it differs from production; none for a first release. Raises ValueError."""
        ...

    def sign(self, ref: str, answer: SignOff) -> None:
        """Keep a signature under a decision. Raises ValueError."""
        ...
