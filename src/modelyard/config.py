"""Frozen configuration: TOML in, one clear line out when it is wrong.

Every stage defines its own :class:`Config` beside its code. A config holds only literals that define an
artifact; where and how a stage runs (paths, workers, cadence) is a :class:`modelyard.execution.ExecutionConfig`,
which is never part of a fingerprint. TOML rather than YAML because PyYAML reads ``3e-4`` as a string. A file may
name others with ``extends = "tiny.toml"``, or a list of them, and then holds only what differs. Tables that it
names in ``replaces = ["policy"]`` take the place of those below, so that they may be of another kind. A relative
path starts beside the file that names it (or that it extends), else under ``execution.inputs``. ``configs/...`` that is not there is the
file that comes with the package (:func:`located`), so that a config outside a clone can extend it. Left out on purpose:
environment interpolation; secrets and endpoints never stand in a config.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tomllib
import types
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from modelyard import whole_file
from modelyard.complaint import complaint, first_error, keys_of

C = TypeVar("C", bound="Config")

SHIPPED = "configs"
"""Directory of the configs that come with the project."""
LARGEST = 1 << 24
"""Bytes of a config."""
EXECUTION, INPUTS, BESIDE = "execution", "inputs", "beside"
"""The table that says where relative paths start: a directory of inputs, and the directories of the config's files."""


class ConfigError(ValueError):
    """A config that cannot be used; the message is one line naming the file and the key."""


class Config(BaseModel):
    """Base of every config: immutable, no unknown keys, attribute docstrings become field descriptions. ``true`` is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _number_is_no_truth(cls, given: Any) -> Any:
        """Python takes True for 1, so pydantic would take ``steps = true`` for one step. (A validator of every field may not see a discriminator.)"""
        if isinstance(given, dict) and (wrong := [key for key, value in given.items() if isinstance(value, bool) and key in _numbers(cls)]):
            kind = PydanticCustomError("not_a_number", "expected a number")
            raise ValidationError.from_exception_data(cls.__name__, [{"type": kind, "loc": (key,), "input": given[key]} for key in wrong])
        return given


@functools.cache
def _numbers(cls: type[BaseModel]) -> frozenset[str]:
    """The fields that hold a number and never a truth value."""
    return frozenset(
        name for name, field in cls.model_fields.items() if (held := _leaves(field.annotation)) & {int, float} and bool not in held
    )


def _leaves(annotation: Any) -> set[Any]:
    """What may stand in a field itself: the members of a union, and of those in it."""
    inside = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType, Annotated) else ()
    return set().union(*map(_leaves, inside)) if inside else {annotation if isinstance(annotation, type) else None}


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
    """``"policy.kl_coef=0.05"`` -> ``(["policy", "kl_coef"], 0.05)``; a value that is no TOML literal, or one and more lines, is taken as a
    string, and so is a number where text belongs (:func:`load_config`)."""
    key, sep, raw = text.partition("=")
    path = key.strip().split(".")
    if not sep or not all(path):
        raise ConfigError(f"override {text!r}: expected KEY=VALUE such as policy.kl_coef=0.05")
    try:
        found = tomllib.loads(f"v = {raw.strip()}")
        return path, found["v"] if found.keys() == {"v"} else raw.strip()
    except (ValueError, RecursionError):
        return path, raw.strip()


def load_config(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a TOML file into ``cls`` and apply dotted overrides.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown or missing, a value has the wrong type, or values do not fit together.
    """
    tree, files, _ = read_files(located(Path(path)))
    for text in overrides:
        keys, value = parse_override(text)
        _put(tree, keys, value, text)
    beside = tuple(dict.fromkeys(str(file.parent.absolute()) for file in files))
    context = {BESIDE: beside}
    if EXECUTION in cls.model_fields and isinstance(execution := tree.setdefault(EXECUTION, {}), dict):
        execution[BESIDE] = beside
        context[INPUTS] = execution.get(INPUTS, "")
    try:
        try:
            return cls.model_validate(tree, context=context)
        except ValidationError as error:
            if not _meant_as_text(tree, overrides, error):
                raise
            return cls.model_validate(tree, context=context)
    except ValidationError as error:
        raise ConfigError(f"{path}{_overridden(tree, overrides, error)}: {first_error(error, tree, cls)}") from None


