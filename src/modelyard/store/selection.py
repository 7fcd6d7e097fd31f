"""Which files of an artifact a stage reads, for a store that brings no others to where the stage runs.

A choice is a function of the artifact's file names and of what small files among them say; it never decides what a stage makes, only what travels.
A role for which a stage names no choice is read whole.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Mapping

from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact

Read = Callable[[str], bytes]
"""Name of a file of the artifact -> its content, verified."""
Choice = Callable[[Collection[str], Read], Collection[str]]
"""(names of all files, reader of one) -> names of those that are read."""


def only(*patterns: str) -> Choice:
    """The files whose names match one of the shell patterns; ``*`` matches ``/`` too."""
    return lambda names, read: [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def without(*patterns: str) -> Choice:
    """The files whose names match none of the shell patterns."""
    return lambda names, read: [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def chosen(choices: Mapping[str, Choice], parents: Mapping[str, Artifact], store: Store) -> dict[str, frozenset[str]]:
    """Role -> names of the files that are read of its artifact, for the roles that ``choices`` names.

    Raises:
        ArtifactError: a file that a choice depends on is missing or damaged.
    """

    def names(role: str, choice: Choice) -> frozenset[str]:
        artifact = parents[role]
        return frozenset(choice(artifact.files, lambda name: store.read(artifact, name)))

    return {role: names(role, choice) for role, choice in choices.items() if role in parents}
