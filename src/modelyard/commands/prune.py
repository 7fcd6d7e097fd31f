"""``modelyard prune``: what of a store and a scratch directory nobody needs any more; removed only when that is asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.commands.numbers import at_least

DAYS = typer.Option(help="Keep what a run made or took in so many days, with all that it was made of.", callback=at_least(1))
STORE = typer.Option(help="URL of the artifact store; without it, the store of this directory's runs.")
SCRATCH = typer.Option(help="Scratch directory of the runs on this machine; without it, that of this directory's runs.")
DELETE = typer.Option("--delete", help="Remove it. Without this, the command only says what it would remove.")


def prune(
    older_than: Annotated[float, DAYS] = 30.0,
    store: Annotated[str | None, STORE] = None,
    scratch: Annotated[str | None, SCRATCH] = None,
    delete: Annotated[bool, DELETE] = False,
) -> None:
    """Say what old artifacts and scratch hold that nothing needs, and how large it is; remove it with --delete.

    Kept with all that they were made of: every version in the model registry that serves or ever served, the candidate, every
    decision that does not block with the exports of its models, and what was made or used in the last days. The lineage of what
    is removed stays readable.
    """
    from modelyard.commands.pruning import show

    show(older_than, store, scratch, delete)
