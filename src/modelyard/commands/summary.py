"""``modelyard summary``: the public summary of what a released model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.outputs import writable
from modelyard.commands.released import MODEL, Url

ANSWERS = typer.Option(help="Config whose [release.training_content] answers, in place of what the release was made with.")


def summary(
    model: Annotated[str, MODEL],
    out: Annotated[Path, typer.Option(help="The page.", callback=writable)] = Path("training_content.html"),
    answers: Annotated[Path | None, ANSWERS] = None,
    store: Url = None,
) -> int:
    """Write the public summary of training content (EU AI Act, Article 53(1)(d)) of a released model, made from its lineage.

    Questions that neither lineage nor config answers are blanks, listed by key. Exit code 1: a part of it is not in the store any more.
    """
    from modelyard.commands.content import write_summary

    return write_summary(model, out, answers, store)
