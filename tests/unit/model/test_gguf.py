"""A GGUF file's rotary scaling is read or refused, never dropped."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from modelyard.model.hf.gguf import LLAMA3, scaling
from modelyard.model.network import rope


def written(file: Path, values: dict[str, object], divisors: torch.Tensor | None = None) -> Path:
    """A file that holds nothing but how positions are scaled."""
    writer = gguf.GGUFWriter(file, "llama")
    for key, value in values.items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)]
        add(f"llama.rope.{key}", value)
    writer.add_tensor("rope_freqs.weight" if divisors is not None else "other", np.asarray(torch.ones(2) if divisors is None else divisors))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"rope_type": "default"}),
        ({"scaling.type": "none"}, {"rope_type": "default"}),
        ({"scaling.type": "linear", "scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        (
            {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 4096},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
        ),
    ],
)
def test_scaling_of_positions_is_read(tmp_path: Path, values: dict[str, object], expected: dict[str, object]) -> None:
    assert scaling(written(tmp_path / "m.gguf", values), 5e5, 64) == expected


def test_divisors_of_llama_3_are_its_scaling(tmp_path: Path) -> None:
    plain, slowed = (rope.frequencies(5e5, 64, way) for way in (None, rope.Llama3Scaling(factor=32.0, **LLAMA3)))
    assert scaling(written(tmp_path / "m.gguf", {}, plain / slowed), 5e5, 64) == {"rope_type": "llama3", "factor": 32.0, **LLAMA3}


@pytest.mark.parametrize(
    ("values", "divisors", "message"),
    [
        ({"scaling.type": "longrope", "scaling.factor": 4.0}, None, "scaling.type 'longrope' .* is not supported"),
        ({"scaling.type": "linear"}, None, "'linear' without a scaling.factor"),
        ({}, torch.linspace(1, 8, 32), "rope_freqs.weight are not the bands of Llama 3.1"),
    ],
)
def test_scaling_without_a_name_is_refused(tmp_path: Path, values: dict[str, object], divisors: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scaling(written(tmp_path / "m.gguf", values, divisors), 5e5, 64)
