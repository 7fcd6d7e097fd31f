"""A trained model as files: ``checkpoint/`` (weights), ``model.json`` (shape, head, hash of the chat template), ``tokenizer*.json`` and the
training history."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple, get_args

import torch.distributed as dist
from pydantic import ValidationError

from modelyard.config import first_error
from modelyard.execution import ExecutionConfig
from modelyard.formats import json_file
from modelyard.model.encoder import TEMPLATE_KEY, template_hash, template_of
from modelyard.model.network.architecture import Head, ModelConfig, Precision
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.trainer import History

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


class ModelFile(NamedTuple):
    """Contents of ``model.json``."""

    model: ModelConfig
    head: Head
    precision: Precision


def write(engine: Engine, tokenizer: Path, history: History, out: Path) -> None:
    """Write the engine's weights and all that is needed to use them; every rank calls it."""
    engine.save_weights(out / "checkpoint")
    if dist.get_rank() == 0:
        description = {
            "model": engine.model.model_dump(),
            "head": engine.head,
            "precision": engine.precision,
            TEMPLATE_KEY: template_hash(template_of(tokenizer)),
        }
        (out / "model.json").write_text(json.dumps(description, indent=1))
        for name in TOKENIZER_FILES:
            shutil.copyfile(tokenizer / name, out / name)
        history.write(out)
    dist.barrier()


def read(directory: Path) -> ModelFile:
    """Shape, head and precision of the model at ``directory``. Raises ValueError naming the file."""
    path = directory / "model.json"
    description = json_file.table(path, "model", "head", "precision")
    try:
        model = ModelConfig.model_validate(description["model"])
    except ValidationError as error:
        raise ValueError(f"{path}: {first_error(error)}") from None
    for key, known in (("head", get_args(Head)), ("precision", get_args(Precision))):
        if description[key] not in known:
            raise ValueError(f"{path}: {key}: expected one of {', '.join(map(str, known))}, got {description[key]!r}")
    return ModelFile(model, description["head"], description["precision"])


def load(
    directory: Path,
    execution: ExecutionConfig,
    *,
    head: Head | None = None,
    precision: Precision | None = None,
    seed: int = 0,
    optim: OptimizerConfig | None = None,
    total_steps: int = 1,
    dropout: float = 0.0,
) -> Engine:
    """An engine with the weights of ``directory``, at this run's layout. ``head="scalar"`` on a language model gives it a fresh scalar head."""
    description = read(directory)
    engine = Engine(
        description.model,
        execution,
        seed=seed,
        precision=precision or description.precision,
        head=head or description.head,
        optim=optim,
        total_steps=total_steps,
        dropout=dropout,
    )
    engine.load_weights(directory / "checkpoint")
    return engine
