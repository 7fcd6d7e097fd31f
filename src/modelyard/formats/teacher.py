"""Who taught a model of the line: a model of others, by name, licence and identity, and its row of ``sources.json``, which lineage and card read."""

from __future__ import annotations

from modelyard.config import Config

PACKAGE = "teacher"
"""First word of ``package`` in a teacher's row."""


class Teacher(Config):
    """A model of others that a model of the line learned from."""

    name: str
    """Its name, as people know it."""
    licence: str
    """Licence of its weights, or the terms of its service."""
    identity: str
    """Hash of its weights; of a server, the name that the model has there."""


def source(teacher: Teacher, *, served: bool) -> dict[str, str]:
    """The teacher as a row of ``sources.json``; ``served``: it was asked behind an endpoint, whose weights nobody hashed."""
    weights, server = ("", teacher.identity) if served else (teacher.identity, "")
    package = f"{PACKAGE} {server}".strip()
    return {"name": teacher.name, "package": package, "version": "", "sha256": weights, "licence": teacher.licence}
