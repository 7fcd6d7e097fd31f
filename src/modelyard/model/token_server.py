"""Completions of token ids by a server that speaks vLLM's ``/v1/completions``: vLLM, or ``modelyard serve``.

Ids go out and come back (``return_token_ids``) with each token's log-probability, so tokenizer and chat template are
ours, whoever decodes. One token ends a completion and no other does (``stop_token_ids``, ``ignore_eos``), and the whole
distribution is drawn from: what a server would add by itself (``top_k``, ``min_p``, a repetition penalty of a generation
config) is switched off by name. :meth:`TokenServer.reload` is vLLM's development mode (``VLLM_SERVER_DEV_MODE=1``):
``/collective_rpc`` with ``reload_weights``, then ``/reset_prefix_cache``, whose keys and values are those of the weights
before. Left out: streams, several completions of one request, weights sent over NCCL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, wait_random_exponential

from modelyard.complaint import complaint, without_password
from modelyard.model.inference.generate import Generation

T = TypeVar("T")
TRIES = 8
"""Of a request that a server refuses or does not hear, since any was answered."""
LONGEST_PAUSE = 8.0
"""Seconds between two tries, at most."""
NO_PLACE_SECONDS = 600.0
"""How long a server may have no place for a request while it answers none."""
SECONDS = httpx.Timeout(3600.0, connect=10.0)
"""For a completion or a reload, and for a connection."""
LOOK_SECONDS, LOOKS = 10.0, 6
"""How often a server that answers nothing is asked whether it lives, and how often in a row it may fail to say so."""
FULL, BUSY = 429, (502, 503, 504)
NO_REQUEST = (404, 405, 500, 501)
"""What a server says that has no request for reloading, or another version's."""
WHOLE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Fields of vLLM with the values that leave every token its probability."""


class _BusyError(ValueError):
    """A server that may answer in a while."""


class _FullError(_BusyError):
    """A server that answers others first."""


class _Call:
    """What the requests of one call know of each other."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.answers, self.last = 0, time.monotonic()

    def answered(self) -> None:
        """One more was."""
        self.answers, self.last = self.answers + 1, time.monotonic()


class NoReloadError(ValueError):
    """A server that does not take other weights while it runs."""


