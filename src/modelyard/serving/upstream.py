"""Another server's decoding in the place of our own: vLLM on GPUs, or any that answers ``/v1/completions`` as vLLM does.

It is sent token ids and sends token ids back (``stop_token_ids``, ``ignore_eos`` and ``return_token_ids``, which vLLM has beside OpenAI's fields, and
so has this server), so tokenizer, chat template, stop texts, what is held and what is recorded are this server's, whoever decodes. Requests share
decoding steps there; here a thread hears each answer. A server that fails ends the answers under way with an error and is asked again by the next.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from modelyard.complaint import complaint
from modelyard.model.token_server import served_name
from modelyard.serving.batcher import Asked, ClosedError, FullError, Piece, Reason, UnderWay
from modelyard.serving.streamed_text import StreamedText

SECONDS = httpx.Timeout(600.0, connect=10.0)
"""Between two pieces of an answer, and for a connection."""


class UpstreamError(ValueError):
    """What the other server says or does that is no answer; one line."""


class Heard(UnderWay):
    """An answer under way at the other server."""

    def grown(self, choice: dict[str, Any]) -> Piece:
        """What one event adds. Raises UpstreamError where it brings no token ids."""
        new, said = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if new is None or said is None or len(new) != len(said):
            raise UpstreamError("sends no token_ids with log-probabilities (vLLM does from 0.10.2 on)")
        self.tokens += new
        self.logprobs += said
        finish = choice.get("finish_reason")
        full = len(self.tokens) >= self.asked.max_new_tokens
        piece, stopped = self.text.grown(self.tokens, last=full or finish is not None)
        reason: Reason | None = "stop" if stopped or finish == "stop" else "length" if full or finish else None
        return Piece(piece, len(self.tokens), reason)


class Upstream:
    """What :class:`~modelyard.serving.batcher.Batcher` is, by another server."""

    def __init__(self, url: str, decode: Callable[[Sequence[int]], str], most: int) -> None:
        """``url``: up to ``/v1``; ``most``: answers at a time, one more is refused. Raises ValueError where nobody answers."""
        self.url, self.decode, self.most = url, decode, most
        self.end: Callable[[], None] = lambda: None
        """What :meth:`close` calls last: ends the other server, where it is ours."""
        self._client = httpx.Client(timeout=SECONDS, limits=httpx.Limits(max_connections=None), trust_env=False)
        self.model = served_name(self._client, f"{self.url}/models", self.url.removesuffix("/v1"))
        self._hearing: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closing = False
        self.problem = ""
        """Why nothing can be decoded any more; another server that is away is asked again."""

    def submit(self, asked: Asked, tell: Callable[[Piece], None]) -> Heard:
        """Ask; ``tell`` hears every :class:`Piece`, the last one with a reason. Raises FullError and ClosedError as a batcher does."""
        heard = Heard(asked, tell, StreamedText(self.decode, asked.stops))
        thread = threading.Thread(target=self._hear, args=(heard,), name="upstream", daemon=True)
        with self._lock:
            if self._closing:
                raise ClosedError("the server is going down")
            if len(self._hearing) >= self.most:
                raise FullError(f"{self.most} requests are answered or wait")
            self._hearing.add(thread)
        thread.start()
        return heard

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are answered; which of them wait there is not known here."""
        return len(self._hearing), 0

    def close(self) -> None:
        """Answer what was taken in and take in nothing more."""
        with self._lock:
            self._closing = True
            left = list(self._hearing)
        for thread in left:
            thread.join()
        self._client.close()
        self.end()

    def _hear(self, heard: Heard) -> None:
        try:
            last = self._heard(heard)
        except Exception as error:  # whatever it sends: the client must hear of the end, and the place must be free again
            last = Piece("", len(heard.tokens), "error", f"{self.url}: {complaint(error)}")
        heard.ended = time.monotonic()
        try:
            heard.tell(last)
        finally:
            with self._lock:
                self._hearing.discard(threading.current_thread())

    def _heard(self, heard: Heard) -> Piece:
        """The last piece, all before it having been told."""
        with self._client.stream("POST", f"{self.url}/completions", json=self._body(heard.asked)) as response:
            heard.entered = time.monotonic()
            if response.status_code != 200:
                response.read()
                raise UpstreamError(f"status {response.status_code}: {response.text[:200]}")
            for event in events(response.iter_lines()):
                if heard.cancelled:
                    return Piece("", len(heard.tokens), "cancelled")
                if "error" in event:
                    raise UpstreamError(said_of(event["error"]))
                for choice in event["choices"]:
                    piece = heard.grown(choice)
                    if piece.reason:
                        return piece
                    heard.tell(piece)
        raise UpstreamError("the answer broke off")

    def _body(self, asked: Asked) -> dict[str, Any]:
        wanted = {"model": self.model, "prompt": list(asked.prompt), "max_tokens": asked.max_new_tokens, "stream": True}
        drawn = {"temperature": asked.temperature, "top_p": asked.top_p, "seed": asked.seed, "logprobs": 1}
        return {**wanted, **drawn, "stop_token_ids": sorted(asked.stop_ids), "ignore_eos": True, "return_token_ids": True}


def said_of(error: object) -> str:
    """What an error event says, whether as OpenAI's object or as bare text."""
    return str(error.get("message", "") if isinstance(error, dict) else error)


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events up to ``[DONE]``."""
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))