def _overridden(tree: dict[str, Any], overrides: Sequence[str], error: ValidationError) -> str:
    """The overrides of what is refused, named beside a file that need not be to blame."""
    places = [keys_of(item["loc"], tree, item["type"] == "missing") for item in error.errors()]
    keys = {text: parse_override(text)[0] for text in overrides}
    refused = [
        text for text, key in keys.items() if any(place and all(a == b for a, b in zip(place, key, strict=False)) for place in places)
    ]
    return f" with {' '.join(refused)}" if refused else ""


def _put(tree: dict[str, Any], keys: Sequence[str], value: object, text: str) -> None:
    """Put an override's value in its place. Raises ConfigError where that lies within a value."""
    node: Any = tree
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {text!r}: {key!r} is a value, not a table")
    node[keys[-1]] = value


def _meant_as_text(tree: dict[str, Any], overrides: Sequence[str], error: ValidationError) -> bool:
    """Whether overrides gave a number or a truth value where text belongs, such as a hash of digits only; ``tree`` has them as text then."""
    places = [keys_of(item["loc"], tree, absent=False) for item in error.errors() if item["type"] == "string_type"]
    spelled = [text for text in overrides if isinstance(parse_override(text)[1], (int, float)) and parse_override(text)[0] in places]
    for text in spelled:
        _put(tree, parse_override(text)[0], text.partition("=")[2].strip(), text)
    return bool(spelled)


def read_tree(path: Path) -> dict[str, Any]:
    """The file's tables laid over those of the files that it extends. Raises ConfigError."""
    return read_files(located(path)).tree


class Read(NamedTuple):
    """A config as its files say it."""

    tree: dict[str, Any]
    """The tables, laid over each other."""
    files: tuple[Path, ...]
    """The file and all that it extends, the uppermost first."""
    replaces: frozenset[str]
    """Tables that take the place of what lies below instead of lying over it."""


def read_files(path: Path, above: tuple[Path, ...] = ()) -> Read:
    """The file's tables laid over those of the files that it extends, of which a later one lies over an earlier. Raises ConfigError."""
    try:
        tree = tomllib.loads(whole_file.read(path, LARGEST).decode("utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path}: no such config file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except whole_file.FileError as error:
        raise ConfigError(str(error)) from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of too many digits, too deep
        raise ConfigError(f"{path}: not valid TOML: {complaint(error)}") from None
    named, replaces = tree.pop("extends", []), _names(tree.pop("replaces", []), path)
    below: dict[str, Any] = {}
    files: tuple[Path, ...] = ()
    inherited: frozenset[str] = frozenset()
    for parent in named if isinstance(named, list) else [named]:
        if not isinstance(parent, str) or (path.parent / parent).resolve() in (*above, path.resolve()):
            raise ConfigError(f"{path}: extends: expected the name of another file, or a list of names, got {parent!r}")
        read = read_files(located(path.parent / parent, parent), (*above, path.resolve()))
        below, files = merged(without(below, read.replaces), read.tree), (*read.files, *files)
        inherited |= read.replaces
    return Read(merged(without(below, replaces), tree), (path, *files), replaces | inherited)


def _names(value: object, path: Path) -> frozenset[str]:
    """The tables that a file replaces. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{path}: replaces: expected a list of names of tables, got {value!r}")
    return frozenset(value)


def without(tree: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The tree without the tables of these names, of which ``table.key`` is one inside another."""
    kept = {}
    for key, value in tree.items():
        inner = frozenset(name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}."))
        if key not in names:
            kept[key] = without(value, inner) if inner and isinstance(value, dict) else value
    return kept


def shipped_configs() -> Path:
    """The directory ``configs`` of the project, or of the package where that is installed from a wheel."""
    package = Path(__file__).parent
    carried = package / SHIPPED
    return carried if carried.is_dir() else package.parents[1] / SHIPPED


def located(path: Path, named: str = "") -> Path:
    """``path``, or where nothing is there and it was ``named`` ``configs/...``, the shipped file of that name."""
    first, *rest = PurePath(named or path).parts or ("",)
    shipped = shipped_configs().joinpath(*rest)
    return shipped if first == SHIPPED and not os.path.exists(path) and shipped.is_file() else path


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``, table by table; any other value replaces the one below."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
