"""The times in an artifact's manifest, which the forecast's gate rests on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelyard.config import Config
from modelyard.store.artifacts import Spec, Store


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
