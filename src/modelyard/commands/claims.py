"""``modelyard claims``: what a release was held to, as manifests that other tools verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.released import MODEL, Url


def claims(
    model: Annotated[str, MODEL],
    out: Annotated[Path, typer.Option(help="Directory of the manifests.")] = Path("claims"),
    producer: Annotated[str, typer.Option(help="Who claims: an organisation or a domain.")] = "modelyard",
    store: Url = None,
) -> int:
    """Write the sealed forecast and the gate limits of a release as PRML manifests (Pre-Registered ML Manifest), locked by hash.

    Needs `pip install 'modelyard[prml]'`. Exit code 1: a part of the release is not in the store any more.
    """
    from modelyard.commands.claimed import write_claims

    return write_claims(model, out, producer, store)
