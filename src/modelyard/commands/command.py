"""What all commands have in common: one line of error without a traceback, options of several words, and text of others shown as text.

The line is :func:`modelyard.complaint.complaint`'s, the exit code :func:`modelyard.exit_codes.code_of`'s. Any other
exception than of a user's input, the system or a server is an error of ours and shows its traceback.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import typer
from typer.core import TyperCommand

from modelyard.child_server import ServerError
from modelyard.exit_codes import BAD_INPUT, DONE, FAILED, code_of


class Command(TyperCommand):
    """A command of ``modelyard``: ``--flag A B`` where a flag takes several values, and errors as one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse words into options and arguments."""
        several = {flag for param in self.params if getattr(param, "multiple", False) for flag in param.opts}
        return super().parse_args(ctx, list(repeated(args, several)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help with its brackets: rich takes ``[release.limits]`` for a style and leaves it out."""
        from rich.markup import escape

        shown = copy(self)
        shown.help, shown.params = escape(self.help or ""), [copy(param) for param in self.params]
        for param in shown.params:
            if explained := getattr(param, "help", None):
                vars(param)["help"] = escape(explained)
        super(Command, shown).format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its exit code, or that of the error that ended it. What is no error of a user's or a server's is raised."""
        try:
            with interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write(f"{ctx.command_path}: interrupted\n")
            return FAILED
        except BrokenPipeError:  # the reader of our output has gone: typer ends quietly
            raise
        except (ValueError, OSError, ServerError) as error:
            return refuse(ctx.command_path, error)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM as an interrupt, as Ctrl-C is one: what runs is ended and put away in order. Of the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(program: Any, arguments: Sequence[str], name: str) -> int:
    """Run a typer program called ``name``. Words that cannot be used are one line on standard error and 2."""
    try:
        code = program.main(list(arguments), name, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else name
        from modelyard.complaint import shortened, showable

        said = shortened(showable(" ".join(error.format_message().split()))).removesuffix(".")
        sys.stderr.write(f"{where}: {said}; see {where} --help\n")
        return BAD_INPUT
    return code or DONE


def repeated(words: Sequence[str], several: set[str]) -> Iterator[str]:
    """``--fit A B`` as ``--fit A --fit B`` for each of the flags ``several``: a flag's values reach to the next flag."""
    flag, first = None, False
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        if word.startswith("-"):
            flag, first = (word if word in several else None), True
        elif flag is not None and not first:
            yield flag
        else:
            first = False
        yield word


def say(text: str, nl: bool = True) -> None:
    """Print ``text``, which may be of others: characters that a terminal obeys are spelled, passwords in URLs left out."""
    from modelyard.complaint import showable

    typer.echo(showable(text), nl=nl)  # noqa: TID251


def refuse(command: str, error: Exception) -> int:
    """Say on standard error what ended ``command``, in one line; the exit code."""
    from modelyard.complaint import complaint

    sys.stderr.write(f"{command}: {complaint(error)}\n")
    return code_of(error)
