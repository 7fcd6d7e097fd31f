"""A model behind an OpenAI-compatible server: ``http://host:port/v1#MODEL``, the key in ``OPENAI_API_KEY``.

Plain text goes to ``/completions``, conversations to ``/chat/completions``, where the server's own template is used. Likelihoods need a
server that echoes the prompt with log-probabilities (vLLM does, hosted chat models do not), letters of a judge the likeliest first tokens
of a chat reply; a server that gives neither is named in the error. Context and continuation are told apart by text offsets. The server
encodes what it is sent, control tokens that a text spells as it likes. Left out: going on in the middle of an answer, tools.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.complaint import without_password
from modelyard.config import digest
from modelyard.formats.feedback import ImagePart, Part, Prompt
from modelyard.formats.images import data_url, of_pixels
from modelyard.model.asked import Decoding, Likelihood, Sampled, conversation, ended
from modelyard.model.completions_client import TRIES, CompletionsClient, UnreachableError
from modelyard.model.pictures import GREY, Images
from modelyard.progress import beat

WORKERS = 8
SHOWN = "<image>"
"""What stands for an image where a message is only looked at."""
LIKELIEST = 20
"""Most first tokens that the API tells of."""


class Endpoint:
    """A model that is asked over HTTP."""

    def __init__(self, url: str, *, pause: float = 1.0, timeout: float = 300.0, tries: int = TRIES, patience: float = math.inf) -> None:
        base, _, self.name = url.partition("#")
        if not self.name:
            raise ValueError(f"{without_password(url)}: name the model after a #, as in http://localhost:8000/v1#my-model")
        self._client = CompletionsClient(base.rstrip("/"), self.name, pause=pause, timeout=timeout, tries=tries, patience=patience)
        self.shown = self._client.shown
        self.weights = digest(without_password(url))[:16]
        self._images: Images | None = None
        self._blank = False

    @property
    def refused(self) -> list[str]:
        """Parameters that the server has refused by name, and is asked without."""
        return sorted(self._client.refused)

    def keep(self, path: Path) -> None:
        """Write every answer to ``path`` as it comes, and take from there what is asked again. Raises ValueError where it is no such file."""
        self._client.keep(path)

    def forget(self) -> None:
        """Remove the file of :meth:`keep`: what is made of the answers is written."""
        self._client.forget()

    def silent(self, error: Exception) -> bool:
        """Whether ``error`` says that this model answers nothing now, whatever it is asked; a judge's error says nothing of it."""
        return isinstance(error, UnreachableError) and error.silent and error.asked is self._client

    @property
    def sees(self) -> bool:
        """Whether it can be asked about images: only the server knows, and says so when it is asked."""
        return True

    def show(self, images: Images, blank: bool = False) -> None:
        """From here on prompts may hold ``images``, which go out as data URLs; ``blank``: every one of them grey."""
        self._images, self._blank = images, blank

    def _url(self, image: str) -> str:
        if self._images is None:
            raise ValueError(f"{self.shown}: a prompt holds an image, which nothing here reads")
        pixels = self._images.pixels(image)
        return data_url(of_pixels(np.full_like(pixels, GREY) if self._blank else pixels).png)

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt, which is a text; the same seed is sent with each."""

        def read(choice: dict[str, Any]) -> Sampled:
            logprobs = [float(p) for p in (choice.get("logprobs") or {}).get("token_logprobs") or [] if p is not None]
            if not isinstance(text := choice.get("text"), str):
                raise ValueError(f"{self.shown}: answers a completion without a text")
            return _sampled(choice, text, logprobs, decoding)

        def one(prompt: Prompt) -> Sampled:
            return self._client.ask("completions", {"prompt": self._text(prompt), "logprobs": 1, **settings(decoding)}, read)

        return self._all(one, prompts)

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each message or conversation, by the server's own chat template."""

        def read(choice: dict[str, Any]) -> Sampled:
            return _sampled(choice, (choice.get("message") or {}).get("content") or "", [], decoding)

        def one(messages: Prompt) -> Sampled:
            return self._client.ask("chat/completions", {"messages": spelled(messages, self._url), **settings(decoding)}, read)

        return self._all(one, said)

    def turn(self, said: Prompt) -> str:
        """The messages as they are sent: the text that the server makes of them is not known."""
        return json.dumps(spelled(said, lambda image: SHOWN), ensure_ascii=False)

    def letters(self, said: Sequence[Prompt], letters: str) -> list[list[float]]:
        """log p of each letter as the first token of a reply, from the 20 likeliest; a letter that is none of them has the last one's.

        Raises:
            ValueError: the server gives no log-probabilities, or no letter is among the likeliest.
        """

        asked = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": LIKELIEST}

        def read(choice: dict[str, Any]) -> list[float]:
            content = (choice.get("logprobs") or {}).get("content")
            if not content or not content[0].get("top_logprobs"):
                raise ValueError(f'{self.shown}: gives no log-probabilities of a reply; read what {self.name} says: choose_by = "letter"')
            top: dict[str, float] = {}
            for token in content[0]["top_logprobs"]:
                top.setdefault(token["token"].strip(), float(token["logprob"]))
            if not any(letter in top for letter in letters):
                raise ValueError(f"{self.shown}: {self.name} answers {next(iter(top))!r}, and none of {', '.join(letters)} is likely")
            return [top.get(letter, min(top.values())) for letter in letters]

        def one(messages: Prompt) -> list[float]:
            return self._client.ask("chat/completions", {"messages": spelled(messages, self._url), **asked}, read)

        return self._all(one, said)

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation)."""
        flat = iter(self._all(self._likelihood, [pair for question in questions for pair in question]))
        return [[next(flat) for _ in question] for question in questions]

    def _text(self, prompt: Prompt) -> str:
        """A text to go on with. Raises ValueError for a conversation: what the server's template makes of it is not known."""
        if not isinstance(prompt, str):
            raise ValueError(f"{self.shown}: the template of {self.name} is not known; in chat ask it by letter or by generation")
        return prompt

    def _likelihood(self, pair: tuple[Prompt, str]) -> Likelihood:
        context, continuation = self._text(pair[0]), pair[1]
        body = {"prompt": context + continuation, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        return self._client.ask("completions", body, lambda choice: self._echoed(choice, context, continuation))

    def _echoed(self, choice: dict[str, Any], context: str, continuation: str) -> Likelihood:
        bare = context.rstrip()
        found = choice.get("logprobs")
        if not found or not found.get("text_offset") or not any(p is not None for p in found["token_logprobs"]):
            raise ValueError(f"{self.shown}: gives no log-probabilities of a prompt; ask {self.name} by letter or by generation")
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
            found = []
            try:
                for one in pool.map(work, inputs):
                    found.append(one)
                    beat(stop=False)  # other ranks may wait for this one
                return found
            except KeyboardInterrupt:
                self._client.end()
                raise


def _sampled(choice: dict[str, Any], text: str, logprobs: list[float], decoding: Decoding) -> Sampled:
    """A text up to its first stop; it was cut only where the server says so, at ``max_tokens``, and no stop ends it here."""
    said = ended(text, decoding.stops)
    return Sampled([], [], logprobs, said, False, said != text or choice.get("finish_reason") != "length")


def settings(decoding: Decoding) -> dict[str, Any]:
    """How a server is to draw; it takes four stops, and the text is cut at every one here."""
    drawn: dict[str, Any] = {"max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "seed": decoding.seed}
    return {**drawn, "stop": list(decoding.stops[:4])} if decoding.stops else drawn


def spelled(said: Prompt, url: Callable[[str], str]) -> list[dict[str, Any]]:
    """Messages as the API takes them; ``url`` of an image's id."""

    def part(one: Part) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url(one.image)}} if isinstance(one, ImagePart) else one.model_dump()

    return [
        {"role": message.role, "content": message.content if isinstance(message.content, str) else [part(one) for one in message.content]}
        for message in conversation(said)
    ]
