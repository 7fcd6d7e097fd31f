"""Text to token ids and back, the one spelling every stage uses, of a model trained here and of one that others released.

A text begins as the tokenizer itself begins it (with BOS where it adds one) and ends with the token that ends a document; so base, SFT
model and policy continue the same openings, as everybody who loads the released model does, and the reward model reads a text up to its
closing token. Conversations go through the model's own chat template, a Jinja text in Hugging Face's form rendered by transformers, so no
stage can drift from what is released; which token ends a turn is read off the template. A conversation is cut where the assistant begins
and stops speaking, because that is where generation begins and stops; wherever no token spans such a cut the ids are those of the whole
text. Control tokens come from the template alone; text that spells one stays text (:mod:`modelyard.model.control_tokens`).

An image stands as one token, :data:`IMAGE`, as often as it takes positions, which :mod:`modelyard.model.pictures` knows; which images those are,
:func:`~modelyard.formats.feedback.images_of` says in their order. Left out: templates that need tools or documents.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from tokenizers import Tokenizer

from modelyard.complaint import complaint
from modelyard.formats import json_file
from modelyard.formats.feedback import Message, Part, Prompt, images_of, is_text
from modelyard.formats.tokenizer_files import SETTINGS, TOKENIZER
from modelyard.model import chat_template, image_token
from modelyard.model.control_tokens import ControlTokens, allowed, named, spelled
from modelyard.model.image_token import IMAGE
from modelyard.model.prefix_space import without_prefix

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
"""Tokens that end a document wherever a tokenizer has them; its ``eos_token`` may be the one that ends a turn."""
PADDING = "<|pad|>"
END_IDS = "end_token_ids"
"""Key of ``tokenizer_config.json``: ids at which the model was released to stop besides those that the tokenizer names (Llama 3's ``<|eom_id|>``)."""


class Turns(NamedTuple):
    """A conversation as token ids."""

    ids: list[int]
    spoken: list[tuple[int, int]]
    """[start, stop) of what the assistant said, each with the token that ends its turn."""


class Sized(Protocol):
    """What knows how large images are to a model (:class:`modelyard.model.pictures.Pictures`)."""

    def positions(self, image: str) -> int:
        """Positions that the image with this id takes in a text. Raises ValueError where there is none."""


class Encoder:
    """The tokenizer and chat template of one model."""

    pictures: Sized | None = None
    """What knows the sizes of the images that it is given; without it a prompt with an image is refused."""

    def __init__(self, directory: Path) -> None:
        try:
            tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{directory / TOKENIZER}: no tokenizer: {complaint(error)}") from None
        try:
            self._take(tokenizer, json_file.table(directory / SETTINGS))
        except ValueError as error:
            raise ValueError(str(error) if str(directory) in str(error) else f"{directory / SETTINGS}: {error}") from None
        model = directory / "model.json"
        trained_with = json_file.table(model).get(chat_template.KEY) if model.is_file() else None
        if trained_with is not None and trained_with != self.template_hash:
            raise ValueError(f"{directory}: its chat template ({self.template_hash}) is not the one it was trained with ({trained_with})")

    def _take(self, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
        """Raises ValueError where no token ends a document, or text may spell a control token that there is not."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer, self._settings = tokenizer, settings
        self._control = ControlTokens(tokenizer, named(settings), self.allowed_special)
        self.template: str = settings.get("chat_template") or ""
        end = self._first(*DOCUMENT_ENDS, self._named("eos_token"))
        if end is None:
            raise ValueError(f"the tokenizer has no {DOCUMENT_ENDS[0]} and its config names no eos_token")
        self.document_end = end
        self._end_ids = ids_of(settings.get(END_IDS), END_IDS)
        padding = self._first(PADDING, self._named("pad_token"))
        self.padding = end if padding is None else padding  # no loss and no attention sees it: any token will do

    def _first(self, *names: str) -> int | None:
        """The id of the first of ``names`` that the tokenizer has."""
        ids = (self._tokenizer.token_to_id(name) for name in names if name)
        return next((int(found) for found in ids if found is not None), None)

    def _named(self, key: str) -> str:
        value = self._settings.get(key) or ""
        return str(value["content"] if isinstance(value, dict) else value)

    @cached_property
    def beginning(self) -> list[int]:
        """What the tokenizer puts before a text by itself."""
        whole, bare = (self._tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
        return next(list(whole[:i]) for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)

    @cached_property
    def widest(self) -> int:
        """Characters of the longest token: a text of more than so many for each token of a context cannot fit, whatever it says."""
        return max(map(len, self._tokenizer.get_vocab()))

    @property
    def allowed_special(self) -> list[str]:
        """Control tokens that text may spell."""
        return list(allowed(self._settings))

    @cached_property
    def placeholder(self) -> int | None:
        """The token that images stand as; None of a model that reads text only."""
        return self._first(IMAGE)

    def seeing(self, pictures: Sized) -> Self:
        """The same tokenizer for other images; this one keeps its own."""
        other = copy.copy(self)
        other.pictures = pictures
        return other

    @property
    def vocabulary(self) -> int:
        """Entries of the tokenizer, added tokens included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def text_tokenizer(self) -> Tokenizer:
        """The tokenizer as text meets it, for which text spells no control token but those of :attr:`allowed_special`."""
        return self._control.text

    @property
    def start(self) -> int:
        """The token before a text that has none of its own: as lm-evaluation-harness, BOS, or where there is none the end of the one before."""
        start = self._first(self._named("bos_token"), self._named("eos_token"))
        return self.document_end if start is None else start

    @cached_property
    def turn_end(self) -> int:
        """The token by which the assistant ends its turn: the first control token that the template puts behind what it said, or the first token."""
        marker = "modelyard"
        rendered = self._rendered([Message(role="user", content=marker), Message(role="assistant", content=marker)])
        behind = self.ids(rendered.rpartition(marker)[2])
        if not behind:
            raise ValueError("the chat template puts nothing behind an assistant's turn, so nothing says where it ends")
        parts = named(self._settings)
        control = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special or token.content in parts}
        return next((token for token in behind if token in control), behind[0])

    @property
    def text_ends(self) -> list[int]:
        """The tokens at which the completion of a text stops."""
        named = self._first(self._named("eos_token"))
        return sorted({self.document_end, *self._end_ids} | ({named} if named is not None else set()))

    @property
    def ends(self) -> list[int]:
        """The tokens at which an answer stops."""
        return sorted({*self.text_ends, self.turn_end}) if self.template else self.text_ends

    @cached_property
    def template_hash(self) -> str:
        """First 16 hex digits of the chat template's sha256; "" without one."""
        return chat_template.hash_of(self.template)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of tokenizer, chat template and :attr:`allowed_special`; a model must meet the same ones in every stage.

        :data:`IMAGE`, which a model gets when it learns to see, is left out: text is encoded alike with it and without.
        """
        allowed = "".join(f"\n{token}" for token in sorted(self.allowed_special))
        return hashlib.sha256(f"{image_token.without(self._tokenizer)}\n{self.template}{allowed}".encode()).hexdigest()

    def require_same(self, role: str, directory: Path) -> None:
        """Raise ValueError when the input called ``role`` was made with another tokenizer or chat template: its ids would mean other texts."""
        other = Encoder(directory)
        if other.template != self.template:
            theirs, ours = (one or "none" for one in (other.template_hash, self.template_hash))
            raise ValueError(f"{role}: made with another chat template ({theirs}) than the rest ({ours})")
        if other.fingerprint != self.fingerprint:
            raise ValueError(f"{role}: made with another tokenizer than the rest")

    def require_same_vocabulary(self, role: str, other: Encoder) -> None:
        """Raise ValueError when a token of the model called ``role`` has another id than here; chat templates may differ."""
        ours, theirs = self._tokenizer.get_vocab(), other._tokenizer.get_vocab()
        differing = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        if differing:
            what = f"{len(differing)} of {len(ours)} tokens differ, such as {differing[0]!r}"
            raise ValueError(f"{role}: its vocabulary is not the line's ({what}): its probabilities would be of other texts")

    def opening(self, text: str | Sequence[Part]) -> list[int]:
        """A text's beginning, images in it or not, to be continued; at least one token. Raises ValueError as :meth:`image`."""
        return self._widened([*self.beginning, *self.ids(self._written(text))], images_of(text)) or [self.start]

    def openings(self, texts: Sequence[str | Sequence[Part]]) -> list[list[int]]:
        """Many texts' beginnings; none of an empty text where the tokenizer begins texts with nothing."""
        written = [self._written(text) for text in texts]
        encoded = self._control.text.encode_batch(written, add_special_tokens=False)
        return [self._widened([*self.beginning, *one.ids], images_of(text)) for one, text in zip(encoded, texts, strict=True)]

    def _written(self, text: str | Sequence[Part]) -> str:
        """A text for :attr:`text_tokenizer`, with an image as its control token."""
        return text if isinstance(text, str) else spelled(text, lambda image: self._control.names[self._image(image)])

    def _image(self, image: str) -> str:
        """The control token that images stand as.

        Raises:
            ValueError: the model reads text only, or nobody said where its images are.
        """
        if self.placeholder is None:
            raise ValueError("a prompt holds an image, and this model reads text only")
        if self.pictures is None:
            raise ValueError("a prompt holds an image, which nothing here reads")
        return IMAGE

    def _widened(self, ids: list[int], images: Sequence[str]) -> list[int]:
        """Ids with the placeholder of each image as often as it takes positions. Raises ValueError where an image was left out."""
        return [token for token, times in zip(ids, self._times(ids, images), strict=True) for _ in range(times)] if images else ids

    def _times(self, ids: Sequence[int], images: Sequence[str]) -> list[int]:
        """How often each of ids, with one placeholder an image, stands in the end."""
        assert self.pictures is not None
        if (there := ids.count(self.placeholder)) != len(images):
            raise ValueError(f"chat template: shows {there} of {len(images)} images")
        counts = iter([self.pictures.positions(image) for image in images])
        return [next(counts) if token == self.placeholder else 1 for token in ids]

    def document(self, text: str) -> list[int]:
        """A whole text, as the reward model reads it."""
        return [*self.opening(text), self.document_end]

    def prompt(self, prompt: Prompt) -> list[int]:
        """What generation continues: an opening, or a conversation with the assistant's turn opened after it, or left open where it is
        the last.
        """
        if is_text(prompt):
            return self.opening(prompt)
        ids = self.turns(prompt).ids
        return ids[:-1] if prompt[-1].role == "assistant" else ids

    def turns(self, messages: Sequence[Message]) -> Turns:
        """A conversation as the chat template renders it, up to where the assistant is to speak next or has just spoken.

        Some templates render an earlier turn differently once others follow (Qwen 3 leaves out what was thought). Then the conversation is
        as the last turn sees it, and what was said before is read, not spoken.

        Raises:
            ValueError: no chat template, one that refuses the conversation, or one that renders it differently once it is answered.
        """
        ids: list[int] = []
        spoken: list[tuple[int, int]] = []
        done = ""
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            opened, closed = self._rendered(messages[:number], open_turn=True), self._rendered(messages[: number + 1])
            text, close, _ = self._after(opened, closed).rpartition(str(self._control.text.id_to_token(self.turn_end)))
            if not close:
                raise ValueError("chat template: does not end an assistant's turn in a longer conversation as in a short one")
            if not opened.startswith(done):
                ids, spoken, done = [], [], ""
            ids = self._extended(ids, done, opened)
            start = len(ids)
            ids = [*self._extended(ids, opened, opened + text), self.turn_end]
            spoken.append((start, len(ids)))
            done = opened + text + close  # what stands between a turn's end and the next turn is nobody's speech
        if messages[-1].role != "assistant":
            whole = self._rendered(messages, open_turn=True)
            ids, spoken, done = (ids, spoken, done) if whole.startswith(done) else ([], [], "")
            ids = self._extended(ids, done, whole)
        images = images_of(tuple(messages))
        if images:
            ends = [0, *itertools.accumulate(self._times(ids, images))]
            ids, spoken = self._widened(ids, images), [(ends[start], ends[stop]) for start, stop in spoken]
        return Turns(ids, spoken)

    def _extended(self, ids: list[int], done: str, whole: str) -> list[int]:
        """The ids of ``done`` with those of what ``whole`` adds to it: of the whole text, unless a token would span the end of ``done``."""
        together = self.ids(whole)
        return together if together[: len(ids)] == ids else [*ids, *self.continued(whole[len(done) :])]

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text``, which holds no control token whatever it spells."""
        return list(self._control.text.encode(text, add_special_tokens=False).ids)

    def continued(self, text: str) -> list[int]:
        """Token ids of a text that follows another one: without the space that sentencepiece's tokenizers put before every text."""
        return list(self._continuing.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _continuing(self) -> Tokenizer:
        return without_prefix(self._control.text)

    def render(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """The conversation as text; with ``open_turn`` the assistant's next turn is opened. Raises ValueError as :meth:`turns`."""
        special = {key: self._named(key) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
        return chat_template.rendered(self.template, messages, special, open_turn)

    def _rendered(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """:meth:`render` for :meth:`ids`, which takes the template's control tokens from it and nobody else's."""
        return self._control.rendered(messages, lambda hidden: self.render(hidden, open_turn), self._image)

    @staticmethod
    def _after(beginning: str, whole: str) -> str:
        if not whole.startswith(beginning):
            raise ValueError("chat template: renders a conversation's beginning differently once the conversation goes on")
        return whole[len(beginning) :]


def ids_of(value: Any, key: str) -> list[int]:
    """The token ids that ``key`` lists: none, one or several. Raises ValueError."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in ids):
        raise ValueError(f"{key}: expected token ids, got {value!r}")
    return list(ids)
