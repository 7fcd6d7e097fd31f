"""Requests and answers of OpenAI's API, as far as they are served: chat completions, completions, models,
moderations.

A field that would change the answer and is not served is refused by name, never passed over. A user's turn may hold images as data URLs;
they are read once the request is taken up (:meth:`ChatRequest.read_images`), never fetched from elsewhere. Left out: tools,
several answers at once, penalties, ``detail`` of an image, which every model cuts in its own way.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from modelyard.formats.feedback import Message, content_text, images_of, with_images
from modelyard.formats.images import Image, cleaned, is_data_url, of_data_url
from modelyard.serving.given import Given

NOT_SERVED = {
    "tools": (None, []),
    "tool_choice": (None, "none"),
    "functions": (None, []),
    "n": (None, 1),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "echo": (None, False),
    "top_logprobs": (None, 0),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""Field -> its values that ask for nothing."""
MOST_IMAGES = 16
"""Of a request."""
NULLABLE = ("max_tokens", "seed", "stop", "user")
Stops = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]


class StreamOptions(BaseModel):
    """``stream_options``."""

    include_usage: bool = False


class Request(Given):
    """What both kinds of request have in common."""

    model_config = ConfigDict(extra="allow")

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: Stops | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: Annotated[str, Field(max_length=200)] | None = None
    """The client's pseudonym for whoever asks."""
    store: bool = False
    """OpenAI's word for consent: the answer may be kept and used for training."""

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, given: Any) -> Any:
        """One stop text as a list; refuse what is not served."""
        if not isinstance(given, dict):
            return given
        for name, idle in NOT_SERVED.items():
            if name in given and given[name] not in idle:
                raise ValueError(f"{name}: not served")
        known = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
        if isinstance(known.get("stop"), str):
            known["stop"] = [known["stop"]]
        return known

    @property
    def longest(self) -> int | None:
        """Most new tokens that are wanted."""
        return self.max_tokens

    @property
    def drawn_by(self) -> int:
        """The seed, or one that nobody knows."""
        return secrets.randbits(62) if self.seed is None else self.seed


