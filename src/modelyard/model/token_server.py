"""Completions of token ids by a server that speaks vLLM's ``/v1/completions``: vLLM, or ``modelyard serve``.

Ids go out and come back (``return_token_ids``) with each token's log-probability, so tokenizer and chat template are
ours, whoever decodes. One token ends a completion and no other does (``stop_token_ids``, ``ignore_eos``), and the whole
distribution is drawn from: what a server would add by itself (``top_k``, ``min_p``, a repetition penalty of a generation
config) is switched off by name. :meth:`TokenServer.reload` is vLLM's development mode (``VLLM_SERVER_DEV_MODE=1``):
``/collective_rpc`` with ``reload_weights``, then ``/reset_prefix_cache``, whose keys and values are those of the weights
before. Left out: streams, several completions of one request, weights sent over NCCL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from modelyard.config import complaint, without_password
from modelyard.model.inference.generate import Generation

TRIES = 8
LONGEST_PAUSE = 8.0
"""Seconds between two tries of a request that a busy server refused, at most."""
SECONDS = httpx.Timeout(600.0, connect=10.0)
"""For a completion or a reload, and for a connection."""
BUSY = (429, 502, 503, 504)
WHOLE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Fields of vLLM with the values that leave every token its probability."""


class _BusyError(ValueError):
    """A server that may answer in a while."""


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
        try:
            return str(self._client.get(f"{self.root}/v1/models").raise_for_status().json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.shown}/v1/models: names no model: {complaint(error)}") from None

    def reload(self, directory: Path) -> None:
        """Have the server take the weights of a Hugging Face directory that it can read under this path.

        Raises:
            NoReloadError: it has no such request, or another vLLM's.
            ValueError: nobody answers.
        """
        asked = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
        for path, body in (("collective_rpc", asked), ("reset_prefix_cache", None)):
            try:
                reply = self._client.post(f"{self.root}/{path}", json=body)
            except httpx.TransportError as error:
                raise ValueError(f"{self.shown}/{path}: {type(error).__name__}: {complaint(error)}") from None
            if reply.status_code != 200:
                raise NoReloadError(f"{self.shown}/{path}: {reply.status_code}: {without_password(reply.text[:200])}")

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
        tokens: list[list[int]] = [[]] * len(prompts)
        logprobs: list[list[float]] = [[]] * len(prompts)
        with ThreadPoolExecutor(self.requests) as pool:
            each = enumerate(zip(prompts, seeds, strict=True))
            running = {pool.submit(self._post, {**asked, "prompt": list(prompt), "seed": seed}): i for i, (prompt, seed) in each}
            try:
                for done, future in enumerate(as_completed(running), 1):
                    tokens[running[future]], logprobs[running[future]] = self._read(future.result(), max_new_tokens, end)
                    beat(done)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return Generation(tokens, logprobs)

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

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The only choice of an answer; a busy server is asked again."""
        retrying = Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=wait_random_exponential(multiplier=self.pause, max=LONGEST_PAUSE),
            stop=stop_after_attempt(TRIES),
            reraise=True,
        )
        return retrying(self._request, body)

    def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._client.post(f"{self.root}/v1/completions", json=body)
        except httpx.TransportError as error:
            raise _BusyError(f"{self.shown}: {type(error).__name__}: {complaint(error)}") from None
        if reply.status_code != 200:
            kind = _BusyError if reply.status_code in BUSY else ValueError
            raise kind(f"{self.shown}: {reply.status_code}: {without_password(reply.text[:300])}")
        try:
            return dict(reply.json()["choices"][0])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.shown}: answers what is no completion: {complaint(error)}") from None
