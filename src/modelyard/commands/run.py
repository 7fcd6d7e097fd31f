"""``modelyard run``: the whole pipeline from a config, as ``make run`` starts it."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

PIPELINE = "flows.pipeline"
"""Imported by name: flows and tasks lie beside the package, in the project, and commands do not depend on them."""
CONFIG = typer.Argument(help="TOML file of the pipeline, such as configs/pipeline/tiny.toml.")
OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)


def run(config: Annotated[str, CONFIG], overrides: Annotated[list[str], OVERRIDES] = []) -> int:
    """Build, align, measure and release a model; stages that the store has are skipped.

    Exit code: 0 promoted, 1 failed, 2 the config cannot be used, 3 HOLD, 4 BLOCK.
    """
    try:
        pipeline = importlib.import_module(PIPELINE)
    except ModuleNotFoundError as error:
        if error.name in ("flows", PIPELINE, "tasks"):
            raise ValueError(
                f"{error.name}: not installed; the wheel holds the library and the commands, the pipeline's flows/ and tasks/ "
                "are in the project: install it with pip install --editable, or set PYTHONPATH to its directory"
            ) from error
        raise
    code: int = pipeline.run(config, overrides)
    return code
