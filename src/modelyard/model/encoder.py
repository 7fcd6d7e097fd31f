"""Text to token ids and back, the one spelling every stage after pretraining uses.

Texts are spelled as in pretraining: ``<|endoftext|>``, the text, ``<|endoftext|>``; so base, SFT model and policy continue the same openings and
the reward model reads a text up to its closing token. Conversations go through the model's own chat template, a Jinja text in Hugging Face's form
rendered by transformers, so no stage can drift from what is released; which token ends a turn is read off the template. A conversation is encoded
turn by turn, cut where the assistant begins and stops speaking, because that is where generation begins and stops. Control tokens come from the
template alone; text that spells one stays text (:mod:`modelyard.model.control_tokens`). Left out: templates that need tools or documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from modelyard.config import complaint
from modelyard.formats import json_file
from modelyard.formats.feedback import Message, Prompt
from modelyard.model.control_tokens import ControlTokens, allowed, named

DOCUMENT_END = "<|endoftext|>"
PADDING = "<|pad|>"
TEMPLATE_KEY = "chat_template"
"""Key of ``model.json`` that holds the hash of the template a model was trained with."""


def template_hash(template: str) -> str:
    """First 16 hex digits of the template's sha256; "" without one."""
    return hashlib.sha256(template.encode()).hexdigest()[:16] if template else ""


def template_of(directory: Path) -> str:
    """The chat template beside a tokenizer; "" without one."""
    return str(json_file.table(directory / "tokenizer_config.json").get("chat_template") or "")


class Turns(NamedTuple):
    """A conversation as token ids."""

    ids: list[int]
    spoken: list[tuple[int, int]]
    """[start, stop) of what the assistant said, each with the token that ends its turn."""


