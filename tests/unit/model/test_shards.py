"""Runs of a tensor's elements as boxes of it, and copies of a rank's state in one buffer."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor

from modelyard.model.checkpoints import host_copy
from modelyard.model.checkpoints.shards import Box, boxes, run_of, shared_out

from .shares_program import LAYOUTS


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (4, 1), (1, 4), (2, 3, 4), (2, 1, 3, 2), (0, 3)])
def test_boxes_of_every_run_are_its_elements_in_order_and_few(shape: tuple[int, ...]) -> None:
    whole = torch.arange(torch.Size(shape).numel()).view(shape)
    for start, stop in itertools.combinations_with_replacement(range(whole.numel() + 1), 2):
        found = list(boxes(shape, start, stop))
        cut = [whole[tuple(slice(a, a + n) for a, n in zip(*box, strict=True))].flatten() for box in found]
        assert torch.cat([torch.empty(0, dtype=torch.long), *cut]).tolist() == list(range(start, stop))
        assert len(found) <= max(2 * len(shape) - 1, 1)


def test_run_within_a_row_is_one_box() -> None:
    assert list(boxes((3, 8), 10, 13)) == [Box((1, 2), (1, 3))]


def sharded(name: str, tensor: torch.Tensor, replica: int) -> ShardedTensor:
    """Layer 2 of 4 of a stacked weight, of which tensor-parallel rank 1 of 2 holds these rows."""
    return ShardedTensor.from_rank_offsets(name, tensor, (0, 2, 4), (1, 1, 2), replica_id=(0, 0, replica), prepend_axis_num=1)


def test_run_of_a_stacked_and_split_weight_stands_at_its_place_in_the_whole() -> None:
    own = torch.arange(12.0).view(3, 4)
    parts = run_of(sharded("w", own, 1), own.view(-1)[5:11], 5, 0, "state.")
    assert [(part.key, part.global_shape, part.global_offset, part.data.tolist()) for part in parts] == [
        ("state.w", (4, 6, 4), (2, 4, 1), [[[5.0, 6.0, 7.0]]]),
        ("state.w", (4, 6, 4), (2, 5, 0), [[[8.0, 9.0, 10.0]]]),
    ]
    assert {part.replica_id for part in parts} == {(0, 0, 0)}
    assert parts[0].data.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_weights_shared_out_over_replicas_are_written_once_and_evenly(replicas: int) -> None:
    weights = {"a": torch.randn(5, 3), "b.experts.c": torch.randn(4), "d": torch.randn(2, 7)}
    filled = {name: torch.zeros(4, 2 * weight.shape[0], *weight.shape[1:]) for name, weight in weights.items()}
    counts = []
    for rank in range(replicas):
        entries = {name: sharded(name, weight, rank) for name, weight in weights.items()}
        share = shared_out(entries, lambda name: replicas)
        counts.append(sum(part.data.numel() for part in share.values()))
        for part in share.values():
            place = filled[part.key][tuple(slice(a, a + n) for a, n in zip(part.global_offset, part.local_shape, strict=True))]
            assert not place.any()
            place.copy_(part.data)
    for name, weight in weights.items():
        assert torch.equal(filled[name][2, weight.shape[0] :], weight)
        assert filled[name].count_nonzero() == weight.numel()
    assert sum(counts) == 33
    assert max(counts) - min(counts) <= 1


def test_ranks_of_every_kind_of_layout_write_each_element_once_and_replicas_alike() -> None:
    project = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.model.shares_program"],
        capture_output=True,
        text=True,
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project / 'src'}{os.pathsep}{project}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert {layout: wrong for layout, (_, wrong) in found.items()} == {layout: [] for layout in LAYOUTS}
    for layout, (_, sizes) in LAYOUTS.items():
        tensor, data = sizes.get("tensor_parallel", 1), sizes["data_parallel"]
        replicas = torch.tensor(found[layout][0]).view(-1, data, tensor)  # ranks count through tensor, data, pipeline
        assert (replicas.amax(1) <= 1.1 * replicas.amin(1)).all(), layout


def test_packed_copies_are_apart_aligned_and_equal() -> None:
    tensors = [torch.randn(3, 5), torch.randn(7).bfloat16(), torch.arange(4)[1:], torch.empty(0), torch.tensor(2.0)]
    buffer = torch.full((host_copy.packed_bytes(tensors),), 255, dtype=torch.uint8)
    copies = host_copy.pack(tensors, buffer)
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)
        assert copy.storage_offset() * copy.element_size() % host_copy.ALIGNMENT == 0
    before = [copy.clone() for copy in copies]
    tensors[0].zero_()
    copies[1].zero_()
    assert all(torch.equal(a, b) for number, (a, b) in enumerate(zip(copies, before, strict=True)) if number != 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_from_a_gpu_hold_what_stood_there_when_they_were_asked_for() -> None:
    tensors = [torch.randn(1 << 20, device="cuda") for _ in range(8)]
    for _ in range(3):
        expected = [tensor.cpu() for tensor in tensors]
        copies, arrive = host_copy.copied(tensors)
        host_copy.before_change()
        for tensor in tensors:
            tensor.add_(1.0)
        arrive()
        assert all(torch.equal(a, b) for a, b in zip(copies, expected, strict=True))
        assert all(copy.is_pinned() for copy in copies)
    host_copy.release()
