"""The tokenizer of a Hugging Face directory, for asking the model that lies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.config import complaint
from modelyard.formats import json_file
from modelyard.formats.feedback import Message, Prompt
from modelyard.model.control_tokens import SETTINGS, ControlTokens, allowed


def check(directory: Path) -> None:
    """Raises ValueError naming the tokenizer's file that is there and cannot be read."""
    from tokenizers import Tokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            json_file.table(directory / name)
    if (path := directory / "tokenizer.json").is_file():
        try:
            Tokenizer.from_file(str(path))
        except Exception as error:  # what tokenizers raises is nothing narrower
            raise ValueError(f"{path}: no tokenizer: {complaint(error)}") from None


class HubEncoder:
    """The tokenizer of a Hugging Face directory, with what :class:`~modelyard.model.encoder.Encoder` offers.

    A text begins as the tokenizer itself begins it (with BOS where it adds one), which is how lm-evaluation-harness asks. Control tokens
    come from the template alone (:mod:`modelyard.model.control_tokens`).
    """

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        check(directory)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        if not getattr(self._tokenizer, "is_fast", False):
            raise ValueError(f"{directory}: no tokenizer that the tokenizers library reads")
        free = allowed(json_file.table(directory / SETTINGS)) if (directory / SETTINGS).is_file() else ()
        self._control = ControlTokens(self._tokenizer.backend_tokenizer, self._tokenizer.all_special_tokens, free)
        end = self._tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"{directory}: the tokenizer has no end-of-text token")
        self.document_end = int(end)
        self.start = int(end if self._tokenizer.bos_token_id is None else self._tokenizer.bos_token_id)
        self.padding = self.document_end

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text``, which holds no control token whatever it spells."""
        return list(self._control.text.encode(text, add_special_tokens=False).ids)

    def openings(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of beginnings of documents."""
        return [list(encoding.ids) for encoding in self._control.text.encode_batch(list(texts))]

    @property
    def template(self) -> str:
        """The chat template; "" without one."""
        return str(self._tokenizer.chat_template or "")

    @property
    def ends(self) -> list[int]:
        """The tokens at which generation stops."""
        return [self.document_end]

    def render(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """A conversation as text, the assistant's next turn opened after it where asked. Raises ValueError without a template."""
        return self._applied(messages, add_generation_prompt=open_turn)

    def prompt(self, prompt: Prompt) -> list[int]:
        """What generation continues: a text's beginning, or a conversation with the assistant's turn opened after it, or left open where it
        is the last.
        """
        if isinstance(prompt, str):
            return self.openings([prompt])[0]
        begun = prompt[-1].role == "assistant"
        how = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
        return self.ids(self._control.rendered(prompt, lambda hidden: self._applied(hidden, **how)))

    def _applied(self, messages: Sequence[Message], **how: bool) -> str:
        if not self.template:
            raise ValueError(f"{self._tokenizer.name_or_path}: the tokenizer has no chat template")
        spelled = [message.model_dump() for message in messages]
        return str(self._tokenizer.apply_chat_template(spelled, tokenize=False, **how))

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
