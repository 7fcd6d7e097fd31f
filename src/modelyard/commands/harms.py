"""``modelyard harms``: labels of harm that people should look at again, and texts that they should label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.numbers import at_least, between
from modelyard.commands.outputs import json_option

CONFIG = typer.Argument(help="TOML file with the table harm_labels; a pipeline's file will do.", show_default=False)
SUSPECTS = json_option("JSON lines: labels that models doubt which did not learn from them. Answered, they are harm_labels.reviews.")
MOST = typer.Option(help="Doubtful labels that are written.", callback=at_least(1))
DESK = typer.Option(help="With --suspects: also a batch for modelyard label, so that labelers of the desk answer.", metavar="DIR")
ANSWERS = typer.Option(help="labels.jsonl of the desk: fill its votes into the file that --suspects names.", metavar="FILE")
NEXT = json_option("JSON lines: texts of the pool to label next. Labelled, they are one of harm_labels.files.")
POOL = typer.Option(help="JSON lines with prompt or text, plain or .gz: texts that nobody labelled.")
NUMBER = typer.Option(help="Texts to label next.", callback=at_least(1))
AT_RANDOM = typer.Option(help="Share of them that is drawn at random; the rest after it and --above is what the classifier is unsure of.",
                         callback=between(0, 1))  # fmt: skip
ABOVE = typer.Option(help="Share of them that is drawn from what the classifier would block.", callback=between(0, 1))
CATEGORY = typer.Option(help="Of what harm they should tell; 'any': any.")
DECODER = typer.Option(
    help="models:/name@alias or a directory: judge by heads on it too, as the line's classifier does; without it by words alone."
)


def harms(
    config: Annotated[Path, CONFIG],
    suspects: Annotated[Path | None, SUSPECTS] = None,
    most: Annotated[int, MOST] = 100,
    desk: Annotated[Path | None, DESK] = None,
    answers: Annotated[Path | None, ANSWERS] = None,
    pool: Annotated[Path | None, POOL] = None,
    next: Annotated[Path | None, NEXT] = None,
    number: Annotated[int, NUMBER] = 100,
    random: Annotated[float, AT_RANDOM] = 0.3,
    above: Annotated[float, ABOVE] = 0.3,
    category: Annotated[str, CATEGORY] = "any",
    seed: Annotated[int, typer.Option(help="Of what is drawn.", callback=at_least(0))] = 0,
    decoder: Annotated[str | None, DECODER] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the decoder.", callback=at_least(1))] = 2,
) -> None:
    """Let the labels judge each other (--suspects), or choose what to label next (--next with --pool). No label is changed.

    Both go by the half of the labels that the classifier learns from.
    """
    if (suspects is None) == (next is None):
        raise ValueError("missing --suspects or --next, one of them; see --help")
    if (pool is None) is not (next is None):
        raise ValueError("--next and --pool belong together; see --help")
    if (suspects is None and (desk or answers)) or (desk and answers):
        raise ValueError("--desk writes suspects and --answers reads them back: one of the two, with --suspects; see --help")
    from modelyard.commands import harm_labelling

    if suspects is not None and answers is not None:
        harm_labelling.fill_in(suspects, answers)
        return
    opened = harm_labelling.opened(config, decoder, threads)
    if suspects is not None:
        harm_labelling.write_suspects(opened, suspects, most, desk)
    if next is not None and pool is not None:
        harm_labelling.write_next(opened, pool, next, category, number, random, above, seed)
