"""The token that images stand as, added to a tokenizer that does not have it.

It is a control token: nobody's text becomes it (:mod:`modelyard.model.control_tokens`). Its id is the tokenizer's next one, and only where the
embedding has no row for that does the vocabulary grow.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from modelyard.model.encoder import IMAGE

FILES = ("tokenizer.json", "tokenizer_config.json")


def add(tokenizer: Path, out: Path) -> int:
    """Write the tokenizer of directory ``tokenizer`` with :data:`~modelyard.model.encoder.IMAGE` into ``out``; returns the token's id."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(tokenizer / name, out / name)
    own = Tokenizer.from_file(str(out / FILES[0]))
    if own.token_to_id(IMAGE) is None:
        own.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
        own.save(str(out / FILES[0]))
    found = own.token_to_id(IMAGE)
    assert found is not None
    return int(found)
