"""A version that is tried beside the one that serves: as a canary or as a shadow.

A canary answers a share of the users, always the same ones; a shadow is asked what the served version is asked and answers nobody. When
:mod:`modelyard.serving.trial` finds it worse, the served version answers everybody again, and no later server tries those weights. Where it
cannot answer (full, going, or the same weights as the served one) the served version does. Left out: more than one version beside.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from typing import Any, Literal

from modelyard.serving.batcher import ClosedError, FullError, Piece
from modelyard.serving.content_filter import ContentFilter, Held
from modelyard.serving.current import Current
from modelyard.serving.lookout import Lookout
from modelyard.serving.protocol import ChatRequest, CompletionRequest
from modelyard.serving.served_model import ServedModel
from modelyard.serving.trial import Judge, TrialRecord

COUNTED = ("stop", "length", "content_filter")
"""Ends of answers that say something of the version."""


class Beside:
    """The version on trial."""

    def __init__(self, current: Current, kind: Literal["canary", "shadow"], share: float, record: TrialRecord) -> None:
        """``share``: of users as a canary, of requests as a shadow; 0 to 1."""
        self.current, self.kind, self.share, self.record = current, kind, share, record
        self._known: dict[str, str] = {}

    def model_for(self, user: str | None) -> ServedModel | None:
        """The canary, where this user is one of its share."""
        return self._model() if self.kind == "canary" and takes_part(user or secrets.token_hex(8), self.share) else None

    def shadow(self, request: ChatRequest | CompletionRequest, receipt: str, content_filter: ContentFilter | None) -> Shadow | None:
        """Ask the shadow what was asked; None where it is not asked."""
        model = self._model() if self.kind == "shadow" and takes_part(receipt, self.share) else None
        if model is None:
            return None
        shadow = Shadow(receipt, model.fingerprint, self.record, Held(content_filter))
        try:
            model.submit(request, shadow.tell)
        except (ValueError, FullError, ClosedError):  # the served version's users wait for nothing
            return None
        return shadow

    def stopped(self, model: ServedModel) -> str:
        """Why these weights are not tried any more; "" where they are."""
        if model.fingerprint not in self._known:
            self._known[model.fingerprint] = self.record.stopped(model.fingerprint)
        return self._known[model.fingerprint]

    def stop(self, model: ServedModel, reason: str) -> None:
        """Try these weights no more."""
        self.record.stop(model.fingerprint, reason)
        self._known[model.fingerprint] = reason

    def state(self) -> dict[str, Any]:
        """For ``/health``."""
        model = self.current.model
        told = {"kind": self.kind, "model": self.current.name, "share": self.share if self._model() else 0.0}
        return {**told, "weights": model.weights if model else None, "stopped": self.stopped(model) if model else ""}

    def _model(self) -> ServedModel | None:
        model = self.current.model
        return None if model is None or self.stopped(model) else model


class Shadow:
    """One prompt's answers by both versions; written when both have ended."""

    def __init__(self, receipt: str, weights: str, record: TrialRecord, held: Held) -> None:
        self.receipt, self.weights, self.record, self._held = receipt, weights, record, held
        self._category: str | None = None
        self._finish: str | None = None
        self._served: tuple[str, str] | None = None
        self._lock = threading.Lock()

    def tell(self, piece: Piece) -> None:
        """A piece of the shadow's answer, from the thread that decodes it."""
        if self._category is None:
            _, self._category = self._held.take(piece.text, last=piece.reason is not None)
        if piece.reason:
            with self._lock:
                self._finish = "content_filter" if self._category else piece.reason
            self._write()

    def served(self, weights: str, finish: str) -> None:
        """How the answer that the user got ended."""
        with self._lock:
            self._served = (weights, finish)
        self._write()

    def _write(self) -> None:
        with self._lock:
            if self._finish is None or self._served is None:
                return
            weights, finish = self._served
            if self.weights != weights and {self._finish, finish} <= set(COUNTED):
                self.record.pair(self.receipt, weights, self.weights, finish == "content_filter", self._finish == "content_filter")


class Referee(Lookout):
    """Looks whether the version on trial is worse."""

    def __init__(self, served: Current, beside: Beside, judge: Judge, seconds: float, say: Callable[[str], None]) -> None:
        self.served, self.beside, self.judge = served, beside, judge
        super().__init__(f"{beside.current.name}: not judged", seconds, say)

    def look(self) -> None:
        """Stop the version where it is found worse."""
        served, tried = self.served.model, self.beside.current.model
        if served is None or tried is None or served.fingerprint == tried.fingerprint or self.beside.stopped(tried):
            return
        if reason := self.judge.verdict(served.fingerprint, tried.fingerprint):
            self.beside.stop(tried, reason)
            self.say(f"{self.beside.current.name}: {tried.fingerprint} is stopped: {reason}")


def takes_part(who: str, share: float) -> bool:
    """Whether a user or a request is of the ``share`` (0 to 1) that a trial takes; the same answer every time."""
    return int.from_bytes(hashlib.sha256(who.encode()).digest()[:8]) < share * 2**64
