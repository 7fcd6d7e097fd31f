"""``modelyard run``: the whole pipeline from a config, as ``make run`` starts it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from modelyard.adapters.home import opened
from modelyard.adapters.servers.prefect_server import starting
from modelyard.child_server import ServerError
from modelyard.commands.project import part

CONFIG = typer.Argument(help="TOML file of the pipeline, such as configs/pipeline/tiny.toml.")
OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)


def run(config: Annotated[str, CONFIG], overrides: Annotated[list[str], OVERRIDES] = []) -> int:
    """Build, align, measure and release a model; stages that the store has are skipped.

    Exit code: 0 promoted, 1 failed, 2 the config cannot be used, 3 HOLD, 4 BLOCK.
    """
    with ExitStack() as server:
        begin(server, config, overrides)
        code: int = part("flows.pipeline").run(config, overrides)
    return code


def begin(server: ExitStack, config: str, overrides: Sequence[str]) -> None:
    """Start the run's own Prefect server while the flow is imported, for a config that can be used; what is wrong the run itself says."""
    try:
        part("flows.pipeline_config").load_pipeline(config, overrides)
        if not os.environ.get("PREFECT_API_URL"):
            server.enter_context(starting(opened() / "prefect"))
    except (ValueError, OSError, ServerError):
        pass
