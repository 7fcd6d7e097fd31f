"""A bench as a program: options from a function's signature and errors as one line, as the commands have them.

``sys.exit(program(main))`` ends a bench's module; its docstring is the help. A flag that may be given several times takes
several values at once: ``--shape tiny small``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer
from typer.main import get_command

from modelyard.commands.command import Command, exit_code

REPORT = typer.Option("--json", help="Where the results go, as JSON.")


def program(function: Callable[..., object], arguments: Sequence[str] | None = None) -> int:
    """Run ``function`` by the words of the command line (or ``arguments``); the exit code is what it returns, 0 for None."""
    module = sys.modules[function.__module__]
    name = module.__spec__.name if module.__spec__ else function.__module__
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(cls=Command, help=module.__doc__)(function)
    return exit_code(get_command(app), sys.argv[1:] if arguments is None else arguments, f"python -m {name}")
