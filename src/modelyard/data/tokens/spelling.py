"""Texts to token ids, many at once: a trained tokenizer's merges run in tiktoken, an imported one's in tokenizers.

A tokenizer of :mod:`modelyard.data.tokens.tokenizer` has tiktoken's form: byte-level merges, one regular expression of
pieces, added tokens where a text spells them. Given the tokenizer as text meets it
(:mod:`modelyard.model.control_tokens`), no document becomes a control token that it spells. tiktoken merges the pair
whose joint token comes first, tokenizers the pair whose merge does. In a trained vocabulary that is the same: a token's
bytes reach the merge that makes it by the merges before it, which see nothing beyond those bytes, so its two parts are
always the ones that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from modelyard.data.tokens.tokenizer import PATTERN
from modelyard.formats.indexed import Integers


class Spelling(Protocol):
    """Token ids of each text, in order, without tokens that the text does not spell."""

    def __call__(self, texts: list[str]) -> Iterator[Integers]:
        """[tokens] of each text."""


def imported(tokenizer: Tokenizer) -> Spelling:
    """The spelling of any tokenizer."""

    def spell(texts: list[str]) -> Iterator[Integers]:
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            yield np.array(encoding.ids, np.int64)

    return spell


def trained(tokenizer: Tokenizer) -> Spelling:
    """The spelling of a tokenizer that was trained here, the same as :func:`imported` gives."""
    import tiktoken

    vocabulary, byte = tokenizer.get_vocab(), _bytes()
    added = {token.content: vocabulary.pop(token.content) for token in tokenizer.get_added_tokens_decoder().values()}
    ranks = {bytes(byte[char] for char in token): rank for token, rank in vocabulary.items()}
    encoding = tiktoken.Encoding("trained", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=added)

    def spell_one(text: str) -> Integers:
        try:
            return encoding.encode_to_numpy(text, allowed_special="all")
        except ValueError:  # its regular expressions give up on a million blanks in a row
            return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def spell(texts: list[str]) -> Iterator[Integers]:
        with ThreadPoolExecutor() as pool:
            yield from pool.map(spell_one, texts)

    return spell


def _bytes() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: printable Latin-1 for itself, others in a row from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (code for code in range(256) if code not in printable)
    return {chr(code): code for code in printable} | {chr(256 + number): code for number, code in enumerate(hidden)}
