"""``modelyard judge``: how far a judge agrees with the rubrics' labels, before anything rests on it.

JUDGE: a directory of ours or of Hugging Face, or ``http://host:port/v1#name`` of an OpenAI-compatible server.
Prints one line a rubric and its table of confusion; ``--json`` keeps them.
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelyard.commands.command import say
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table

if TYPE_CHECKING:
    from modelyard.judges.agreement import Agreement
    from modelyard.judges.rubric import Rubric
    from modelyard.model.endpoint import Endpoint
    from modelyard.model.subject import Subject

MICRO_BATCH = 8
RUBRICS = typer.Argument(metavar="RUBRIC.toml...", help="Files such as configs/rubrics/refusal_style.toml.")
JUDGE = typer.Option(metavar="MODEL", help="Directory, or http://host:port/v1#name.")
CALIBRATE = typer.Option(
    help="How bias is measured; without it by what the judge answers about nothing, and not at all of letters of replies."
)
CHOOSE_BY = typer.Option(help="Take the likeliest letter, or the letter that a reply names, of servers without log-probabilities.")
REPLY_TOKENS = typer.Option(help="Longest reply that is read for a letter.")


def judge(
    rubrics: Annotated[list[Path], RUBRICS],
    judge: Annotated[str, JUDGE],
    orders: Annotated[int, typer.Option(help="Cyclic orders of the options that are averaged.")] = 4,
    calibrate: Annotated[Literal["none", "nothing", "examples"] | None, CALIBRATE] = None,
    shots: Annotated[int, typer.Option(help="Prompts of each stance that are shown with their classes.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the judge's chat template.")] = False,
    choose_by: Annotated[Literal["likelihood", "letter"], CHOOSE_BY] = "likelihood",
    max_new_tokens: Annotated[int, REPLY_TOKENS] = 16,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json: Annotated[Path | None, json_option("Where the agreement goes, as JSON.")] = None,
) -> None:
    """Measure how far a judge agrees with people, on the labelled responses of rubrics."""
    from modelyard.judges.agreement import measure
    from modelyard.judges.judge import Asking, Judge, by_default

    opened = [open_rubric(path) for path in rubrics]
    usual = by_default(orders, shots, chat, choose_by)
    asking = Asking.model_validate({**usual.model_dump(), "calibrate": calibrate or usual.calibrate, "max_new_tokens": max_new_tokens})
    measured = Judge(open_judge(judge, threads), asking)
    found = []
    for rubric in opened:
        found.append(measure(measured, rubric, seed))
        say(agreement(rubric, found[-1]), nl=False)
    if json:
        write(json, json_format.dumps([one.model_dump() for one in found], indent=1))


def open_rubric(path: Path) -> Rubric:
    """The rubric of a file. Raises ValueError naming file and key."""
    from pydantic import ValidationError

    from modelyard.complaint import complaint
    from modelyard.judges.rubric import Rubric, read_rubric

    try:
        return Rubric.model_validate(read_rubric(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {complaint(error)}") from None


def open_judge(spec: str, threads: int) -> Subject | Endpoint:
    """The judging model that ``spec`` names."""
    from modelyard.execution import ExecutionConfig
    from modelyard.model.endpoint import Endpoint
    from modelyard.model.subject import Subject

    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    return Subject.open(Path(spec).name, Path(spec), ExecutionConfig(threads=threads), MICRO_BATCH)


def agreement(rubric: Rubric, found: Agreement) -> str:
    """Agreement in one line, and labels (rows) against likeliest classes (columns)."""
    names = [option.name for option in rubric.options]
    line = (
        f"{found.rubric}: accuracy {found.accuracy:.3f} [{found.accuracy_low:.3f}, {found.accuracy_high:.3f}], "
        f"kappa {found.kappa:.3f} [{found.kappa_low:.3f}, {found.kappa_high:.3f}], n={found.n}, judge {found.judge}\n"
    )
    if found.replies:
        line += f"replies without a letter: {found.no_letter} of {found.replies}\n"
    rows = [(name, *map(str, counts)) for name, counts in zip(names, found.confusion, strict=True)]
    said = [*names, "undecided"][: len(found.confusion[0])]
    return line + table(("label", *said), rows, right=said)
