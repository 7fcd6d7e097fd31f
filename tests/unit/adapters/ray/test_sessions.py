"""Ray's session folders: of a run that ended well none is left, of one that is gone until the next one, and never one of somebody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.adapters.ray import cluster, sessions


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))


def session(place: Path, pid: int) -> Path:
    made = place / f"session_2026-01-02_03-04-05_678901_{pid}"
    (made / "logs").mkdir(parents=True)
    (made / "logs/raylet.out").write_text("words")
    return made


def test_next_run_removes_the_sessions_of_processes_that_are_gone_and_no_others(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone, alive, foreign = session(tmp_path, ended.pid), session(tmp_path, os.getpid()), session(tmp_path / "other", ended.pid)
    for one in (gone, alive):
        sessions.note(one)
    sessions.remove_left()
    assert [one.exists() for one in (gone, alive, foreign)] == [False, True, True]
    sessions.remove(alive)
    assert not alive.exists()
    assert list((tmp_path / "home/ray-sessions").iterdir()) == []


@pytest.mark.integration
@pytest.mark.slow
def test_cluster_leaves_its_session_only_where_its_logs_are_to_be_kept(tmp_path: Path) -> None:
    places = []
    for keep in (True, False):
        cluster.connect()
        assert cluster._session is not None
        places.append(cluster._session)
        cluster.disconnect(keep_logs=keep)
    assert [place.exists() for place in places] == [True, False]
    assert [noted.name for noted in (tmp_path / "home/ray-sessions").iterdir()] == [places[0].name]
    sessions.remove(places[0])


@pytest.mark.integration
@pytest.mark.slow
def test_start_that_a_busy_machine_cut_off_is_tried_again_and_another_fault_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    start, said = ray.init, ["The current node timed out during startup. This could happen because", "disk full"]

    def busy(**settings: object) -> object:
        if said:
            raise Exception(said.pop(0))
        return start(**settings)

    monkeypatch.setattr(ray, "init", busy)
    with pytest.raises(Exception, match="disk full"):
        cluster.connect()
    cluster.connect()
    assert ray.is_initialized()
    cluster.disconnect()
