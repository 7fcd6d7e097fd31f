"""The JSON schema of a config, for editors: completion, descriptions and a mark under what the config would refuse.

A file holds what its user decides and takes the rest by ``extends``, so here no key is required; which ones a run still lacks is
said when the file is read. Of the kinds that a table may have (a base is pretrained, imported or continued) any may fit what is
there so far. Left out: rules between values, which only reading the config checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.config import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENDS = {
    "description": "File that this one is laid over, or a list of files of which a later one lies over an earlier; beside this one.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
REPLACES = {
    "description": "Tables (also table.key) of this file that take the place of those below instead of lying over them.",
    "type": "array",
    "items": {"type": "string"},
}
NAMES = ("properties", "$defs")
"""Where the keys of a schema are names and not words of JSON schema."""


def editor_schema(config: type[Config]) -> dict[str, Any]:
    """The schema of a TOML file that is read as ``config``."""
    schema = _partial(config.model_json_schema())
    schema["properties"] = {"extends": EXTENDS, "replaces": REPLACES, **schema["properties"]}
    return {"$schema": DIALECT, **schema}


def _partial(schema: Any) -> Any:
    """The schema of a part of what ``schema`` describes."""
    if isinstance(schema, list):
        return [_partial(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    partial: dict[str, Any] = {}
    for word, value in schema.items():
        if word in NAMES:
            partial[word] = {name: _partial(one) for name, one in value.items()}
        elif word not in ("required", "discriminator"):
            partial["anyOf" if word == "oneOf" else word] = _partial(value)
    return partial
