"""Features of a frozen model are transformers' hidden states of the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.inference.representations import Representations, cut
from tests.unit import small_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    small_model.write(root)
    return root


def test_features_are_the_reference_models_hidden_states_whatever_they_are_batched_with(root: Path) -> None:
    engine = model_directory.load(root / "ours", ExecutionConfig(threads=1))
    drawn = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 320, (length,), generator=drawn).tolist() for length in (1, 7, 40, 40, 3, 200, 12)]
    found = Representations(engine, [1]).of(rows)
    reference = AutoModelForCausalLM.from_pretrained(root / "hf").eval()
    for row, features in zip(rows, found, strict=True):
        with torch.no_grad():
            hidden = reference(torch.tensor([row]), output_hidden_states=True).hidden_states[1][0]
        torch.testing.assert_close(features, torch.cat([hidden.mean(0), hidden[-1]]), rtol=1e-4, atol=1e-4)


def test_features_of_a_layer_that_is_not_there_are_refused(root: Path) -> None:
    engine = model_directory.load(root / "ours", ExecutionConfig(threads=1))
    with pytest.raises(ValueError, match="the model has layers 1 to 2"):
        Representations(engine, [1, 3])


def test_windows_hold_every_token_once_and_are_alike_long() -> None:
    for length in (0, 1, 9, 10, 11, 57):
        found = cut(list(range(length)), 10)
        assert [token for window in found for token in window] == list(range(length))
        assert max(map(len, found)) - min(map(len, found)) <= 1
        assert max(map(len, found)) <= 10
