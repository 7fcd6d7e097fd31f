"""Batches of whole groups: what fills them up."""

from __future__ import annotations

import pytest

from modelyard.posttrain.rows.sampling import whole_groups


@pytest.mark.parametrize(("replicas", "fewest", "micro_batches"), [(1, 1, 2), (2, 1, 2), (3, 1, 3), (1, 4, 4), (2, 2, 4)])
def test_groups_stay_whole_and_every_replica_has_as_many_micro_batches_as_its_schedule_needs(
    replicas: int, fewest: int, micro_batches: int
) -> None:
    rows = whole_groups([["a1", "a2"], ["b1", "b2"], ["c1"], ["d1", "d2", "d3"]], 4, replicas, "", fewest)
    cut = [rows[start : start + 4] for start in range(0, len(rows), 4)]
    assert len(cut) == micro_batches
    assert all(len({part for part, rows in enumerate(cut) for row in rows if row.startswith(group)}) == 1 for group in "abcd")
    assert sorted(row for row in rows if row) == ["a1", "a2", "b1", "b2", "c1", "d1", "d2", "d3"]
