"""``modelyard page``: results of model versions as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.outputs import writable, write

VERSIONS = typer.Argument(metavar="[LABEL=]DIRECTORY[#MODEL]...", help="Results of each version, oldest first.")


def page(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page.", callback=writable)],
    versions: Annotated[list[str], VERSIONS],
) -> None:
    """Show results of model versions as one HTML page: tables, and the versions as a chain.

    DIRECTORY is one of the command eval, or a results artifact of a pipeline: alone it stands for all its models in their order (base, sft,
    policy), with a label for its policy, or for the model named after a #.
    """
    from modelyard.release.card.evolution import Source, models_of, render

    sources: dict[str, Source] = {}
    for text in versions:
        label, given, rest = text.partition("=")
        path, _, model = (rest if given else text).partition("#")
        if not path or (given and not label):
            raise ValueError(f"{text}: expected LABEL=DIRECTORY, LABEL=DIRECTORY#MODEL or the directory of a line's results")
        named = {label: model} if given else {one: one for one in ([model] if model else models_of(Path(path)))}
        for name, one in named.items():
            if name in sources:
                raise ValueError(f"{text}: {name!r} is the label of two versions")
            sources[name] = Source(Path(path), one)
    write(out, render(sources))
