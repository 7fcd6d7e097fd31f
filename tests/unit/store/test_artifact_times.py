"""The times in an artifact's manifest, which the forecast's gate rests on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelyard.config import Config
from modelyard.store import artifacts
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Spec


class Nothing(Config):
    pass


def test_artifact_begun_before_a_crash_keeps_its_start_and_is_finished_when_committed(tmp_path: Path) -> None:
    store, spec = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch")), Spec("base", Nothing(), {}, "code")
    crashed: list[float] = []

    def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
        if not crashed:
            crashed.append(time.time())
            raise KeyboardInterrupt
        return {}

    before = time.time()
    with pytest.raises(KeyboardInterrupt):
        store.build(spec, produce)
    made = store.build(spec, produce).artifact

    assert made.started is not None
    assert made.finished is not None
    assert before <= made.started <= crashed[0] <= made.finished <= time.time()
    assert store.find("base", spec.version) == made


def test_artifact_that_was_killed_while_its_beginning_was_noted_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, spec = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch")), Spec("base", Nothing(), {}, "code")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.build(spec, lambda out, _: {})
    monkeypatch.undo()
    assert not list((tmp_path / "scratch").rglob("begun")), "half a note would be taken for one"
    assert store.build(spec, lambda out, _: {}).artifact.started is not None


def test_times_follow_the_order_of_the_work_when_the_clock_is_set_back_or_another_machine_s_is_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [5000.0]
    monkeypatch.setattr(artifacts.time, "time", lambda: clock[0])
    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))
    forecast = store.build(Spec("forecast", Nothing(), {}, "code"), lambda out, _: {}).artifact
    clock[0] -= 3600.0  # another machine, an hour behind

    def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
        clock[0] -= 60.0  # set back while it works
        return {}

    base = (
        Store(store.storage.url, str(tmp_path / "fresh")).build(Spec("base", Nothing(), {"forecast": forecast}, "code"), produce).artifact
    )
    assert (forecast.finished, base.started, base.finished) == (5000.0, 5000.0, 5000.0)
    assert 0 <= base.seconds < 60, "measured by a clock that nobody sets"
    clock[0] = 6000.0
    later = store.build(Spec("policy", Nothing(), {"base": base}, "code"), lambda out, _: {}).artifact
    assert (later.started, later.finished) == (6000.0, 6000.0)
