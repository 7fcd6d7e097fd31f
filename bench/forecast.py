"""Predictable scaling shown for real: a ladder of small runs, its sealed forecast, then a main run of more than 100 times their compute.

``python -m bench.forecast [CONFIG] [KEY=VALUE ...]`` runs the line's own data, scaling and pretraining stages (``flows.pretrain``) on
``configs/pipeline/forecast.toml``, or ``forecast-thousand.toml`` beside it, and prints the ladder, the law, the ledger, and what the main run
can do beside what was forecast. Cut off anywhere, it goes on from its last checkpoint.
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
from modelyard.commands.tables import table
from modelyard.execution import ExecutionConfig
from modelyard.formats.forecast import SealedBucket, came_out, read_forecast
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network import parallel
from modelyard.scaling.ledger import entries
from modelyard.scaling.right_answers import answers, problems
from modelyard.store.artifacts import Store
from tasks.session import run_from_terminal

HEAD = ("benchmark", "bucket", "items", "smallest run", "-E[log pass rate] [95%]", "measured", "", "objection")
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
    assert last.base, "the flow has built what it forecast"
    if asked := store.get(last.forecast).parents.get("continuations"):
        print(capabilities(directory, Path(store.fetch(store.get(asked))), Path(store.fetch(store.get(last.base)))))
    return 0


def came_to(sealed: Path, continuations: Path, base: Path) -> list[tuple[SealedBucket, float]]:
    """Every bucket that was forecast, and what the base model gives."""
    forecast = read_forecast(sealed)
    asked = problems(list(dict.fromkeys(one.benchmark for one in forecast.buckets)), continuations)
    parallel.initialize(ExecutionConfig())
    nats = answers(model_directory.load(base, ExecutionConfig()), Encoder(base), asked)
    return [(one, came_out(one, nats[one.benchmark])) for one in forecast.buckets]


def capabilities(sealed: Path, continuations: Path, base: Path) -> str:
    """What was forecast of the base model's right answers, bucket by bucket, beside what it gives."""
    rows = []
    for one, measured in came_to(sealed, continuations, base):
        first = min(one.points, key=lambda point: point.compute)
        inside = "inside" if one.low <= measured <= one.high else "OUTSIDE"
        said = f"{one.prediction:.3f} [{one.low:.3f}, {one.high:.3f}]"
        problem_count, smallest = str(len(one.problems)), f"{first.loss:.3f}"
        rows.append((one.benchmark, str(one.bucket + 1), problem_count, smallest, said, f"{measured:.3f}", inside, one.objection))
    return table(HEAD, rows, right=HEAD[1:6])


if __name__ == "__main__":
    sys.exit(program(main))
