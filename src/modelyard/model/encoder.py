"""Text to token ids and back, the one spelling every stage after pretraining uses.

Texts are spelled as in pretraining: ``<|endoftext|>``, the text, ``<|endoftext|>``; so base, SFT model and policy continue the same openings and
the reward model reads a text up to its closing token. Dialogs go through the tokenizer's own chat template, so no stage can drift from what is
released. Left out: system messages and more than one turn, which the demonstrations do not have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from modelyard import json_file

DOCUMENT_END = "<|endoftext|>"
TURN_END = "<|end|>"
PADDING = "<|pad|>"


class Encoder:
    """The tokenizer of one model."""

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{directory / 'tokenizer.json'}: no tokenizer: {' '.join(str(error).split())}") from None
        self._template = json_file.table(directory / "tokenizer_config.json").get("chat_template", "")
        self.document_end, self.turn_end, self.padding = (self._special(name) for name in (DOCUMENT_END, TURN_END, PADDING))

    def _special(self, name: str) -> int:
        found = self._tokenizer.token_to_id(name)
        if found is None:
            raise ValueError(f"the tokenizer has no {name}")
        return int(found)

    @property
    def start(self) -> int:
        """The token that every text starts with."""
        return self.document_end

    @property
    def fingerprint(self) -> str:
        """sha256 of tokenizer and chat template; a model must meet the same ones in every stage."""
        return hashlib.sha256(f"{self._tokenizer.to_str()}\n{self._template}".encode()).hexdigest()

    def require_same(self, role: str, directory: Path) -> None:
        """Raise ValueError when the input called ``role`` was made with another tokenizer or chat template: its ids would mean other texts."""
        if Encoder(directory).fingerprint != self.fingerprint:
            raise ValueError(f"{role}: made with another tokenizer or chat template than the rest")

    def opening(self, text: str) -> list[int]:
        """A review's beginning, to be continued."""
        return [self.document_end, *self.ids(text)]

    def openings(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`opening` of many texts."""
        return [[self.document_end, *encoding.ids] for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def document(self, text: str) -> list[int]:
        """A whole review, as the reward model reads it."""
        return [*self.opening(text), self.document_end]

    def turn(self, prompt: str) -> list[int]:
        """A user's turn with the assistant's opened after it, as the chat template renders them."""
        return self.ids(self._rendered(prompt))

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def ids(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _rendered(self, prompt: str) -> str:
        if not self._template:
            raise ValueError("the tokenizer has no chat template, so it cannot encode dialogs")
        # the settings transformers renders chat templates with
        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self._template)
        messages = [{"role": "user", "content": prompt}]
        return template.render(messages=messages, add_generation_prompt=True, bos_token=DOCUMENT_END, eos_token=DOCUMENT_END)
