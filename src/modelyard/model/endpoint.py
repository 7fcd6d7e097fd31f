"""A model behind an OpenAI-compatible server: ``http://host:port/v1#MODEL``, the key in ``OPENAI_API_KEY``.

Generation needs ``/completions``; likelihoods need a server that echoes the prompt with log-probabilities (vLLM and llama.cpp's servers do,
hosted chat models do not), and one that does not is named in the error. Context and continuation are told apart by text offsets. The server
encodes what it is sent, control tokens that a text spells as it likes. Left out: chat completions, whose template would make another prompt
of ours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from modelyard.config import complaint, digest, without_password
from modelyard.formats.feedback import Prompt
from modelyard.model.asked import Decoding, Likelihood, Sampled, ended, plain, plain_turn

TRIES = 5
WORKERS = 8
BUSY = (408, 409, 429, 500, 502, 503, 504)


class _BusyError(ValueError):
    """Nobody answered, or somebody who may do so in a while."""


class Endpoint:
    """A model that is asked over HTTP."""

    def __init__(self, url: str, *, pause: float = 1.0, timeout: float = 300.0) -> None:
        base, _, self.name = url.partition("#")
        if not self.name:
            raise ValueError(f"{without_password(url)}: name the model after a #, as in http://localhost:8000/v1#my-model")
        self.url, self.pause = base.rstrip("/"), pause
        self.shown = without_password(self.url)
        self.weights = digest(without_password(url))[:16]
        key = os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(timeout=timeout, headers={"Authorization": f"Bearer {key}"} if key else {})

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt; the same seed is sent with each."""
        settings: dict[str, Any] = {
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed,
            "logprobs": 1,
        }
        if decoding.stops:
            settings["stop"] = list(decoding.stops[:4])  # servers take four; the text is cut at every one below

        def one(prompt: Prompt) -> Sampled:
            choice = self._post({"prompt": plain(prompt), **settings})
            logprobs = [float(p) for p in (choice.get("logprobs") or {}).get("token_logprobs") or [] if p is not None]
            return Sampled([], [], logprobs, ended(choice["text"], decoding.stops), False)

        return self._all(one, prompts)

    def reply(self, messages: Sequence[str], decoding: Decoding) -> list[Sampled]:
        """A reply to each message of a user, by completion: the server's own template is not used."""
        stops = (*decoding.stops, "\nUser:")
        return self.complete([self.turn(message) for message in messages], decoding.model_copy(update={"stops": stops}))

    def turn(self, message: str) -> str:
        """The text that :meth:`reply` continues."""
        return plain_turn(message)

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation)."""
        flat = iter(self._all(self._likelihood, [pair for question in questions for pair in question]))
        return [[next(flat) for _ in question] for question in questions]

    def _likelihood(self, pair: tuple[Prompt, str]) -> Likelihood:
        context, continuation = plain(pair[0]), pair[1]
        bare = context.rstrip()
        found = self._post({"prompt": context + continuation, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}).get(
            "logprobs"
        )
        if not found or not found.get("text_offset") or not any(p is not None for p in found["token_logprobs"]):
            raise ValueError(
                f"{self.shown}: gives no log-probabilities of a prompt; ask {self.name} by generation (mmlu_letter, gsm8k, ...)"
            )
        whole = len(context) + len(continuation)
        offsets = found["text_offset"]
        inside = [i for i, at in enumerate(offsets) if len(bare) <= at < whole and found["token_logprobs"][i] is not None]
        if not inside:
            raise ValueError(f"{self.shown}: no token of {continuation!r} has a log-probability")
        logprobs = [float(found["token_logprobs"][i]) for i in inside]
        margins = [p - max((found["top_logprobs"][i] or {"": p}).values()) for p, i in zip(logprobs, inside, strict=True)]
        return Likelihood(logprobs, min(margins))

    def _all(self, work: Any, inputs: Sequence[Any]) -> list[Any]:
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            return list(pool.map(work, inputs))

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The first choice of a completion; busy servers are asked again, waiting twice as long each time."""
        retrying = Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=wait_exponential(multiplier=self.pause),
            stop=stop_after_attempt(TRIES),
            reraise=True,
        )
        return retrying(self._request, body)

    def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._client.post(f"{self.url}/completions", json={"model": self.name, **body})
        except httpx.TransportError as error:
            raise _BusyError(f"{self.shown}: {type(error).__name__}: {complaint(error)}") from None
        if reply.status_code == 200:
            return dict(reply.json()["choices"][0])
        kind = _BusyError if reply.status_code in BUSY else ValueError
        raise kind(f"{self.shown}: {reply.status_code}: {without_password(reply.text[:300])}")
