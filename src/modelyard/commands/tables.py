"""Tables of plain text, for a terminal and for a file alike."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Lines of aligned columns, as wide as their cells want; those of the names ``right`` are aligned right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from modelyard.complaint import showable

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in head:
        shown.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(showable(cell)) for cell in row))
    out = io.StringIO()
    width = 2 * len(head) + sum(max(map(len, cells)) for cells in zip(head, *rows, strict=True)) * 2  # of wide characters
    Console(file=out, width=width, color_system=None).print(shown)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
