"""The environment that a rank gets: a GPU's settings where there is one, and the user's own in their place; why a rank's process is gone."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from modelyard.adapters.ray.callbacks import cause_of_loss
from modelyard.adapters.ray.fit import Layout

THREADS = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
SEGMENTS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
ONE_QUEUE = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
KILLED = (
    "3 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 39f4) was 8.87GB used / 23.54GB limit "
    "(0.376684)\nOOM kill reason: Memory usage 9248669696B exceeded threshold of 9235846144B (36.5% of 25275990016B limit)\nand more lines"
)
"""What Ray 2.60 says."""
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


@pytest.mark.parametrize("error", [OutOfMemoryError(KILLED), WorkerHealthCheckFailedError("a worker", OutOfMemoryError(KILLED))])
def test_loss_of_a_process_that_ray_killed_for_memory_says_so_with_its_figures(error: Exception) -> None:
    assert cause_of_loss(error) == "its process was killed for memory: 8.87GB of its machine's 23.54GB were used"


def test_loss_of_a_process_for_another_cause_names_no_memory_figures_and_an_error_of_a_stage_is_no_loss() -> None:
    assert cause_of_loss(ActorDiedError()) == "its process died: killed from outside (by the kernel, where memory ran out), or crashed"
    assert cause_of_loss(ValueError(KILLED)) is None
