"""``modelyard page``: results of model versions as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.outputs import writable, write


def page(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page.", callback=writable)],
    versions: Annotated[list[str], typer.Argument(metavar="LABEL=DIRECTORY...", help="Results of each version, oldest first.")],
) -> None:
    """Show results of model versions as one HTML page: tables, and the versions as a chain."""
    from modelyard.release.card.evolution import render

    pairs = [text.partition("=") for text in versions]
    for text, (label, _, path) in zip(versions, pairs, strict=True):
        if not (label and path):
            raise ValueError(f"{text}: expected LABEL=DIRECTORY")
    write(out, render({label: Path(path) for label, _, path in pairs}))