class Encoder:
    """The tokenizer and chat template of one model."""

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{directory / 'tokenizer.json'}: no tokenizer: {complaint(error)}") from None
        self._settings: dict[str, Any] = json_file.table(directory / "tokenizer_config.json")
        self.template: str = self._settings.get("chat_template") or ""
        try:
            self._control = ControlTokens(self._tokenizer, named(self._settings), self.allowed_special)
        except ValueError as error:
            raise ValueError(f"{directory / 'tokenizer_config.json'}: {error}") from None
        model = directory / "model.json"
        trained_with = json_file.table(model).get(TEMPLATE_KEY) if model.is_file() else None
        if trained_with is not None and trained_with != self.template_hash:
            raise ValueError(f"{directory}: its chat template ({self.template_hash}) is not the one it was trained with ({trained_with})")
        self.document_end = self._special(DOCUMENT_END, "eos_token")
        self.padding = self._special(PADDING, "pad_token")

    def _special(self, name: str, key: str) -> int:
        """The id of ``name``, or of what the tokenizer's config calls ``key``."""
        for candidate in (name, self._named(key)):
            if candidate and (found := self._tokenizer.token_to_id(candidate)) is not None:
                return int(found)
        raise ValueError(f"the tokenizer has no {name} and its config names no {key}")

    def _named(self, key: str) -> str:
        value = self._settings.get(key) or ""
        return str(value["content"] if isinstance(value, dict) else value)

    @property
    def allowed_special(self) -> list[str]:
        """Control tokens that text may spell."""
        return list(allowed(self._settings))

    @property
    def text_tokenizer(self) -> Tokenizer:
        """The tokenizer as text meets it, for which text spells no control token but those of :attr:`allowed_special`."""
        return self._control.text

    @property
    def start(self) -> int:
        """The token that every text starts with."""
        return self.document_end

    @cached_property
    def turn_end(self) -> int:
        """The token by which the assistant ends its turn: what the template puts behind what it said."""
        marker = "modelyard"
        rendered = self._rendered([Message(role="user", content=marker), Message(role="assistant", content=marker)])
        behind = self.ids(rendered.rpartition(marker)[2])
        if not behind:
            raise ValueError("the chat template puts nothing behind an assistant's turn, so nothing says where it ends")
        return int(behind[0])

    @property
    def ends(self) -> list[int]:
        """The tokens at which generation stops."""
        return sorted({self.document_end, self.turn_end}) if self.template else [self.document_end]

    @cached_property
    def template_hash(self) -> str:
        """First 16 hex digits of the chat template's sha256; "" without one."""
        return template_hash(self.template)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of tokenizer, chat template and :attr:`allowed_special`; a model must meet the same ones in every stage."""
        allowed = "".join(f"\n{token}" for token in sorted(self.allowed_special))
        return hashlib.sha256(f"{self._tokenizer.to_str()}\n{self.template}{allowed}".encode()).hexdigest()

    def require_same(self, role: str, directory: Path) -> None:
        """Raise ValueError when the input called ``role`` was made with another tokenizer or chat template: its ids would mean other texts."""
        other = Encoder(directory)
        if other.template != self.template:
            theirs, ours = (one or "none" for one in (other.template_hash, self.template_hash))
            raise ValueError(f"{role}: made with another chat template ({theirs}) than the rest ({ours})")
        if other.fingerprint != self.fingerprint:
            raise ValueError(f"{role}: made with another tokenizer than the rest")

    def opening(self, text: str) -> list[int]:
        """A text's beginning, to be continued."""
        return [self.document_end, *self.ids(text)]

    def openings(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`opening` of many texts."""
        return [[self.document_end, *encoding.ids] for encoding in self._control.text.encode_batch(list(texts), add_special_tokens=False)]

    def document(self, text: str) -> list[int]:
        """A whole text, as the reward model reads it."""
        return [*self.opening(text), self.document_end]

    def prompt(self, prompt: Prompt) -> list[int]:
        """What generation continues: an opening, or a conversation with the assistant's turn opened after it, or left open where it is
        the last.
        """
        if isinstance(prompt, str):
            return self.opening(prompt)
        ids = self.turns(prompt).ids
        return ids[:-1] if prompt[-1].role == "assistant" else ids

    def turns(self, messages: Sequence[Message]) -> Turns:
        """A conversation as the chat template renders it, up to where the assistant is to speak next or has just spoken.

        Raises:
            ValueError: no chat template, one that refuses the conversation, or one that renders its beginning differently once it goes on.
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
            ids += self.ids(self._after(done, opened))
            start = len(ids)
            ids += [*self.ids(text), self.turn_end]
            spoken.append((start, len(ids)))
            done = opened + text + close  # what stands between a turn's end and the next turn is nobody's speech
        if messages[-1].role != "assistant":
            ids += self.ids(self._after(done, self._rendered(messages, open_turn=True)))
        return Turns(ids, spoken)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text``, which holds no control token whatever it spells."""
        return list(self._control.text.encode(text, add_special_tokens=False).ids)

    def render(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """The conversation as text; with ``open_turn`` the assistant's next turn is opened. Raises ValueError as :meth:`turns`."""
        if not self.template:
            raise ValueError("the tokenizer has no chat template, so it cannot encode conversations")
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        spelled = [message.model_dump() for message in messages]
        special = {key: self._named(key) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
        try:
            rendered, _ = render_jinja_template([spelled], chat_template=self.template, add_generation_prompt=open_turn, **special)
        except TemplateError as error:
            raise ValueError(f"chat template: {complaint(error)}") from None
        return str(rendered[0])

    def _rendered(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """:meth:`render` for :meth:`ids`, which takes the template's control tokens from it and nobody else's."""
        return self._control.rendered(messages, lambda hidden: self.render(hidden, open_turn))

    @staticmethod
    def _after(beginning: str, whole: str) -> str:
        if not whole.startswith(beginning):
            raise ValueError("chat template: renders a conversation's beginning differently once the conversation goes on")
        return whole[len(beginning) :]
