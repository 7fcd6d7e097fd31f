"""``modelyard``: every command under one name.

A command's module holds its parser and its text and imports what it needs when the command runs, so that help,
completion and a mistyped option cost no import of torch. ``python -m modelyard`` is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from modelyard.commands import (
    check,
    claims,
    compare,
    contamination,
    convert,
    data,
    data_plan,
    desk,
    eval,
    feedback,
    findings,
    forecast,
    forecast_capability,
    harms,
    init,
    judge,
    label,
    layout,
    ledger,
    page,
    plan,
    prefer,
    prune,
    released,
    run,
    schema,
    serve,
    servers,
    summary,
    verify,
)
from modelyard.commands.command import Command, exit_code, say

COMMANDS: dict[str, tuple[tuple[str, Callable[..., object]], ...]] = {
    "Pipeline": (
        ("run", run.run),
        ("serve", serve.serve),
        ("feedback", feedback.feedback),
        ("ui", servers.ui),
        ("services", servers.services),
    ),
    "Configs": (
        ("init", init.init),
        ("check", check.check),
        ("schema", schema.schema),
    ),
    "People": (("desk", desk.desk), ("account", desk.account), ("label", label.label), ("findings", findings.findings)),
    "Data": (("data", data.build), ("data plan", data_plan.plan), ("contamination", contamination.contamination), ("harms", harms.harms)),
    "Planning": (
        ("plan", plan.plan),
        ("layout", layout.layout),
        ("forecast", forecast.forecast),
        ("forecast capability", forecast_capability.forecast_capability),
        ("ledger", ledger.ledger),
    ),
    "Models": (("import", convert.import_model), ("export", convert.export_model)),
    "Evaluation": (
        ("eval", eval.evaluate),
        ("compare", compare.compare),
        ("page", page.page),
        ("judge", judge.judge),
        ("prefer", prefer.prefer),
    ),
    "Releases": (
        ("lineage", released.lineage),
        ("summary", summary.summary),
        ("claims", claims.claims),
        ("invalidates", released.invalidates),
        ("rollback", released.rollback),
        ("verify", verify.verify),
        ("prune", prune.prune),
    ),
}
"""Panel of the help -> its commands; a name may have two words of which the first is a command too."""


class Program(TyperGroup):
    """The commands, the longest name first."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with, and the words behind its name."""
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if len(args) > 1 and two in self.commands else args)


app = typer.Typer(
    cls=Program,
    help="Build, align, measure, release and serve language models. Exit codes: 0 done or promoted, 1 failed, 2 bad input, 3 HOLD, 4 BLOCK.",
    pretty_exceptions_enable=False,
)
for _panel, _commands in COMMANDS.items():
    for _name, _function in _commands:
        app.command(_name, cls=Command, rich_help_panel=_panel)(_function)


def show_version(wanted: bool) -> None:
    """Print the version that is installed, and stop."""
    if wanted:
        from importlib import metadata

        say(f"modelyard {metadata.version('modelyard')}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)] = False,
) -> None:
    """What stands before the name of a command."""


@cache
def program() -> Any:
    """The commands as typer runs them; built from the signatures once."""
    return get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_code(program(), given or ["--help"], "modelyard")
