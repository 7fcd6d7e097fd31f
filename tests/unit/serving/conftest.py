"""Models that the serving tests serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit import small_model
from tests.worlds.imported import TEMPLATE


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of a model."""
    directories = []
    for seed in (5, 6):
        root = tmp_path_factory.mktemp(f"version{seed}")
        small_model.write(root, seed=seed)
        file = root / "hf" / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": TEMPLATE}))
        directories.append(root / "hf")
    return directories
