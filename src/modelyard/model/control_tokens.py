"""Control tokens apart from text that spells them.

A tokenizer turns ``<|im_end|>`` into the token that ends a turn wherever it is written, so whoever writes it in a web page, a prompt or an
answer ends that turn. Here nobody can write one: text is encoded by a copy of the tokenizer in which every control token has a name that is
drawn at random, and a chat template's own control tokens, and only those, are renamed likewise after rendering. What a text spells is
encoded as the characters that it is; the names never leave this module, so nothing depends on the draw. tiktoken refuses such text by
default, vLLM and transformers encode it as control tokens.

A control token is what the tokenizer calls special or its config gives a part (``bos_token``, ...). Those listed under ``allowed_special``
of ``tokenizer_config.json`` may be spelled in any text. Left out: other added tokens, such as ``<think>`` of some models, which are
vocabulary, and two texts that only spell one together, across the edge of a message.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from modelyard.formats import json_file
from modelyard.formats.feedback import Message, Part, TextPart
from modelyard.formats.tokenizer_files import SETTINGS

ALLOWED = "allowed_special"
"""Key of a tokenizer's settings that lists the control tokens which text may spell."""
_PARTS = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def named(settings: Mapping[str, Any]) -> set[str]:
    """The tokens to which a ``tokenizer_config.json`` gives a part."""
    found = [settings.get(key) for key in _PARTS]
    for key in _LISTS:
        several = settings.get(key) or ()
        found += several.values() if isinstance(several, dict) else several
    return {str(one["content"] if isinstance(one, dict) else one) for one in found if one}


def allowed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a ``tokenizer_config.json`` allows text to spell. Raises ValueError."""
    tokens = settings.get(ALLOWED) or ()
    if not isinstance(tokens, list | tuple) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"{ALLOWED}: expected a list of tokens, got {tokens!r}")
    return tuple(tokens)


def allow(directory: Path, tokens: Sequence[str]) -> None:
    """Write into the ``tokenizer_config.json`` of ``directory`` what text may spell, in place of what it says. Raises ValueError."""
    settings = json_file.table(directory / SETTINGS)
    if list(allowed(settings)) != list(tokens):
        settings = {key: value for key, value in settings.items() if key != ALLOWED} | ({ALLOWED: list(tokens)} if tokens else {})
        (directory / SETTINGS).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", "utf-8")


def spelled(content: str | Sequence[Part], image: Callable[[str], str], text: Callable[[str], str] = str) -> str:
    """Text, or text and images, as one string: every text as ``text`` puts it, every image as ``image`` does its id."""
    if isinstance(content, str):
        return text(content)
    return "".join(text(part.text) if isinstance(part, TextPart) else image(part.image) for part in content)


class ControlTokens:
    """A tokenizer's control tokens, and the tokenizer as text meets it."""

    def __init__(self, tokenizer: Tokenizer, parts: Iterable[str], free: Iterable[str] = ()) -> None:
        """``parts``: tokens that are control tokens although the tokenizer does not say so. ``free``: those that text may spell. Raises
        ValueError for one of these that is no control token.
        """
        parts, free = set(parts), set(free)
        added = {i: token for i, token in tokenizer.get_added_tokens_decoder().items() if token.special or token.content in parts}
        ids = {token.content: i for i, token in added.items()}
        if unknown := sorted(free - ids.keys()):
            raise ValueError(
                f"{ALLOWED}: {unknown[0]!r} is no control token of the tokenizer, which has {', '.join(sorted(ids)) or 'none'}"
            )
        kept = sorted(ids.keys() - free)
        nonce = secrets.token_hex(16)
        self.names = {token: f"{nonce}c{number:06d}" for number, token in enumerate(kept)}
        """Control token -> how :attr:`text` spells it."""
        self._masks = {token: f"{nonce}m{number:06d}" for number, token in enumerate(kept)}
        self._unmasked = {mask: token for token, mask in self._masks.items()}
        self._spelled = re.compile("|".join(map(re.escape, sorted(kept, key=len, reverse=True))) or r"(?!)")
        self._masked = re.compile(f"{nonce}m[0-9]{{6}}")
        self.text = _renamed(tokenizer, self.names)
        """The tokenizer in which text spells no control token."""
        assert all(self.text.token_to_id(name) == ids[token] for token, name in self.names.items())

    def rendered(
        self, messages: Sequence[Message], render: Callable[[Sequence[Message]], str], image: Callable[[str], str] = lambda image: ""
    ) -> str:
        """The conversation as ``render`` puts it, for :attr:`text`: the template's control tokens by their names, those that a message
        spells as they are spelled. ``image``: an image's id -> the control tokens that it stands as.
        """
        hidden = [message.model_copy(update={"content": spelled(message.content, image, self._hidden)}) for message in messages]
        whole = self._spelled.sub(lambda found: self.names[found[0]], render(hidden))
        return self._masked.sub(lambda found: self._unmasked[found[0]], whole)

    def _hidden(self, text: str) -> str:
        return self._spelled.sub(self._mask, text)

    def _mask(self, found: re.Match[str]) -> str:
        return self._masks[found[0]]


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy with the same ids in which tokens have other names, and which neither cuts nor pads."""
    whole = json.loads(tokenizer.to_str())
    for token in whole["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = whole["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:  # a unigram model would find a control token among its pieces
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    copy = Tokenizer.from_str(json.dumps(whole))
    copy.no_padding()
    copy.no_truncation()
    return copy
