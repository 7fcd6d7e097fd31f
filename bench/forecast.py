"""Predictable scaling shown for real: a ladder of small runs, its sealed forecast, then a main run of more than 100 times their compute.

``python -m bench.forecast [CONFIG] [KEY=VALUE ...]`` runs the line's own data, scaling and pretraining stages (``flows.pretrain``) on
``configs/pipeline/forecast.toml`` and prints the ladder, the law and the ledger. Cut off anywhere, it goes on from its last checkpoint.
Larger sizes are other values of the same keys; on a GPU for example ``base.model.hidden=1024 base.steps=40000 'forecast.rungs=[...]'
base.precision="bf16"``, with sizes and steps from ``modelyard plan``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.program import program
from flows.pipeline_config import load_pipeline
from flows.pretrain import pretrain_flow
from modelyard.commands.ledger import page
from modelyard.scaling.ledger import entries
from modelyard.store.artifacts import Store
from tasks.session import run_from_terminal

CONFIG = "configs/pipeline/forecast.toml"
ALONE = ("execution.threads=1", "execution.checkpoint_every=200")
"""One thread: models this small gain nothing from a second, and lose much where the second is not idle."""


def main(words: Annotated[list[str], typer.Argument(metavar="[CONFIG] KEY=VALUE...")] = []) -> int:
    """Build, predict, train, judge; then say what came out."""
    named = bool(words) and "=" not in words[0]
    config, overrides = (words[0], words[1:]) if named else (CONFIG, words)
    overrides = [*(ALONE if not named else ()), *overrides]
    if code := run_from_terminal(config, overrides, load_pipeline, pretrain_flow):
        return code
    store = Store(load_pipeline(config, overrides).execution.store, ".modelyard/scratch")
    last = entries(store)[-1]
    directory = Path(store.fetch(store.get(last.forecast)))
    print((directory / "points.csv").read_text())
    print(page([last]))
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
