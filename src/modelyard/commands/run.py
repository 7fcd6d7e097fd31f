"""``modelyard run``: the whole pipeline from a config, as ``make run`` starts it."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.commands.project import part

CONFIG = typer.Argument(help="TOML file of the pipeline, such as configs/pipeline/tiny.toml.")
OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)


def run(config: Annotated[str, CONFIG], overrides: Annotated[list[str], OVERRIDES] = []) -> int:
    """Build, align, measure and release a model; stages that the store has are skipped.

    Exit code: 0 promoted, 1 failed, 2 the config cannot be used, 3 HOLD, 4 BLOCK.
    """
    code: int = part("flows.pipeline").run(config, overrides)
    return code
