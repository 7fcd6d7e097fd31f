"""The token that images stand as, added to a tokenizer that does not have it.

It is a control token: nobody's text becomes it (:mod:`modelyard.model.control_tokens`). Its id is the tokenizer's next one, and only where the
embedding has no row for that does the vocabulary grow.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from modelyard.formats.tokenizer_files import FILES, TOKENIZER

IMAGE = "<image>"
"""The token that images stand as."""


def add(tokenizer: Path, out: Path) -> int:
    """Write the tokenizer of directory ``tokenizer`` with :data:`IMAGE` into ``out``; returns the token's id."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(tokenizer / name, out / name)
    own = Tokenizer.from_file(str(out / TOKENIZER))
    if own.token_to_id(IMAGE) is None:
        own.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
        own.save(str(out / TOKENIZER))
    found = own.token_to_id(IMAGE)
    assert found is not None
    return int(found)


def without(tokenizer: Tokenizer) -> str:
    """The tokenizer's own file, without :data:`IMAGE` where it was added to it."""
    if tokenizer.token_to_id(IMAGE) is None:
        return str(tokenizer.to_str())
    whole = json.loads(tokenizer.to_str())
    whole["added_tokens"] = [token for token in whole["added_tokens"] if token["content"] != IMAGE]
    return str(Tokenizer.from_str(json.dumps(whole)).to_str())
