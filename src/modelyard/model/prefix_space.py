"""Tokenizers without the space that they put before a text.

sentencepiece's (Llama 2, Mistral) and some byte-level ones spell the first word of a text as any other, with a space before it. A text that goes on
after another one must not get such a space. It is put there by a normalizer or a pre-tokenizer of the tokenizer's file. Left out: normalizers that
are a compiled table.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer


def without_prefix(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, or a copy where it puts a space before a text, which the copy does not."""
    whole = json.loads(tokenizer.to_str())
    normalizer, pieces = _steps(whole["normalizer"], "normalizers"), _steps(whole["pre_tokenizer"], "pretokenizers")
    prefixes = [step for step in normalizer if step["type"] == "Prepend"]
    splits = [step for step in pieces if step["type"] == "Metaspace" or step.get("add_prefix_space")]
    if not prefixes and not splits:
        return tokenizer
    for step in splits:
        step |= {"prepend_scheme": "never"} if step["type"] == "Metaspace" else {"add_prefix_space": False}
    whole["normalizer"] = {"type": "Sequence", "normalizers": [step for step in normalizer if step not in prefixes]}
    return Tokenizer.from_str(json.dumps(whole))


def _steps(part: dict[str, Any] | None, several: str) -> list[dict[str, Any]]:
    """The steps of a tokenizer's normalizer or pre-tokenizer as its file lists them."""
    if part is None:
        return []
    return list(part[several]) if several in part else [part]
