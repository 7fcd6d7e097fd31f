"""The model that a server answers with: its name, its weights, its tokenizer, what decodes it and what holds its texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from modelyard.formats import json_file
from modelyard.formats.feedback import Prompt, images_of
from modelyard.formats.stored_images import Held
from modelyard.model.asked import plain_turns
from modelyard.model.encoder import Encoder
from modelyard.model.hf.tokenizer import HubEncoder
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.slots import Slots
from modelyard.model.model_directory import weights_of
from modelyard.model.pictures import Images
from modelyard.model.subject import Subject
from modelyard.serving.batcher import Asked, Batcher, Piece, UnderWay
from modelyard.serving.content_filter import ContentFilter
from modelyard.serving.protocol import ChatRequest, CompletionRequest, Said

TEXT_ONLY = "images are not served: this model reads text only"
SLACK = 4
"""How many characters a tokenizer's normalisation may make one of."""
SHORTEST = 16
"""New tokens that a request without ``max_tokens`` has at least room for, or its prompt is too long."""


class Engine(Protocol):
    """What decodes: :class:`~modelyard.serving.batcher.Batcher` here, :class:`~modelyard.serving.upstream.Upstream` elsewhere."""

    problem: str
    """Why nothing is decoded any more; "" while it is."""

    def submit(self, asked: Asked, tell: Callable[[Piece], None]) -> UnderWay:
        """Take a request in. Raises FullError and ClosedError."""

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are answered, and that wait."""

    def close(self) -> None:
        """Answer what was taken in, take in nothing more."""


class Reader(NamedTuple):
    """How a model reads, and which it is."""

    encoder: Encoder
    weights: str
    """Hash of its weights."""
    context: int
    """Tokens of prompt and answer together."""
    shown: Callable[[Images], Gallery] | None = None
    """How it is shown images; None where it reads text only."""

    @classmethod
    def of_subject(cls, subject: Subject) -> Reader:
        """Of a model that is loaded here."""
        return cls(subject.encoder, subject.weights, subject.engine.model.seq_len, subject.gallery_of if subject.sees else None)

    @classmethod
    def of_directory(cls, directory: Path) -> Reader:
        """Of a Hugging Face directory that another server loads. Raises ValueError where it is none."""
        path = directory / "config.json"
        if not path.is_file():
            raise ValueError(f"{directory}: no config.json; another engine reads Hugging Face directories (modelyard export writes one)")
        config = json_file.table(path)
        of_text = config.get("text_config")  # of a model that is shown images
        context = (of_text if isinstance(of_text, dict) else config).get("max_position_embeddings")
        if not isinstance(context, int):
            raise ValueError(f"{path}: max_position_embeddings: missing")
        return cls(HubEncoder(directory), weights_of(directory), context)


class Submitted(NamedTuple):
    """A request on its way."""

    answer: UnderWay
    prompt_tokens: int


class ServedModel:
    """How a model reads, what decodes it and what holds its texts."""

    def __init__(self, name: str, reader: Reader, batcher: Engine, content_filter: ContentFilter | None = None, version: str = "") -> None:
        """``content_filter``: of this version, None: nothing is held; ``version``: its number in the registry, "" of a directory."""
        self.name, self.batcher, self.content_filter, self.version = name, batcher, content_filter, version
        self.encoder, self.weights, self.context, self._shown = reader

    @classmethod
    def here(
        cls, name: str, subject: Subject, slots: Slots, waiting: int, content_filter: ContentFilter | None = None, version: str = ""
    ) -> ServedModel:
        """Decoded in this process, as many requests at once as ``slots`` has rows while ``waiting`` more wait."""
        batcher = Batcher(slots, subject.encoder.decode, waiting)
        return cls(name, Reader.of_subject(subject)._replace(context=slots.context), batcher, content_filter, version)

    @property
    def fingerprint(self) -> str:
        """Of the weights; every answer carries it."""
        return f"fp_{self.weights[:16]}"

    @property
    def sees(self) -> bool:
        """Whether it is shown images."""
        return self._shown is not None

    def submit(self, request: ChatRequest | CompletionRequest, tell: Callable[[Piece], None]) -> Submitted:
        """Put a request in the queue.

        Raises:
            ValueError: prompt and new tokens do not fit the context, the chat template refuses the conversation, or it holds images and the
                model reads text only.
            FullError, ClosedError: as :meth:`Batcher.submit`.
        """
        self.check_tokens(request)
        self.check_length(request)
        gallery = self._gallery(request)
        prompt, stops, ends = self._prompt(request, gallery)
        room = self.context - len(prompt)
        wanted = request.longest or max(room, SHORTEST)
        if wanted > room:
            raise ValueError(f"{len(prompt)} prompt tokens and {wanted} new ones exceed the context of {self.context}")
        stops = (*(request.stop or ()), *stops)
        if gallery and isinstance(request, ChatRequest):
            prompt = gallery.numbered(prompt, images_of(tuple(request.messages)))
        asked = Asked(prompt, wanted, request.temperature, request.top_p, request.drawn_by, stops, frozenset(ends), gallery)
        return Submitted(self.batcher.submit(asked, tell), len(prompt))

    def check_tokens(self, request: ChatRequest | CompletionRequest) -> None:
        """Raise ValueError for a prompt of tokens that are not all the model's, of which :meth:`texts` can make no text."""
        if isinstance(request, CompletionRequest) and not isinstance(request.prompt, str):
            size = self.encoder.vocabulary
            if strange := next((token for token in request.prompt if token >= size), None):
                raise ValueError(f"prompt: token {strange} is none of the model's")

    def check_length(self, request: ChatRequest | CompletionRequest) -> None:
        """Raise ValueError for a text that cannot fit, before it costs the memory of its tokens."""
        characters = len(request.prompt) if isinstance(request, CompletionRequest) else sum(map(len, request.texts))
        if characters > SLACK * self.context * self.encoder.widest:
            raise ValueError(f"{characters:,} characters of prompt exceed the context of {self.context} tokens")

    def said(self, answer: UnderWay, start: int = 0, stop: int | None = None) -> Said:
        """The answer's tokens from ``start`` to ``stop``, each as it reads alone, with their log-probabilities."""
        return Said([self.encoder.decode([token]) for token in answer.tokens[start:stop]], answer.logprobs[start:stop])

    def texts(self, request: ChatRequest | CompletionRequest) -> list[str]:
        """All that is said in a request, tokens as the text that they are."""
        if isinstance(request, ChatRequest):
            return request.texts
        return [request.prompt if isinstance(request.prompt, str) else self.encoder.decode(request.prompt)]

    def _gallery(self, request: ChatRequest | CompletionRequest) -> Gallery | None:
        """The images of a request; each has its own, so nobody is shown another's and none outlives its answer."""
        if not isinstance(request, ChatRequest) or not request.images:
            return None
        if self._shown is None:
            raise ValueError(TEXT_ONLY)
        return self._shown(Held(request.images))

    def _prompt(self, request: ChatRequest | CompletionRequest, gallery: Gallery | None) -> tuple[list[int], tuple[str, ...], list[int]]:
        """Token ids, stop texts of a model without a chat template, and the tokens that end an answer."""
        encoder = self.encoder if gallery is None else self.encoder.seeing(gallery.pictures)
        if isinstance(request, CompletionRequest):
            prompt, ends = request.prompt, () if request.ignore_eos else encoder.text_ends
            return encoder.opening(prompt) if isinstance(prompt, str) else prompt, (), [*ends, *request.stop_token_ids]
        said: Prompt = tuple(request.messages)
        if encoder.template:
            return encoder.prompt(said), (), encoder.ends
        return encoder.opening(plain_turns(said)), ("\nUser:",), encoder.text_ends