class TokenServer:
    """A model that runs in another process."""

    def __init__(self, url: str, requests: int, *, pause: float = 0.5) -> None:
        """``url``: with or without ``/v1``; ``requests``: asked at once, at most; ``pause``: seconds that a second try waits for, about."""
        self.root = url.rstrip("/").removesuffix("/v1")
        self.shown = without_password(self.root)
        self.requests, self.pause = requests, pause
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=requests)
        self._client = httpx.Client(timeout=SECONDS, limits=limits, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def name(self) -> str:
        """What the server calls its model. Raises ValueError where nobody answers, or names none."""
        return served_name(self._client, f"{self.root}/v1/models", self.shown)

    def reload(self, directory: Path, beat: Callable[[], None] = lambda: None) -> None:
        """Have the server take the weights of a Hugging Face directory that it can read under this path; ``beat`` is called meanwhile.

        Raises:
            NoReloadError: it has no such request, or another vLLM's.
            ValueError: nobody answers, or it refuses the directory.
        """
        asked = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
        for path, body in (("collective_rpc", asked), ("reset_prefix_cache", None)):
            for _, reply in self._each([partial(self._sent, path, body)], 1, _Call(), lambda done: beat()):
                said = f"{self.shown}/{path}: {reply.status_code}: {without_password(reply.text[:200])}"
                if reply.status_code in NO_REQUEST:
                    raise NoReloadError(said)
                if reply.status_code != 200:
                    raise ValueError(f"{said}; it has to read {directory} under this path")

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        end: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        beat: Callable[[int], None] = lambda done: None,
    ) -> Generation:
        """A completion of each prompt, drawn with its own seed until the token ``end``; ``beat`` hears how many there are, in this thread.

        Raises:
            ValueError: the server does not answer or refuses, sends no token ids with log-probabilities, or ended a completion elsewhere.
        """
        asked = {"model": self.name(), "max_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, **WHOLE}
        asked |= {"stop_token_ids": [end], "ignore_eos": True, "logprobs": 1, "return_token_ids": True}
        call, bodies = _Call(), [{**asked, "prompt": list(prompt), "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
        drawn = dict(self._each([partial(self._drawn, body, end, call) for body in bodies], self.requests, call, beat, watched=True))
        tokens, logprobs = zip(*(drawn[place] for place in range(len(prompts))), strict=True) if drawn else ((), ())
        return Generation(list(tokens), list(logprobs))

    def _each(
        self, works: Sequence[Callable[[], T]], threads: int, call: _Call, beat: Callable[[int], None], *, watched: bool = False
    ) -> Iterator[tuple[int, T]]:
        """What each work gives, with its number, as they end; ``beat`` hears how many have, and in between that the server lives where that is
        ``watched``. After an error nothing is waited for."""
        pool = ThreadPoolExecutor(threads)
        running = {pool.submit(work): number for number, work in enumerate(works)}
        silent = 0
        try:
            while running:
                ended, _ = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
                silent = 0 if ended or not watched or self._lives() else silent + 1
                if silent == LOOKS:
                    raise ValueError(f"{self.shown}/health: says nothing any more, with {len(running)} requests to answer")
                for future in ended:
                    found = future.result()
                    call.answered()
                    beat(call.answers)
                    yield running.pop(future), found
                if not ended:
                    beat(call.answers)
        finally:
            call.over.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _lives(self) -> bool:
        try:
            return self._client.get(f"{self.root}/health", timeout=LOOK_SECONDS).status_code == 200
        except httpx.HTTPError:
            return False

    def _drawn(self, body: dict[str, Any], end: int, call: _Call) -> tuple[list[int], list[float]]:
        return self._read(self._post(body, call), body["max_tokens"], end)

    def _read(self, choice: dict[str, Any], max_new_tokens: int, end: int) -> tuple[list[int], list[float]]:
        """Tokens and log-probabilities of a choice that ended where it had to."""
        tokens, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not tokens or logprobs is None or len(tokens) != len(logprobs) or None in logprobs:
            raise ValueError(f"{self.shown}: sends no token_ids with log-probabilities (vLLM does from 0.10.2 on)")
        if len(tokens) > max_new_tokens or end in tokens[:-1] or (tokens[-1] != end and len(tokens) < max_new_tokens):
            raise ValueError(
                f"{self.shown}: ended a completion of {len(tokens)} tokens at token {tokens[-1]}; one ends at token {end} or has {max_new_tokens}"
            )
        return [int(token) for token in tokens], [float(logprob) for logprob in logprobs]

    def _post(self, body: dict[str, Any], call: _Call) -> dict[str, Any]:
        """The only choice of an answer; a busy server is asked again."""
        tries, seen = 0, 0

        def is_over(state: RetryCallState) -> bool:
            nonlocal tries, seen
            if state.outcome is not None and isinstance(state.outcome.exception(), _FullError):
                return call.over.is_set() or time.monotonic() - call.last > NO_PLACE_SECONDS
            tries, seen = tries + 1 if seen == call.answers else 1, call.answers
            return call.over.is_set() or tries >= TRIES

        retrying = Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=wait_random_exponential(multiplier=self.pause, max=LONGEST_PAUSE),
            stop=is_over,
            sleep=sleep_using_event(call.over),
            reraise=True,
        )
        return retrying(self._request, body)

    def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = self._sent("v1/completions", body)
        if reply.status_code != 200:
            kind = _FullError if reply.status_code == FULL else _BusyError if reply.status_code in BUSY else ValueError
            raise kind(f"{self.shown}: {reply.status_code}: {without_password(reply.text[:300])}")
        try:
            return dict(reply.json()["choices"][0])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.shown}: answers what is no completion: {complaint(error)}") from None

    def _sent(self, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """The reply. Raises ValueError where none came: a kind of it that may be tried again, but for one that took its time."""
        try:
            return self._client.post(f"{self.root}/{path}", json=body)
        except httpx.TransportError as error:
            kind = ValueError if isinstance(error, httpx.ReadTimeout) else _BusyError
            raise kind(f"{self.shown}/{path}: {type(error).__name__}: {complaint(error)}") from None


def served_name(client: httpx.Client, models: str, shown: str) -> str:
    """What a server calls its model; ``models``: the address of its list. Raises ValueError where nobody answers, or names none."""
    try:
        return str(client.get(models).raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{shown}/v1/models: names no model: {complaint(error)}") from None
