"""The environment that a rank gets: a GPU's settings where there is one, and the user's own in their place."""

from __future__ import annotations

import pytest

from modelyard.adapters.ray.fit import Layout

THREADS = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
SEGMENTS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
ONE_QUEUE = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
PLAIN = Layout(1, 1, 1, 1, 1, 1, device="cuda", threads=3, max_restarts=0, scratch="scratch")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (PLAIN._replace(device="cpu", tensor_parallel=2), THREADS),
        (PLAIN, THREADS | SEGMENTS),
        (PLAIN._replace(data_parallel=4, pipeline_parallel=2), THREADS | SEGMENTS),
        (PLAIN._replace(tensor_parallel=2), THREADS | SEGMENTS | ONE_QUEUE),
        (PLAIN._replace(context_parallel=2), THREADS | SEGMENTS | ONE_QUEUE),
    ],
)
def test_environment_of_a_rank_follows_its_layout(layout: Layout, expected: dict[str, str]) -> None:
    assert layout.environment({"HOME": "/root"}) == expected


def test_environment_of_the_driver_wins_over_settings_of_a_gpu_and_not_over_threads() -> None:
    own = {"CUDA_DEVICE_MAX_CONNECTIONS": "8", "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512", "OMP_NUM_THREADS": "64"}
    layout = PLAIN._replace(tensor_parallel=2)
    assert layout.environment(own) == THREADS | {key: own[key] for key in ("CUDA_DEVICE_MAX_CONNECTIONS", "PYTORCH_CUDA_ALLOC_CONF")}


def test_environment_leaves_an_allocator_alone_that_is_set_by_its_newer_name() -> None:
    assert PLAIN.environment({"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}) == THREADS
