from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.desk.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/desk.db")
    yield opened
    opened.close()
