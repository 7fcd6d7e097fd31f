"""What stages read of large inputs, so that no more of them travels from the store: documents, token files and weights are the larger part of a line.

Small files always come, and whatever a stage names no choice for. Left out: parts of a file, and which rows one rank reads, since documents are
shuffled over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.formats import token_rows, tokenizer_files
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.store.selection import Choice, only, without

_DOCUMENTS = without("rejects/*")
_DESCRIBED = without("rejects/*", "documents/*")
"""Of a corpus: its figures and the abuse filter."""
_TOKENIZER = token_rows.read_by()


def whole(config: Any) -> Mapping[str, Choice]:
    """Everything."""
    return {}


def text(config: Any) -> Mapping[str, Choice]:
    """The documents that were kept, and of a model or of other tokens the tokenizer."""
    return {"corpus": _DOCUMENTS, "tokens": _TOKENIZER, "imported": only(*tokenizer_files.FILES)}


def rows(config: Any) -> Mapping[str, Choice]:
    """Training and validation rows."""
    return {"tokens": token_rows.read_by("train", "validation")}


def mixed_in(config: SFTConfig) -> Mapping[str, Choice]:
    """Training rows where demonstrations are mixed with some, else the tokenizer."""
    return {"tokens": token_rows.read_by("train") if config.pretraining_per_batch else _TOKENIZER}


def pretraining_mix(config: OnPolicyConfig) -> Mapping[str, Choice]:
    """Training rows where the policy has some in its loss, and validation rows that it is measured on."""
    return {"tokens": token_rows.read_by("train", "validation") if config.ptx_rows else token_rows.read_by("validation")}


def measured(config: Any) -> Mapping[str, Choice]:
    """Validation rows, and of the corpus the abuse filter."""
    return {"tokens": token_rows.read_by("validation"), "corpus": _DESCRIBED}


def described(config: Any) -> Mapping[str, Choice]:
    """What is said of a corpus and of tokens, for the decision and the card."""
    return {"tokens": _TOKENIZER, "corpus": _DESCRIBED}
