"""``modelyard lineage``, ``invalidates`` and ``rollback``: questions about released models, and taking one back.

The registry is ``MLFLOW_TRACKING_URI`` (the local SQLite file by default).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.outputs import json_option

Url = Annotated[str | None, typer.Option("--store", help="URL of the artifact store.")]
Answer = Annotated[Path | None, json_option("Where the whole answer goes, as JSON.", "--json")]
MODEL = typer.Argument(
    metavar="NAME[@ALIAS|/VERSION]", help="Registered model; without alias or version, production. models:/ may stand before it."
)
SOURCE = typer.Argument(help="Name, package, path or sha256 of a source, or NAME/VERSION of an artifact.")


def lineage(
    model: Annotated[str, MODEL],
    against: Annotated[str | None, typer.Option(help="Version to compare with; the one it replaced.")] = None,
    store: Url = None,
    json: Answer = None,
) -> int:
    """Trace a released model back to every source, config, code version and gate, and say what changed.

    Exit code 1: a part of it is not in the store any more, or is not what was recorded.
    """
    from modelyard.commands.provenance import show_lineage

    return show_lineage(model, against, store, json)


def invalidates(source: Annotated[str, SOURCE], store: Url = None, json: Answer = None) -> None:
    """List what a change of a source (or of an artifact) would make necessary to build again."""
    from modelyard.commands.provenance import show_invalidated

    show_invalidated(source, store, json)


def rollback(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")],
    version: Annotated[str, typer.Argument(help="Version that shall no longer serve.")],
    name: Annotated[str, typer.Option(help="Who decides.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Take a version out of production, which goes back to what it replaced; the first version leaves nothing that serves."""
    from modelyard.commands.provenance import roll_back

    roll_back(model, version, name, reason)
