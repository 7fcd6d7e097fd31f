"""Opening and writing the models of post-training; see :mod:`modelyard.model.model_directory`."""

from __future__ import annotations

from pathlib import Path

from modelyard.config import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.architecture import Head, Precision
from modelyard.model.engine import Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.trainer import History


def open_model(
    directory: Path,
    execution: ExecutionConfig,
    *,
    seed: int,
    precision: Precision,
    head: Head,
    optim: OptimizerConfig | None = None,
    total_steps: int = 1,
) -> Engine:
    """An engine with the weights of the model artifact at ``directory``; a scalar head over a language model's body starts at 0."""
    return model_directory.load(directory, execution, head=head, precision=precision, seed=seed, optim=optim, total_steps=total_steps)


def write_model(engine: Engine, origin: Path, out: Path, history: History) -> None:
    """Write the artifact of a trained model; tokenizer files come from ``origin``, the artifact it started from. Every rank calls it."""
    model_directory.write(engine, origin, history, out)
