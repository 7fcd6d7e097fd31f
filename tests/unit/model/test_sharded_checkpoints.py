"""Checkpoints of two replicas: each copies, writes and hashes its own part, and a kill in the middle leaves the last whole one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelyard.model.checkpoints import checkpoint

PROJECT = Path(__file__).parents[3]


def ranks(root: Path, phase: str) -> list[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.unit.model.shards_program", str(root), phase]
    return [
        subprocess.Popen(
            command, cwd=PROJECT, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]


class Killed(NamedTuple):
    """What the ranks said of one checkpoint before they trained on and were killed, and where."""

    said: list[dict[str, Any]]
    root: Path
    newest: int
    """The newest step of which anything stood on disk."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    root = tmp_path_factory.mktemp("shards")
    group = ranks(root, "measured")
    try:
        assert group[0].stdout is not None
        line = group[0].stdout.readline()
        while line and not half_written(root / "run") and all(rank.poll() is None for rank in group):
            time.sleep(0.0005)
    finally:
        for rank in group:
            rank.kill()
    errors = [rank.communicate()[1] for rank in group]
    steps = [checkpoint.step_of(path.name) for path in (root / "run").glob("step_*")]
    assert line, errors
    assert steps, errors
    return Killed(json.loads(line), root, max(steps))


def half_written(run: Path) -> bool:
    """Whether a fourth or later checkpoint is being written: the second rank's file stands there and nothing says that it is whole."""
    return any(
        (path / "__1_0.distcp").exists() and not (path / checkpoint.COMPLETE).exists()
        for path in run.glob("step_*")
        if checkpoint.step_of(path.name) > 3
    )


def test_save_gathers_nothing_on_the_thread_of_training_and_holds_the_state_of_its_step(killed: Killed) -> None:
    assert [rank["gathered"] for rank in killed.said] == [[], []]
    assert all(rank["went_on"] and rank["same"] for rank in killed.said)


def test_every_rank_writes_half_and_hashes_its_own_files(killed: Killed) -> None:
    directory = killed.root / "step_00000002"
    sizes = [(directory / f"__{rank}_0.distcp").stat().st_size for rank in range(2)]
    assert max(sizes) <= 1.1 * min(sizes)
    assert killed.said[1]["hashed"] == ["__1_0.distcp"]
    assert killed.said[0]["hashed"] == [".metadata", "__0_0.distcp", "common.pt", "metadata.json"]
    assert sorted(json.loads((directory / checkpoint.COMPLETE).read_text())["files"]) == sorted(
        killed.said[0]["hashed"] + killed.said[1]["hashed"]
    )


def test_file_of_another_rank_that_changed_is_found_by_its_hash(killed: Killed) -> None:
    path = killed.root / "step_00000002" / "__1_0.distcp"
    content = bytearray(path.read_bytes())
    assert checkpoint.damage(path.parent) is None
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert checkpoint.damage(path.parent) == "__1_0.distcp has changed since it was written (sha256)"
    number = sorted(path.name for path in path.parent.iterdir() if path.name != checkpoint.COMPLETE).index("__1_0.distcp")
    found = [checkpoint.damage(path.parent, reader, 2) for reader in range(2)]
    assert [reason is not None for reason in found] == [number % 2 == reader for reader in range(2)]


def test_ranks_killed_while_writing_go_on_from_the_last_whole_checkpoint_bit_for_bit(killed: Killed) -> None:
    whole = [step for step in range(killed.newest + 1) if checkpoint.damage(checkpoint.step_directory(killed.root / "run", step)) is None]
    group = ranks(killed.root, "resumed")
    answers = [rank.communicate() for rank in group]
    assert [rank.returncode for rank in group] == [0, 0], [error[-3000:] for _, error in answers]
    said = json.loads(answers[0][0])
    assert {rank["first"] for rank in said} == {max(whole)}
    assert killed.newest - 1 <= max(whole) <= killed.newest
    assert all(rank["same"] for rank in said)
