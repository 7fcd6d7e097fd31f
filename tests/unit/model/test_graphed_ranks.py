"""The decoding step that is one graph, on two tensor-parallel ranks: the plain step's logits and texts, for every kind of model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from . import graphed_program as program
from .decoded_models import MODELS

pytestmark = [pytest.mark.numerics, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    """What the program says of each model."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", program.__file__]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.parametrize("name", MODELS)
def test_step_that_a_graph_holds_on_two_ranks_gives_the_logits_of_the_plain_step(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert max(measured[name]["differences"]) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_texts_drawn_by_replays_on_two_ranks_are_the_plain_steps(measured: dict[str, dict[str, Any]], name: str) -> None:
    found = measured[name]
    assert found["graphs"] == 11, "a step a token, but for the first, which the prompt gives"
    assert found["there"]["tokens"] == found["here"]["tokens"]
    for ours, theirs in zip(found["there"]["logprobs"], found["here"]["logprobs"], strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-4)
