"""The verdicts of any number of partitions, blocks and segments against one loop over all documents."""

import pytest

from modelyard.data.corpus.deduplicate import judge
from modelyard.data.corpus.partitions import LocalPartitions
from modelyard.data.filters import partition, seen
from tests.worlds.copies import RULES, arrivals_of, in_blocks, in_order


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_judge_any_partitions_and_blocks_agree_with_one_loop(tmp_path, count):
    documents = arrivals_of(500, seed=count)
    expected = in_order(documents)
    assert {reason for reason, *_ in expected} == {None, "duplicate/exact", "duplicate/near", "duplicate/straddles_held_out"}
    for name, cuts in {"whole": [], "blocks": [3, 3, 120, 121, 300, 450], "many": list(range(20, 500, 20))}.items():
        assert in_blocks(documents, cuts, LocalPartitions(count), tmp_path / name) == expected, name


def test_judge_new_documents_see_those_of_a_merged_shard_as_those_of_its_blocks(tmp_path):
    documents, later = arrivals_of(300, seed=9), arrivals_of(300, seed=9)
    partitions = LocalPartitions(3)
    in_blocks(documents, [100, 200], partitions, tmp_path)
    blocks: list[seen.Kept] = []
    for number in range(3):
        blocks.append(seen.following(blocks, tmp_path / f"{number}"))
    seen.merge([seen.load(block.directory) for block in blocks], tmp_path / "shard")
    shard = [seen.following([], tmp_path / "shard")]
    fresh = LocalPartitions(2)
    fresh.hold(shard)
    partitions.hold(blocks)
    partitions.hold(shard)  # what is held of the blocks stays
    copies = judge(later, fresh, RULES)
    assert judge(later, partitions, RULES) == copies
    ids = seen.load_ids(tmp_path / "shard").to_pylist()
    assert [ids[verdict.originals[0]] for verdict in copies if verdict.reason == "duplicate/exact"] != []
    assert all(verdict.reason for verdict in copies), "everything has been there"


def test_partition_that_misses_a_segment_is_an_error(tmp_path):
    documents = arrivals_of(60, seed=3)
    in_blocks(documents, [20, 40], LocalPartitions(), tmp_path)
    first = seen.following([], tmp_path / "0")
    second = seen.following([first], tmp_path / "1")
    seen.merge([seen.load(first.directory), seen.load(second.directory)], tmp_path / "both")
    part = partition.Partition(0, 1)
    part.hold([first])
    with pytest.raises(AssertionError, match="half a segment"):
        part.hold([seen.following([], tmp_path / "both")])
