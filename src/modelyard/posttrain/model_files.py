"""The files of a model artifact: ``checkpoint/``, ``model.json``, the tokenizer's files, ``history.jsonl``."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelyard.config import ExecutionConfig
from modelyard.model.architecture import Head, ModelConfig, Precision
from modelyard.model.engine import Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.trainer import History

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


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
    model = ModelConfig.model_validate_json((directory / "model.json").read_text("utf-8"))
    engine = Engine(model, execution, seed=seed, precision=precision, head=head, optim=optim, total_steps=total_steps)
    engine.load_weights(directory / "checkpoint")
    return engine


def write_model(engine: Engine, origin: Path, out: Path, history: History) -> None:
    """Write the artifact of a trained model; tokenizer files come from ``origin``, the artifact it started from. Every rank calls it."""
    engine.save_weights(out / "checkpoint")
    if engine.layout.rank == 0:
        (out / "model.json").write_text(engine.model.model_dump_json(indent=1))
        for name in TOKENIZER_FILES:
            shutil.copyfile(origin / name, out / name)
        history.write(out)
