"""Asking an OpenAI-compatible server until it answers: who is busy is asked again, what is answered can be kept in a file.

Waits double up to a minute, and are as long as a ``Retry-After`` asks. OpenAI's reasoning models refuse parameters that others need
(``max_tokens``, ``temperature``); what a server refuses by name is sent under its other name, or not at all, from then on. Left out:
answers that come as a stream.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from modelyard.complaint import complaint, without_password
from modelyard.config import digest
from modelyard.formats.journal import Journal
from modelyard.log import logger

_log = logger(__name__)
Read = TypeVar("Read")
TRIES, SILENT_TRIES = 9, 5
"""Most requests to a server that says it is busy (three minutes), and to one that says nothing."""
LONGEST_PAUSE, LONGEST_WAIT = 60.0, 600.0
"""Seconds between two tries; those that a server may ask for."""
BUSY, SILENT = (408, 409, 429, 500, 502, 503, 504), (429, 503)
"""Statuses after which a request is sent again, and those that are of the server and not of the request."""
SAID = 5.0
"""Seconds of a wait that is worth a line."""
SHOWN = 300
"""Characters of an answer that an error repeats."""
OTHER_NAME = {"max_tokens": "max_completion_tokens"}
DISPENSABLE = ("temperature", "seed", "stop", "top_logprobs", "logprobs")
"""What an answer can be drawn without; texts are cut at their stops here anyhow, and whoever needs log-probabilities sees that there are none."""
UNSUPPORTED = re.compile(r"unsupported|\bnot (?:support(?:ed)?|served)\b|n['\u2019]t support(?:ed)?\b", re.I)
"""Said of a parameter; a model that ``supports at most 4096 completion tokens`` refuses a value."""


class UnreachableError(ConnectionError, ValueError):
    """A server that said nothing, or was busy to the last try."""

    asked: CompletionsClient | None = None
    """Who asked."""
    silent = False
    """Whether it would have answered nothing else either: not where it failed at one request, as with 500."""


class _BusyError(UnreachableError):
    tries = TRIES
    after = 0.0
    """Seconds that the server asks to wait."""


class CompletionsClient:
    """Requests to one model of a server; threads may share it. ``patience``: seconds that a request waits in all between its tries."""

    def __init__(self, url: str, name: str, *, pause: float, timeout: float, tries: int = TRIES, patience: float = math.inf) -> None:
        self.url, self.name, self.pause, self.tries, self.patience = url, name, pause, tries, patience
        self.shown = without_password(url)
        self.refused: set[str] = set()
        """Parameters that the server has refused by name."""
        self._kept: Journal[dict[str, Any]] | None = None
        self._writing = threading.Lock()
        self._ended, self._told, self._last = threading.Event(), False, ""
        key = os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(timeout=timeout, headers={"Authorization": f"Bearer {key}"} if key else {})

    def keep(self, path: Path) -> None:
        """Write every answer to ``path`` as it comes, and take from there what is asked again. Raises ValueError where it is no such file."""
        self._kept = Journal(path, dict[str, Any])

    def forget(self) -> None:
        """Remove the file of :meth:`keep`: what is made of the answers is written."""
        if self._kept is not None:
            self._kept.remove()
        self._kept = None

    def end(self) -> None:
        """Nobody waits for the answers any more: who waits to ask again gives up at once."""
        self._ended.set()

    def ask(self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], Read]) -> Read:
        """What ``read`` makes of the first choice of an answer; a choice that it refuses is not kept.

        Raises:
            UnreachableError: the server said nothing or was busy, again and again.
            ValueError: it refused, or what it answered is no completion.
        """
        key = digest([self.shown, self.name, path, body])
        if self._kept is not None and key in self._kept:
            return read(self._kept[key])
        retrying = Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=lambda state: max(pauses(state), _error(state).after),
            stop=lambda state: (
                state.attempt_number >= min(self.tries, _error(state).tries) or state.idle_for + state.upcoming_sleep > self.patience
            ),
            sleep=self._wait,
            reraise=True,
        )
        pauses = wait_exponential(multiplier=self.pause, max=LONGEST_PAUSE)
        choice: dict[str, Any] = retrying(self._request, path, body)
        found = read(choice)
        if self._kept is not None:
            with self._writing:
                self._kept.add({key: choice})
        return found

    def _wait(self, seconds: float) -> None:
        """Let time pass before the next try; a long wait is said once."""
        if seconds > SAID and not self._told:
            self._told = True
            _log.warning("%s; asking again in %.0f s", self._last, seconds)
        if ended_within(self._ended, seconds):
            raise UnreachableError(f"{self.shown}: nobody waits for its answer any more")

    def _request(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        sent = self._taken(body)
        reply = self._sent(path, sent)
        while reply.status_code == 400 and (name := refused(reply, sent)):
            self.refused.add(name)
            sent = self._taken(body)
            reply = self._sent(path, sent)
        if reply.status_code == 200:
            return self._choice(reply)
        if reply.status_code == 404:
            way = "a chat template" if path == "completions" else "plain text"
            raise ValueError(
                f"{self.shown}: has no /{path} for {self.name}; ask it through {way}, or check the address and the model's name"
            )
        said = f"{self.shown}: {reply.status_code}: {without_password(reply.text[:SHOWN])}"
        if reply.status_code not in BUSY:
            raise ValueError(said)
        busy = self._busy(said, silent=reply.status_code in SILENT)
        busy.after = min(seconds_of(reply.headers), LONGEST_WAIT)
        raise busy

    def _sent(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            return self._client.post(f"{self.url}/{path}", json={"model": self.name, **body})
        except httpx.TransportError as error:
            silent = self._busy(f"{self.shown}: {type(error).__name__}: {complaint(error)}", silent=True)
            silent.tries = SILENT_TRIES
            raise silent from None

    def _busy(self, said: str, *, silent: bool) -> _BusyError:
        busy = _BusyError(said)
        self._last = said
        busy.asked, busy.silent = self, silent
        return busy

    def _taken(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body without what the server refused, or with its other name."""
        named = {OTHER_NAME.get(key, "") if key in self.refused else key: value for key, value in body.items()}
        return {key: value for key, value in named.items() if key}

    def _choice(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            return dict(reply.json()["choices"][0])
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"{self.shown}: answers what is no completion: {without_password(reply.text[:SHOWN])}") from None


def ended_within(ended: threading.Event, seconds: float) -> bool:
    """Whether nobody waits for answers any more, known after so long at the latest."""
    return ended.wait(seconds)


def _error(state: RetryCallState) -> _BusyError:
    """What a try ended with; one that did not fail is not waited after."""
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, _BusyError) else _BusyError()


def seconds_of(headers: httpx.Headers) -> float:
    """How long a ``Retry-After`` asks to wait, in seconds or until a date; 0 without one that can be read."""
    given, now = headers.get("Retry-After", ""), headers.get("Date", "")
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    try:
        return max(0.0, (parsedate_to_datetime(given) - parsedate_to_datetime(now)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def refused(reply: httpx.Response, body: dict[str, Any]) -> str | None:
    """The parameter of ``body`` that a server says it does not support; None where it says something else, or one that has to be sent."""
    try:
        error = reply.json()
        error = error.get("error", error)
        said, named = f"{error.get('message')} {error.get('code')}", error.get("param")
    except (ValueError, AttributeError):
        return None
    if not UNSUPPORTED.search(said):
        return None
    return next(
        (key for key in (*OTHER_NAME, *DISPENSABLE) if key in body and (key == named or (not named and re.search(rf"\b{key}\b", said)))),
        None,
    )
