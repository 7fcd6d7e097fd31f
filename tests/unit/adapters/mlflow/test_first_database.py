"""Several first runs of one home: the database is made once, whoever comes first."""

import subprocess
import sys
from pathlib import Path

OPEN = "import sys; from modelyard.adapters.mlflow.server import client; print(len(client(sys.argv[1]).search_experiments()))"


def test_clients_that_open_a_new_database_together_all_find_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path}/mlflow.db"]
    opened = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [one.communicate(timeout=180) for one in opened]
    assert [one.returncode for one in opened] == [0] * 3, said
    assert {out.strip() for out, _ in said} == {"1"}
    assert not (tmp_path / "mlflow.db.lock").exists()
