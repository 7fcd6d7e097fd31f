"""A trained model as files: ``checkpoint/`` (weights), ``model.json`` (shape, head, hash of the chat template), ``tokenizer*.json`` and the
training history.

Where adapters were trained, ``checkpoint/`` has them merged, so that whoever reads the model need not know of them, and ``adapter/`` holds
them as PEFT does, with the hash of the checkpoint that they belong to: models whose adapters belong to the same one can be in memory on one
body.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple, get_args

import torch.distributed as dist
from pydantic import ValidationError

from modelyard.complaint import first_error
from modelyard.config import digest
from modelyard.execution import ExecutionConfig
from modelyard.formats import json_file, tokenizer_files
from modelyard.model import chat_template
from modelyard.model.checkpoints import checkpoint
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Head, ModelConfig, Precision
from modelyard.model.network.vision import VisionConfig
from modelyard.model.training import adapter_file
from modelyard.model.training.adapter_file import Adapter
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.state import Part
from modelyard.model.training.trainer import History
from modelyard.store.file_hash import sha256_file, sha256_tree

ADAPTER = "adapter"
"""Folder of a model that was trained by adapters."""


class ModelFile(NamedTuple):
    """Contents of ``model.json``."""

    model: ModelConfig
    head: Head
    precision: Precision


def write(engine: Engine, tokenizer: Path, history: History, out: Path) -> None:
    """Write the engine's weights and all that is needed to use them; every rank calls it. ``tokenizer``: the directory that has its files, for
    an engine with adapters that of the model below them."""
    engine.save_weights(out / "checkpoint")
    if engine.lora is not None:
        adapter_file.write(engine, called(tokenizer), out / ADAPTER)
    if dist.get_rank() == 0:
        description = {
            "model": engine.model.model_dump(),
            "head": engine.head,
            "precision": engine.precision,
            chat_template.KEY: chat_template.hash_of(chat_template.text_of(tokenizer)),
        }
        (out / "model.json").write_text(json.dumps(description, indent=1))
        for name in tokenizer_files.FILES:
            shutil.copyfile(tokenizer / name, out / name)
        history.write(out)
    dist.barrier()


def called(directory: Path) -> str:
    """What adapters call the model at ``directory`` that they belong to."""
    return f"{directory.parent.name}/{directory.name}"


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
    lora: LoRAConfig | None = None,
    part: Part = "language",
    vision: VisionConfig | None = None,
    vocab_size: int | None = None,
    body: Engine | None = None,
) -> Engine:
    """An engine with the weights of ``directory``, at this run's layout. ``head="scalar"`` on a language model gives it a fresh scalar head.

    ``lora`` puts new adapters on the weights. ``body`` is an engine whose weights it takes where those of ``directory`` are the same, or are the
    same but for adapters, which it then has instead of ``lora``'s (of which the dropout stays); else the engine has weights of its own.

    ``vision`` gives a model that reads text only a fresh patch encoder and projector, ``vocab_size`` makes room for further tokens; ``part`` is
    what is trained of a model that is shown images.
    """
    description = read(directory)
    own = checkpoint.identity(directory / "checkpoint")
    assert body is None or body.lora or body.optimizer is None, "weights that are trained cannot be lent"
    shared = body is not None and body.base == own
    adapter = adapter_on(directory, body) if body is not None and not shared else None
    if adapter is not None:
        lora = adapter.lora.model_copy(update={"dropout": lora.dropout if lora else 0.0})
    model = description.model
    if vision is not None:
        assert model.vision is None, f"{directory} is shown images already"
        model = ModelConfig.model_validate({**model.model_dump(), "vision": vision, "vocab_size": vocab_size or model.vocab_size})
    engine = Engine(
        model,
        execution,
        seed=seed,
        precision=precision or description.precision,
        head=head or description.head,
        optim=optim,
        total_steps=total_steps,
        dropout=dropout,
        lora=lora,
        part=part,
        body=body if adapter or shared else None,
    )
    if adapter is not None:
        engine.base = adapter.base
        adapter_file.take(engine, adapter)
        return engine
    engine.base = own
    if shared:
        engine.load_head(directory / "checkpoint")
    else:
        engine.load_weights(directory / "checkpoint")
    if model.vocab_size > description.model.vocab_size:
        engine.begin_rows(description.model.vocab_size)
    return engine


def adapter_on(directory: Path, body: Engine) -> Adapter | None:
    """The adapter of the model at ``directory``, where it belongs to the weights of ``body``."""
    if not (directory / ADAPTER).is_dir():
        return None
    adapter = adapter_file.read(directory / ADAPTER)
    return adapter if body.base and adapter.base == body.base else None


def weights_at(directory: Path) -> str:
    """Hash of the weights in a directory of ours or of Hugging Face. Raises ValueError where there is neither."""
    if (directory / "model.json").is_file():
        return sha256_tree(directory / "checkpoint")
    if (directory / "config.json").is_file():
        return weights_of(directory)
    raise ValueError(f"{directory}: neither a model directory (model.json) nor a Hugging Face one (config.json)")


def weights_of(directory: Path) -> str:
    """Hash of the weights in a Hugging Face directory."""
    return digest([sha256_file(file) for file in sorted(directory.glob("*.safetensors"))])
