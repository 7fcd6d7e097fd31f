"""One rank, TP=2, PP=2 and DP=2 are the same computation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.config import ExecutionConfig
from modelyard.model.engine import Batch

from . import layout_program as program

STYLES = {"llama": True, "gpt": False}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The program's answers at every layout, with one rank's (``one/<style>``) beside them."""
    saved = tmp_path_factory.mktemp("saved")
    one = {}
    for style, tied in STYLES.items():
        one[f"one/{style}"] = program.measure(ExecutionConfig(threads=1), style, tied, None)
        source = program.engine(ExecutionConfig(threads=1), style, tied, "lm")
        for _ in range(3):
            source.train_step(program.batch(), 2, program.masked_loss)
        source.save(saved / style)
        one[f"one/{style}"]["resumed"] = [source.train_step(program.batch(), 2, program.masked_loss)["loss"] for _ in range(2)]
    root = Path(__file__).parents[3]
    launched = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", program.__file__, str(saved)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}", "OMP_NUM_THREADS": "1"},
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    return {**json.loads(launched.stdout.strip().splitlines()[-1]), **one}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", ["tp2", "pp2", "dp2"])
def test_layout_against_one_rank_is_the_same_computation(results: dict[str, Any], layout: str, style: str) -> None:
    split, one = results[f"{layout}/{style}"], results[f"one/{style}"]
    for key in ("loss", "grad_norm", "scores"):
        torch.testing.assert_close(torch.tensor(split[key]), torch.tensor(one[key]), rtol=2e-5, atol=2e-6)
    assert split["sampled"] == one["sampled"]
    # a checkpoint written by one rank goes on at another layout
    torch.testing.assert_close(torch.tensor(split["resumed"]), torch.tensor(one["resumed"]), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("style", STYLES)
def test_generation_logprobs_against_training_forward_are_equal(results: dict[str, Any], style: str) -> None:
    one = results[f"one/{style}"]
    engine = program.engine(ExecutionConfig(threads=1), style, STYLES[style], "lm")
    for _ in range(3):
        engine.train_step(program.batch(), 2, program.masked_loss)
    for prompt, new, logprobs in zip(program.PROMPTS, one["sampled"], one["logprobs"], strict=True):
        tokens = torch.tensor([prompt + new])
        scored = engine.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 1)[0, len(prompt) - 1 :]
        torch.testing.assert_close(scored, torch.tensor(logprobs), rtol=1e-5, atol=1e-5)
