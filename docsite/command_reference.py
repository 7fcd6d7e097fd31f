"""The reference of commands, from their own signatures and help texts."""

from __future__ import annotations

import re
from typing import Any

from modelyard.commands.app import COMMANDS, program


def page() -> str:
    """Every command of ``modelyard``, by panel, as Markdown."""
    commands = program().commands
    lines = ["# Commands", "", "Exit codes: 0 done or promoted, 1 failed, 2 bad input, 3 HOLD, 4 BLOCK.", ""]
    for panel, members in COMMANDS.items():
        lines += [f"## {panel}", ""]
        for name, _ in members:
            lines += section(name, commands[name])
    return "\n".join(lines)


def section(name: str, command: Any) -> list[str]:
    """A command: usage, help, and a row for every argument and option."""
    context = command.make_context(f"modelyard {name}", [], resilient_parsing=True)
    usage = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), " ".join(command.get_usage(context).split()).removeprefix("Usage: "))
    lines = [f"### {name}", "", f"`{usage}`", "", command.help.strip(), ""]
    rows = [(", ".join(f"`{flag}`" for flag in param.opts), shown(param)) for param in command.params if getattr(param, "help", None)]
    if rows:
        lines += ["| argument or option | meaning |", "| --- | --- |"]
        lines += [f"| {flags} | {meaning} |" for flags, meaning in rows]
        lines.append("")
    return lines


def shown(param: Any) -> str:
    """An option's help with its default, where it has one that says something."""
    default = "" if param.default in (None, False, [], ()) or callable(param.default) else f" Default: `{param.default}`."
    needed = " Required." if param.required else ""
    return f"{' '.join(param.help.split())}{needed}{default}".replace("|", "&#124;")
