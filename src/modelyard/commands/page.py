"""``python -m modelyard.commands.page OUT.html LABEL=DIRECTORY...``: results of model versions as one HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.release.card.evolution import render


def main(arguments: Sequence[str]) -> int:
    """Write the page; 0, or 2 after one line that says what is wrong."""
    pairs = [text.partition("=") for text in arguments[1:]]
    if not pairs or not all(label and path for label, _, path in pairs):
        print("usage: python -m modelyard.commands.page OUT.html LABEL=DIRECTORY...", file=sys.stderr)  # noqa: T201
        return 2
    try:
        Path(arguments[0]).write_text(render({label: Path(path) for label, _, path in pairs}), "utf-8")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
