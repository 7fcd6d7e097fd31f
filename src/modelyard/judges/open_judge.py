"""Which model judges: one behind an OpenAI-compatible server, a directory on this machine, or the policy's own family.

The config says what the judge is, the environment where it is: ``MODELYARD_JUDGE`` holds a directory or a server's ``http://host:port/v1``.
A directory's weights are checked against the config, so the artifact's identity does not hang on a path. A server cannot be checked; what it
was is stored with the agreement. Left out: several judges at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.judges.judge import Asking, Judge
from modelyard.model.asked import Model
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject

WHERE = "MODELYARD_JUDGE"
"""Environment variable with the judge's directory or URL."""


class JudgeModel(Config):
    """A model that judges."""

    kind: Literal["policy", "directory", "endpoint"]
    """``policy``: the model that PPO starts from; ``directory``: one of ours or of Hugging Face; ``endpoint``: an OpenAI-compatible server."""
    model: str = ""
    """``endpoint``: the model's name on the server."""
    weights: str = Field(default="", pattern=r"^[0-9a-f]*$")
    """``directory``: first hex digits of the fingerprint of its weights; another model is refused."""
    micro_batch: int = Field(default=8, ge=1)
    """Rows of one forward pass (local judges)."""

    @model_validator(mode="after")
    def _named(self) -> JudgeModel:
        if (self.kind == "endpoint") != bool(self.model):
            raise ValueError("model: names the model of an endpoint, and of nothing else")
        if (self.kind == "directory") != bool(self.weights):
            raise ValueError("weights: the fingerprint of a directory's weights (8 hex digits or more), and of nothing else")
        return self


class JudgeConfig(Asking, JudgeModel):
    """A judge of rubrics and how it is asked."""


def address(config: JudgeModel) -> str:
    """Where a judge that is not the policy is: a directory or a URL. Raises ValueError where the environment does not say."""
    if where := os.environ.get(WHERE, ""):
        return where
    raise ValueError(f"judge.kind {config.kind!r}: the environment variable {WHERE} must say where the judge is")


def open_judge(config: JudgeConfig, execution: ExecutionConfig, policy: Callable[[], Subject]) -> Judge:
    """The judge; see :func:`open_model`."""
    return Judge(open_model(config, execution, policy), config)


def open_model(config: JudgeModel, execution: ExecutionConfig, policy: Callable[[], Subject]) -> Model:
    """The model that judges; ``policy`` opens the model that PPO starts from.

    Raises:
        ValueError: ``MODELYARD_JUDGE`` is not set, or what it names is another model than the config's.
    """
    if config.kind == "policy":
        return policy()
    where = address(config)
    if config.kind == "endpoint":
        return Endpoint(f"{where}#{config.model}")
    subject = Subject.open("directory", Path(where), execution, config.micro_batch)
    if not subject.weights.startswith(config.weights):
        raise ValueError(f"{where}: its weights are {subject.weights[:16]}, not judge.weights {config.weights}")
    return subject
