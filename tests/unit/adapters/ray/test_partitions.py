"""The index on real Ray actors: the verdicts of one loop, with files that every worker reads and without, and when an actor is killed."""

import os
import signal

import pytest

from modelyard.adapters.ray import cluster
from modelyard.adapters.ray.partitions import ray_partitions
from modelyard.data.corpus.deduplicate import judge
from modelyard.data.filters import seen
from tests.worlds.copies import RULES, arrivals_of, in_blocks, in_order

pytestmark = pytest.mark.integration
CUTS = list(range(40, 400, 40))


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    cluster.connect()
    yield
    cluster.disconnect()


def _process_id(_):
    return os.getpid()


@pytest.mark.parametrize(("workers", "shared_disk"), [(1, True), (2, True), (4, False)])
def test_actors_give_the_verdicts_of_one_loop(tmp_path, workers, shared_disk):
    documents = arrivals_of(400, seed=workers)
    with ray_partitions(workers, fewest=60, shared_disk=shared_disk)() as partitions:
        assert in_blocks(documents, CUTS, partitions, tmp_path) == in_order(documents)
        assert partitions.count == workers


def test_killed_actor_is_built_again_from_the_index_and_the_verdicts_stay(tmp_path):
    documents, later = arrivals_of(200, seed=5), arrivals_of(200, seed=6)
    with ray_partitions(2, fewest=1, shared_disk=False)() as partitions:
        in_blocks(documents, [50, 100, 150], partitions, tmp_path)
        kept: list[seen.Kept] = []
        for number in range(4):
            kept.append(seen.following(kept, tmp_path / f"{number}"))
        partitions.hold(kept)
        expected = judge(later, partitions, RULES)
        first, second = partitions.each(_process_id, [(), ()])
        os.kill(second, signal.SIGKILL)
        assert judge(later, partitions, RULES) == expected
        os.kill(first, signal.SIGKILL)
        partitions.hold(kept)
        assert judge(later, partitions, RULES) == expected
        assert not {first, second} & set(partitions.each(_process_id, [(), ()])), "other processes answer"
