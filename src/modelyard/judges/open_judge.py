"""Which model judges (or teaches): one behind an OpenAI-compatible server, a directory on this machine, or the policy's own family.

The config says what the model is, the environment where it is: ``MODELYARD_JUDGE`` holds a judge's directory or its server's
``http://host:port/v1``, and ``MODELYARD_`` with another role's name that role's.
A directory's weights are checked against the config, so the artifact's identity does not hang on a path. A server cannot be checked; what it
was is stored with the agreement. Left out: several judges at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from modelyard.complaint import without_password
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.judges.judge import Asking, Judge
from modelyard.model.asked import Model
from modelyard.model.endpoint import Endpoint
from modelyard.model.model_directory import weights_at
from modelyard.model.network.first_rank import on_first_rank
from modelyard.model.network.model_config import Precision
from modelyard.model.subject import Subject
from modelyard.progress import Report, silent

REGISTERED = ("models:/", "runs:/")
"""What begins the address of a model in MLflow's registry."""
SERVED = ("http://", "https://")
KEPT = "judge.jsonl"
"""What a judge said, beside a stage's checkpoints."""
FEWEST_DIGITS = 8
"""Of a fingerprint, so that another model does not have them by chance."""


class AskedModel(Config):
    """A model of others that a stage asks."""

    role: ClassVar[str] = "model"
    """What errors call it."""
    kind: Literal["policy", "directory", "endpoint"]
    """``policy``: the model that PPO starts from; ``directory``: one of ours or of Hugging Face; ``endpoint``: an OpenAI-compatible server."""
    model: str = ""
    """``endpoint``: the model's name on the server."""
    weights: str = Field(default="", pattern=r"^[0-9a-f]*$")
    """``directory``: first hex digits of the fingerprint of its weights; another model is refused."""
    micro_batch: int = Field(default=8, ge=1)
    """Rows of one forward pass (models in a directory)."""

    @property
    def variable(self) -> str:
        """The environment variable that says where it is."""
        return f"MODELYARD_{self.role.upper()}"

    @model_validator(mode="after")
    def _named(self) -> AskedModel:
        if (self.kind == "endpoint") != bool(self.model):
            raise ValueError("model: names the model of an endpoint, and of nothing else")
        if (self.kind == "directory") != bool(self.weights) or 0 < len(self.weights) < FEWEST_DIGITS:
            raise ValueError("weights: the fingerprint of a directory's weights (8 hex digits or more), and of nothing else")
        return self


class JudgeModel(AskedModel):
    """A model that judges."""

    role: ClassVar[str] = "judge"


class TeacherConfig(AskedModel):
    """A model that a model of the line learns from."""

    role: ClassVar[str] = "teacher"
    kind: Literal["directory", "endpoint"]
    """``directory``: a model directory of ours or of Hugging Face; ``endpoint``: an OpenAI-compatible server with chat completions."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")
    """What records and card call it, and the source of its demonstrations."""
    licence: str = Field(min_length=1)
    """Licence of its weights, or the terms of its service: it stands on records and card. Whether it lets others learn from the output is a
    person's to know."""


class JudgeConfig(Asking, JudgeModel):
    """A judge of rubrics and how it is asked."""


def address(config: AskedModel) -> str:
    """Where a model that is not the policy is: a directory or a URL. Raises ValueError where the environment does not say, or says another kind."""
    where = os.environ.get(config.variable, "")
    if not where:
        raise ValueError(
            f"{config.role}.kind {config.kind!r}: the environment variable {config.variable} must say where the {config.role} is"
        )
    if where.startswith(SERVED) != (config.kind == "endpoint"):
        is_said = (
            "is no server's http://host:port/v1" if config.kind == "endpoint" else "is a server; name a directory or models:/NAME@ALIAS"
        )
        raise ValueError(f"{config.role}.kind {config.kind!r}: {config.variable} {without_password(where)!r} {is_said}")
    return where


def open_judge(
    config: JudgeConfig, execution: ExecutionConfig, policy: Callable[[], Subject], kept: Path | None = None, report: Report = silent
) -> Judge:
    """The judge, which tells ``report`` how far it is; see :func:`open_model`."""
    judge = Judge(open_model(config, execution, policy, kept), config)
    judge.report = report
    return judge


def open_model(config: JudgeModel, execution: ExecutionConfig, policy: Callable[[], Subject], kept: Path | None = None) -> Model:
    """The model that judges; ``policy`` opens the model that PPO starts from. Its answers are kept in the directory ``kept`` and found there again.

    Raises ValueError as :func:`open_elsewhere`.
    """
    model = policy() if config.kind == "policy" else open_elsewhere(config, execution)
    if kept is not None and isinstance(model, Endpoint):
        on_first_rank(partial(model.keep, kept / KEPT))  # which asks for all
    elif kept is not None and isinstance(model, Subject):
        model.keep(kept / KEPT)
    return model


def open_elsewhere(config: AskedModel, execution: ExecutionConfig, precision: Precision | None = None) -> Endpoint | Subject:
    """A model that is none of the line's; one in a directory as :meth:`Subject.open` opens it.

    Raises:
        ValueError: the environment does not say where it is, or what it names is another model than the config's.
    """
    where = address(config)
    if config.kind == "endpoint":
        return Endpoint(f"{where}#{config.model}")
    subject = Subject.open("directory", Path(where), execution, config.micro_batch, precision=precision)
    require_weights(config, Path(where), subject.weights)
    return subject


def require_found(config: AskedModel) -> None:
    """Raise ValueError unless the environment says where the model is; a directory on this machine must hold the config's weights.

    One that is not there is left to the ranks of a Ray cluster elsewhere, and what the registry names to the run, which fetches it.
    """
    where = address(config)
    if config.kind == "endpoint" or where.startswith(REGISTERED):
        return
    if Path(where).exists() or "RAY_ADDRESS" not in os.environ:
        require_weights(config, Path(where), weights_at(Path(where)))


def require_weights(config: AskedModel, directory: Path, weights: str) -> None:
    """Raise ValueError unless ``weights``, the hash of those in ``directory``, are the config's."""
    if not weights.startswith(config.weights):
        raise ValueError(f"{directory}: its weights are {weights[:16]}, not {config.role}.weights {config.weights}")
