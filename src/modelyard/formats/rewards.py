"""Which verified rewards a policy was trained with, by id: written beside its weights, shown on the card."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from modelyard.config import Config
from modelyard.formats import json_file

FILE = "rewards.json"


class Rewards(Config):
    """The verified rewards of a policy."""

    ids: dict[str, str]
    """Name -> id, which hashes what is rewarded and the code that verifies it: policies of equal ids were rewarded alike."""


def write(directory: Path, rewards: Rewards) -> None:
    """Write ``rewards.json``."""
    (directory / FILE).write_text(rewards.model_dump_json(indent=1) + "\n", "utf-8")


def read(directory: Path) -> Rewards:
    """The rewards of the policy in ``directory``; none where it has no file of them. Raises ValueError naming the file."""
    path = directory / FILE
    return json_file.read(path, TypeAdapter(Rewards)) if path.is_file() else Rewards(ids={})
