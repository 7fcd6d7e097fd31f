"""Is a package's licence permissive? SPDX expressions operand by operand, other text by whole words."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

NAMES = ("PSF", "Python", "BSD", "MIT", "Apache", "ISC", "HPND", "zlib", "Boost", "0BSD", "CC0")
"""Families of permissive licences, for messages."""
_PERMISSIVE = frozenset({
    "PSF-2.0", "Python-2.0", "Python-2.0.1", "CNRI-Python", "0BSD", "BSD-1-Clause", "BSD-2-Clause", "BSD-2-Clause-Patent", "BSD-2-Clause-Views",
    "BSD-3-Clause", "BSD-3-Clause-Clear", "BSD-3-Clause-LBNL", "BSD-4-Clause", "MIT", "MIT-0", "MIT-CMU", "Apache-1.1", "Apache-2.0", "ISC", "HPND",
    "Zlib", "BSL-1.0", "CC0-1.0",
})  # fmt: skip
"""SPDX ids."""
_GOOD = re.compile(r"\b(PSFL?|PYTHON|BSD[1-4]?|MIT|APACHE2?|ISCL?|HPND|ZLIB|0BSD|CC0)\b")
_BAD = re.compile(
    r"\b([AL]?GPL(V?\d\S*)?|GNU|MPL\d?|MOZILLA|EPL|ECLIPSE|CDDL|EUPL|SSPL|BUSL|CECILL|OSL|COPYLEFT|PROPRIETARY|CONFIDENTIAL"
    r"|COMMERCIAL|NONCOMMERCIAL|RESERVED)\b"
)
"""Copyleft and what is not free, of which one word is enough to refuse."""


def licence_of(distribution: metadata.Distribution) -> str:
    """The licence as a package's metadata state it: its SPDX expression, else its classifiers, else the first line of its text."""
    meta: Any = distribution.metadata
    stated = [line.rsplit(" :: ", 1)[-1] for line in meta.get_all("Classifier") or [] if line.startswith("License ::")]
    classifiers = ", ".join(one for one in stated if one != "OSI Approved")
    first_line = (meta.get("License") or "").strip().partition("\n")[0]
    return next((text for text in (meta.get("License-Expression"), classifiers, first_line) if text), "unknown")


def is_permissive(licence: str) -> bool:
    """Whether all that must be obeyed is permissive: every operand of AND, any of OR; of other text some word, and none that is not."""
    try:
        expression = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        words = licence.upper()
        return bool(_GOOD.search(words)) and not _BAD.search(words)
    return _any(re.findall(r"[()]|[^\s()]+", expression)[::-1])


def _any(tokens: list[str]) -> bool:
    """Operands of OR; ``tokens`` are taken from the end."""
    found = _every(tokens)
    while tokens and tokens[-1] == "OR":
        tokens.pop()
        found = _every(tokens) or found
    return found


def _every(tokens: list[str]) -> bool:
    """Operands of AND, which binds more closely."""
    found = _one(tokens)
    while tokens and tokens[-1] == "AND":
        tokens.pop()
        found = _one(tokens) and found
    return found


def _one(tokens: list[str]) -> bool:
    """An id, with or without an exception (which only adds to what is allowed), or what stands in brackets."""
    token = tokens.pop()
    if token == "(":
        found = _any(tokens)
        tokens.pop()
        return found
    if tokens and tokens[-1] == "WITH":
        del tokens[-2:]
    return token.removesuffix("+") in _PERMISSIVE
