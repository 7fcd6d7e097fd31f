from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.evals.small_line import write_line


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the evals stage reads."""
    return write_line(tmp_path_factory.mktemp("evals"))
