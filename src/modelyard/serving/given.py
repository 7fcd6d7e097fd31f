"""What holds of every request's texts: they are whole characters, or they could be neither judged, tokenized, stored nor sent back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, model_validator

_HALF = re.compile("[\ud800-\udfff]")


class Given(BaseModel):
    """The body of a request."""

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, given: Any) -> Any:
        """JSON can spell half of a surrogate pair, which is no character."""
        fields: Iterable[tuple[str, Any]] = given.items() if isinstance(given, dict) else [("request", given)]
        for name, value in fields:
            if halved(name):
                raise ValueError("the name of a field holds half of a surrogate pair")
            if halved(value):
                raise ValueError(f"{name}: holds half of a surrogate pair")
        return given


def halved(value: Any) -> bool:
    """Whether a text somewhere in a JSON value, its keys included, is none that UTF-8 can hold."""
    left = [value]
    while left:  # not by recursion: a client chooses how deep
        one = left.pop()
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str) and _HALF.search(one):
            return True
    return False