class ChatRequest(Request):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    _images: dict[str, Image] = PrivateAttr(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """All that is said in it."""
        return [content_text(message.content) for message in self.messages]

    @property
    def images(self) -> dict[str, Image]:
        """Those of :meth:`read_images`, by the ids by which the messages then name them."""
        return self._images

    def read_images(self) -> None:
        """Decode the images that the messages hold as data URLs. Raises ImageError for one that cannot be used."""
        urls = images_of(tuple(self.messages))
        read = {url: cleaned(of_data_url(url)) for url in dict.fromkeys(urls)}
        self._images = {one.id: one for one in read.values()}
        named = with_images(tuple(self.messages), {url: one.id for url, one in read.items()})
        self.messages = [one for one in named if isinstance(one, Message)]

    @field_validator("messages", mode="before")
    @classmethod
    def _contents(cls, given: Any) -> Any:
        """Content in parts as one text, where every part is text, and else with images as records have them."""
        if not isinstance(given, list):
            return given
        return [{**one, "content": parts(one)} if isinstance(one, dict) and "content" in one else one for one in given]

    @field_validator("messages")
    @classmethod
    def _few(cls, messages: list[Message]) -> list[Message]:
        if (count := len(images_of(tuple(messages)))) > MOST_IMAGES:
            raise ValueError(f"{count} images, and at most {MOST_IMAGES} are served")
        return messages

    @property
    def longest(self) -> int | None:
        """Most new tokens that are wanted, by the name of today or that of before."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Request):
    """``POST /v1/completions``, with vLLM's ``stop_token_ids``, ``ignore_eos`` and ``return_token_ids`` beside OpenAI's fields."""

    prompt: str | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Text, or the token ids that it becomes."""
    max_tokens: int | None = Field(16, ge=1)
    logprobs: Annotated[int, Field(ge=0, le=1)] | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """Tokens that end the answer, beside those of the model."""
    ignore_eos: bool = False
    """Whether the model's own tokens do not end the answer: ``stop_token_ids`` alone do."""
    return_token_ids: bool = False
    """Whether the answer, or each piece of a stream, says its tokens."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_or_tokens(cls, given: Any) -> Any:
        """Refuse in one sentence what is neither, several prompts among them."""
        tokens = isinstance(given, list) and given and all(type(one) is int and one >= 0 for one in given)
        if not (isinstance(given, str) or tokens):
            raise ValueError("must be a text, or a list of at least one token id of 0 or more")
        return given


class FeedbackRequest(Given):
    """``POST /v1/feedback``: what a user says of an answer, by its id."""

    model_config = ConfigDict(extra="forbid")

    id: str
    user: str = ""
    rating: Literal["up", "down"] | None = None
    not_factual: bool = False
    better: Annotated[str, Field(max_length=20_000)] = ""
    comment: Annotated[str, Field(max_length=20_000)] = ""
    consent: bool | None = None


class ModerationRequest(Given):
    """``POST /v1/moderations``."""

    input: str | Annotated[list[str], Field(min_length=1)]
    model: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _text_or_texts(cls, given: Any) -> Any:
        """Refuse in one sentence what is neither."""
        texts = isinstance(given, list) and given and all(isinstance(one, str) for one in given)
        if not (isinstance(given, str) or texts):
            raise ValueError("must be a text, or a list of at least one text")
        return given

    @property
    def texts(self) -> list[str]:
        """What is to be judged."""
        return [self.input] if isinstance(self.input, str) else self.input


class Kind(NamedTuple):
    """How the two kinds of answer are named and where their text stands."""

    prefix: str
    whole: str
    piece: str


CHAT = Kind("chatcmpl-", "chat.completion", "chat.completion.chunk")
TEXT = Kind("cmpl-", "text_completion", "text_completion")
Finish = Literal["stop", "length", "content_filter"]


class Said(NamedTuple):
    """Log-probabilities of an answer's tokens."""

    tokens: list[str]
    logprobs: list[float]


class Replies:
    """The JSON of one answer, whole or in pieces."""

    def __init__(self, kind: Kind, model: str, fingerprint: str) -> None:
        self.kind, self.model, self.fingerprint = kind, model, fingerprint
        self.id, self.created = f"{kind.prefix}{secrets.token_hex(12)}", int(time.time())

    def whole(
        self, text: str, finish: Finish, usage: dict[str, int], said: Said | None, ids: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """The answer at once; ``ids`` are its tokens, where they were asked for."""
        body = {"message": {"role": "assistant", "content": text, "refusal": None}} if self.kind is CHAT else {"text": text}
        choice: dict[str, Any] = {"index": 0, **body, "finish_reason": finish, "logprobs": self._logprobs(said)}
        choice |= {} if ids is None else {"token_ids": list(ids)}
        return {**self._head(self.kind.whole), "choices": [choice], "usage": usage}

    def piece(
        self,
        text: str | None,
        finish: Finish | None = None,
        first: bool = False,
        ids: Sequence[int] | None = None,
        said: Said | None = None,
    ) -> dict[str, Any]:
        """A piece of it; ``first`` names the role, ``ids`` are its tokens and ``said`` their log-probabilities, where they were asked for."""
        if self.kind is CHAT:
            delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text is not None else {})}
            choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": self._logprobs(said)}
        else:
            choice = {"index": 0, "text": text or "", "finish_reason": finish, "logprobs": self._logprobs(said)}
            choice |= {} if ids is None else {"token_ids": list(ids)}
        return {**self._head(self.kind.piece), "choices": [choice]}

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last piece where usage was asked for."""
        return {**self._head(self.kind.piece), "choices": [], "usage": usage}

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.id, "object": name, "created": self.created, "model": self.model, "system_fingerprint": self.fingerprint}

    def _logprobs(self, said: Said | None) -> dict[str, Any] | None:
        if said is None:
            return None
        if self.kind is TEXT:
            return {"tokens": said.tokens, "token_logprobs": said.logprobs, "top_logprobs": None, "text_offset": None}
        pairs = zip(said.tokens, said.logprobs, strict=True)
        return {"content": [{"token": t, "logprob": p, "bytes": list(t.encode()), "top_logprobs": []} for t, p in pairs], "refusal": None}


def parts(message: dict[str, Any]) -> Any:
    """The content of a message: the text of a list of text parts, images among them by their data URLs; anything else as it is.

    Raises ValueError for an image that is no data URL or that a user did not send.
    """
    content = message["content"]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    if all(part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    if message.get("role") != "user":
        raise ValueError(f"images of a {message.get('role')!r} message are not served, those of a user are")
    return [_image(part) if part.get("type") == "image_url" else part for part in content if part.get("type") != "text" or part.get("text")]


def _image(part: dict[str, Any]) -> dict[str, Any]:
    url = part["image_url"].get("url") if isinstance(part.get("image_url"), dict) else part.get("image_url")
    if not isinstance(url, str) or not is_data_url(url):
        raise ValueError("image_url: images are served as data URLs (data:image/png;base64,...), nothing is fetched")
    return {"type": "image", "image": url}


def usage(prompt: int, new: int) -> dict[str, int]:
    """Tokens read and said."""
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def problem(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
