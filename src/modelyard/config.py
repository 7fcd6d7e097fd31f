"""Frozen configuration: TOML in, one clear line out when it is wrong.

Every stage defines its own :class:`Config` beside its code. A config holds only literals that define an artifact; where and how a stage
runs (paths, workers, cadence) is a :class:`modelyard.execution.ExecutionConfig`, which is never part of a
fingerprint. TOML rather than YAML because PyYAML reads ``3e-4`` as a string. A file may name one other beside
it with ``extends = "tiny.toml"`` and then holds only what differs. Left out on purpose: environment
interpolation; secrets and endpoints never stand in a config.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

C = TypeVar("C", bound="Config")


class ConfigError(ValueError):
    """A config that cannot be used; the message is one line naming the file and the key."""


class Config(BaseModel):
    """Base of every config: immutable, no unknown keys, attribute docstrings become field descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def canonical_json(value: object) -> str:
    """One spelling for equal values: sorted keys, no spaces, configs as their fields."""

    def plain(item: object) -> object:
        if isinstance(item, BaseModel):
            return item.model_dump(mode="json")
        raise TypeError(f"{type(item).__name__} cannot be part of a fingerprint")

    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain, ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def parse_override(text: str) -> tuple[list[str], Any]:
    """``"ppo.kl_coef=0.05"`` -> ``(["ppo", "kl_coef"], 0.05)``; a value that is no TOML literal is taken as a string."""
    key, sep, raw = text.partition("=")
    path = key.strip().split(".")
    if not sep or not all(path):
        raise ConfigError(f"override {text!r}: expected KEY=VALUE such as ppo.kl_coef=0.05")
    try:
        return path, tomllib.loads(f"v = {raw.strip()}")["v"]
    except (ValueError, RecursionError):
        return path, raw.strip()


def load_config(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a TOML file into ``cls`` and apply dotted overrides.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown or missing, a value has the wrong type, or values do not fit together.
    """
    tree = read_tree(Path(path))
    for text in overrides:
        keys, value = parse_override(text)
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override {text!r}: {key!r} is a value, not a table")
        node[keys[-1]] = value
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error)}") from None


def read_tree(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's tables laid over those of the file it extends. Raises ConfigError."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path}: no such config file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of too many digits, too deep
        raise ConfigError(f"{path}: not valid TOML: {complaint(error)}") from None
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str) or (path.parent / parent).resolve() in above:
        raise ConfigError(f"{path}: extends: expected the name of another file, got {parent!r}")
    return merged(read_tree(path.parent / parent, (*above, path.resolve())), tree)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``, table by table; any other value replaces the one below."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def complaint(error: BaseException) -> str:
    """What is wrong, as the one line that a command says: of bad values the keys, of a file its path, of anything else its own words."""
    if isinstance(error, ValidationError):
        return first_error(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def first_error(error: ValidationError) -> str:
    """The validation errors as one line: ``key: what is wrong`` joined by ``;``."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "config"
        what = "unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        got = "" if item["type"] in ("extra_forbidden", "missing", "value_error") else f" (got {item['input']!r})"
        lines.append(f"{where}: {what}{got}")
    return " ".join("; ".join(lines).split())
