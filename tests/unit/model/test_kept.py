"""Answers that are kept: what one rank, several ranks and the first of them alone are told the second time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modelyard.model.kept import Kept, KeptRows


def test_answer_is_asked_for_once_and_comes_back_to_the_bit(tmp_path: Path) -> None:
    asked: list[int] = []

    def ask() -> list[float]:
        asked.append(1)
        return [0.1 + 0.2, 1e-300, float("-inf")]

    path = tmp_path / "ck" / "answers.jsonl"
    assert Kept(path).once(["a", 1], ask, list[float]) == Kept(path).once(["a", 1], ask, list[float])
    assert len(asked) == 1
    Kept(path).once(["a", 2], ask, list[float])
    assert len(asked) == 2
    path.write_text("no journal\n")
    with pytest.raises(ValueError, match=r"answers.jsonl:1: not JSON"):
        Kept(path)


def test_two_ranks_hear_the_same_and_what_the_first_asks_alone_is_kept_too(tmp_path: Path) -> None:
    program = Path(__file__).with_name("kept_program.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(program), str(tmp_path)]
    for turn in ("first", "second"):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "TURN": turn}, timeout=240
        )
        assert done.returncode == 0, done.stderr
    found = {(rank, turn): json.loads((tmp_path / f"{rank}-{turn}.json").read_text()) for rank in (0, 1) for turn in ("first", "second")}
    assert found[0, "first"]["asked"] == ["together", "alone", "served", "after"]
    assert found[1, "first"]["asked"] == ["together", "after"]
    assert (found[0, "second"]["asked"], found[1, "second"]["asked"]) == (["served"], []), "a server is asked by the first"
    assert found[0, "second"]["heard"] == found[1, "second"]["heard"] == found[0, "first"]["heard"]


def test_vectors_are_computed_once_and_one_that_a_crash_cut_again(tmp_path: Path) -> None:
    path, made = tmp_path / "ck" / "rows", list[int]()

    def batch(number: int) -> Callable[[], Tensor]:
        def make() -> Tensor:
            made.append(number)
            return torch.full((2, 3), number / 3)

        return make

    whole = KeptRows(path, 3)
    said = [whole.once(2, batch(number)) for number in range(3)]
    assert made == [0, 1, 2]
    os.truncate(path, path.stat().st_size - 5)

    again = KeptRows(path, 3)
    assert all(torch.equal(again.once(2, batch(number)), one) for number, one in enumerate(said))
    assert made == [0, 1, 2, 2], "one vector of the third batch was lost"
    third = KeptRows(path, 3)
    assert torch.equal(torch.cat([third.once(2, batch(number)) for number in range(3)]), torch.cat(said))
    assert len(made) == 4
