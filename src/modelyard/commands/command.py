"""What all commands have in common: exit codes, one line of error without a traceback, options of several words.

| exit code | meaning |
| --- | --- |
| 0 | done, or promoted |
| 1 | failed: a server, a disk, a store that does not answer, a question whose answer is no |
| 2 | bad input: an option, a file, a config, or values that do not fit together |
| 3 | HOLD: a gate holds the model back until a person decides |
| 4 | BLOCK: a gate refuses the model |

Any other exception is an error of ours and shows its traceback. The line itself is :func:`modelyard.config.complaint`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from modelyard.adapters.home import ServerError

DONE, FAILED, BAD_INPUT, HOLD, BLOCK = range(5)
PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What the operating system says of a path that somebody named wrongly; its other errors are failures."""


class Command(TyperCommand):
    """A command of ``modelyard``: ``--flag A B`` where a flag takes several values, and errors as one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse words into options and arguments."""
        several = {flag for param in self.params if getattr(param, "multiple", False) for flag in param.opts}
        return super().parse_args(ctx, list(repeated(args, several)))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its exit code, or that of the error that ended it. What is no error of a user's or a server's is raised."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output has gone: typer ends quietly
            raise
        except (ValueError, OSError, ServerError) as error:
            return refuse(ctx.command_path, error)


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


def refuse(command: str, error: Exception) -> int:
    """Say on standard error what ended ``command``, in one line; the exit code."""
    from modelyard.config import complaint

    sys.stderr.write(f"{command}: {complaint(error)}\n")
    return BAD_INPUT if isinstance(error, (ValueError, *PATHS)) else FAILED
