"""A home whose MLflow database is of another version: refused in one line that says what to do."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.server import client
from modelyard.child_server import ServerError
from modelyard.commands.app import main
from modelyard.exit_codes import FAILED


def test_database_of_another_mlflow_is_refused_in_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client(f"sqlite:///{tmp_path}/new.db")
    old = tmp_path / "old.db"  # another name: MLflow keeps what it knows of a database by its address
    shutil.copyfile(tmp_path / "new.db", old)
    with sqlite3.connect(old) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # MLflow's first
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old}")
    with pytest.raises(
        ServerError, match=rf"old\.db: its database is of another version of MLflow; copy it, then mlflow db upgrade sqlite:///{old}"
    ):
        client(f"sqlite:///{old}")
    assert main(["lineage", "line"]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("modelyard lineage: MLflow at ")
    assert said.count("\n") == 1
