"""Text to token ids, the one spelling every post-training stage uses.

Reviews are plain text as in pretraining: ``<|endoftext|>``, the text, ``<|endoftext|>``; so base, SFT model and policy continue the same
openings and the reward model reads a text up to its closing token. Dialogs go through the tokenizer's own chat template, so no stage can
drift from what is released. Left out: system messages and more than one turn, which the demonstrations do not have.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from modelyard.posttrain.masking import Example

DOCUMENT_END = "<|endoftext|>"
TURN_END = "<|end|>"
PADDING = "<|pad|>"


class Demonstration(NamedTuple):
    """A prompt and what a person wrote after it; ``kind`` is ``review`` or ``dialog``."""

    kind: str
    prompt: str
    completion: str


class Encoder:
    """The tokenizer of one model."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._template = json.loads((directory / "tokenizer_config.json").read_text("utf-8")).get("chat_template", "")
        self.document_end, self.turn_end, self.padding = (self._special(name) for name in (DOCUMENT_END, TURN_END, PADDING))

    def _special(self, name: str) -> int:
        found = self._tokenizer.token_to_id(name)
        if found is None:
            raise ValueError(f"the tokenizer has no {name}")
        return int(found)

    @property
    def fingerprint(self) -> str:
        """sha256 of tokenizer and chat template; a model must meet the same ones in every stage."""
        return hashlib.sha256(f"{self._tokenizer.to_str()}\n{self._template}".encode()).hexdigest()

    def require_same(self, role: str, directory: Path) -> None:
        """Raise ValueError when the input called ``role`` was made with another tokenizer or chat template: its ids would mean other texts."""
        if Encoder(directory).fingerprint != self.fingerprint:
            raise ValueError(f"{role}: made with another tokenizer or chat template than the model to be trained")

    def opening(self, text: str) -> list[int]:
        """A review's beginning, to be continued."""
        return [self.document_end, *self._ids(text)]

    def document(self, text: str) -> list[int]:
        """A whole review, as the reward model reads it."""
        return [*self.opening(text), self.document_end]

    def demonstration(self, shown: Demonstration) -> Example:
        """Prompt and completion, closed by the token that ends its kind. Raises ValueError for an unknown kind."""
        if shown.kind == "review":
            return Example(self.opening(shown.prompt), [*self._ids(shown.completion), self.document_end])
        if shown.kind == "dialog":
            return Example(self._ids(self._rendered(shown.prompt)), [*self._ids(shown.completion), self.turn_end])
        raise ValueError(f"demonstration kind {shown.kind!r} is neither review nor dialog")

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _rendered(self, prompt: str) -> str:
        if not self._template:
            raise ValueError("the tokenizer has no chat template, so it cannot encode dialogs")
        # the settings transformers renders chat templates with
        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self._template)
        messages = [{"role": "user", "content": prompt}]
        return template.render(messages=messages, add_generation_prompt=True, bos_token=DOCUMENT_END, eos_token=DOCUMENT_END)


def read_demonstrations(path: Path, split: str) -> list[Demonstration]:
    """The demonstrations of one split; raises ValueError if there are none."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = [Demonstration(row["kind"], row["prompt"], row["completion"]) for row in rows if row["split"] == split]
    if not found:
        raise ValueError(f"{path.name}: no demonstrations of split {split!r}")
    return found


def read_prompts(path: Path) -> list[str]:
    """The openings PPO samples from; raises ValueError if there are none."""
    found = [str(json.loads(line)["prompt"]) for line in path.read_text("utf-8").splitlines()]
    if not found:
        raise ValueError(f"{path.name}: no prompts")
    return found
