"""Which code made something: hashes of modules, or of single definitions, with all of ``modelyard`` that they use.

Read statically and hashed as syntax trees without docstrings, so comments and formatting rebuild nothing while any change of behaviour
does. Left out: versions of libraries, which ``constraints.txt`` holds.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import modelyard
from modelyard.config import digest

_PARSING = threading.Lock()
"""Held while a module is parsed: stages that begin together parse in threads, and CPython 3.11 counts the depth of all of them as one (gh-106905)."""


@cache
def code_version(*modules: str) -> str:
    """Hash of modules and of every ``modelyard`` module they import, directly or not.

    Adapters are part of it only where they are named: stages do not import them. Raises ValueError for a module that is not there.
    """
    if absent := [name for name in modules if _file(name) is None]:
        raise ValueError(f"{absent[0]}: no such module")
    seen: dict[str, str] = {}
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        if found := _module(name):
            seen[name] = found.dump
            queue.extend(found.imports)
    return digest(seen)[:16]


@cache
def definition_version(module: str, *names: str) -> str:
    """Hash of single functions, classes or constants of a module and of the ``modelyard`` definitions they use, directly or not.

    Narrower than :func:`code_version`: a function added beside them changes nothing, and annotations of functions are
    not followed. Raises ValueError for a name that the module lacks.
    """
    seen: dict[str, str] = {}
    queue = [(module, name) for name in names]
    while queue:
        where, name = queue.pop()
        key = f"{where}.{name}"
        if key in seen:
            continue
        definitions, imported = _definitions(where)
        if name not in definitions:
            raise ValueError(f"{where} defines no {name}")
        seen[key] = ast.dump(definitions[name])
        for used in _used(definitions[name]):
            if used in definitions:
                queue.append((where, used))
            elif used in imported:
                source, original = imported[used]
                if _is_ours(f"{source}.{original}"):
                    seen[f"{source}.{original}"] = code_version(f"{source}.{original}")
                elif _is_ours(source):
                    queue.append((source, original))
    return digest(seen)[:16]


class _Module(NamedTuple):
    """What is hashed of a module."""

    dump: str
    imports: tuple[str, ...]
    """Modules of this package."""


@cache
def _module(name: str) -> _Module | None:
    """Read once, however many stages are made of it."""
    tree = _parse(name)
    if tree is None:
        return None
    return _Module(ast.dump(tree), tuple(name for imported in _imports(tree) for name in imported if _is_ours(name)))


@cache
def _parse(name: str) -> ast.Module | None:
    path = _file(name)
    if path is None:
        return None
    with _PARSING:
        return _without_docstrings(ast.parse(path.read_text("utf-8")))


def _definitions(module: str) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """What a module defines at its top level, and where the names that it imports one by one come from."""
    tree = _parse(module)
    if tree is None:
        raise ValueError(f"{module}: no such module")
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return defined, imported


def _used(definition: ast.stmt) -> set[str]:
    """Names that a definition uses, but for the annotations of functions, which run nothing."""
    notes = {
        id(node)
        for function in ast.walk(definition)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for note in (function.returns, *(arg.annotation for arg in ast.walk(function.args) if isinstance(arg, ast.arg)))
        if note is not None
        for node in ast.walk(note)
    }
    return {node.id for node in ast.walk(definition) if isinstance(node, ast.Name) and id(node) not in notes}


def _imports(tree: ast.Module) -> Iterator[list[str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def _is_ours(name: str) -> bool:
    """Whether ``name`` is a module of this package."""
    return _file(name) is not None


@cache
def _file(name: str) -> Path | None:
    """Source of a module of this package, found without importing anything: the import system would run the module's parents."""
    package, *inside = name.split(".")
    if package != modelyard.__name__:
        return None
    for root in map(Path, modelyard.__path__):
        path = root.joinpath(*inside)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                s
                for s in node.body
                if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str))
            ] or [ast.Pass()]
    return tree
