"""What a line asks of its config, whatever the flow, and the layout of one rank."""

from __future__ import annotations

from typing import Protocol

from modelyard.config import Config
from modelyard.execution import ExecutionConfig

ALONE = {
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "virtual_pipeline": 1,
    "data_parallel": 1,
    "context_parallel": 1,
    "expert_parallel": 1,
}
"""The layout of one rank."""


class LineConfig(Protocol):
    """What a line needs to know of its config."""

    @property
    def name(self) -> str:
        """Name of the line."""

    @property
    def execution(self) -> ExecutionConfig:
        """Where and how it runs."""

    def of(self, stage: str) -> Config | None:
        """What defines the artifact of a stage; None where the line has no such stage."""
