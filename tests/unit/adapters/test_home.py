"""The home directory: one a name, its user's alone."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql

from modelyard.adapters.home import home
from modelyard.adapters.mlflow.server import client, tracking_uri
from modelyard.adapters.ray import sessions
from modelyard.commands.app import main
from modelyard.commands.feedback import default_book
from modelyard.serving.book import Book

OPENERS: dict[str, Callable[[], object]] = {
    "book": default_book,
    "registry": lambda: client(tracking_uri()),
    "ray": lambda: sessions.note(Path("session_1_2")),
}


def mode(place: Path) -> int:
    return stat.S_IMODE(place.stat().st_mode)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("there", [True, False])
def test_home_that_is_opened_is_its_users_alone(opener: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "home"
    monkeypatch.setenv("MODELYARD_HOME", str(place))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if there:
        place.mkdir(mode=0o755)
        place.chmod(0o755)
        (place / "serving.db").touch(mode=0o644)
    OPENERS[opener]()
    assert mode(place) == 0o700


def test_directory_of_everybody_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    tmp_path.chmod(0o1777)
    default_book()
    assert mode(tmp_path) == 0o1777


def test_home_without_a_name_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", "")
    assert home() == tmp_path / ".modelyard"


def test_every_home_has_databases_of_its_own_or_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("h", "h#x", "h%x", "h%20x", "h x", "h&x;y"):
        monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / name))
        Book(default_book())
        sql.create_engine(tracking_uri()).connect().close()
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["mlflow.db", "serving.db"]
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "h?x"))
    for words in (["feedback", "--withdraw", "ada"], ["lineage", "tiny"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"MODELYARD_HOME {tmp_path}/h?x: " in said
        assert said.count("\n") == 1
    assert not (tmp_path / "h?x").exists()
