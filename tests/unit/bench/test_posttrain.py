"""The post-training benchmarks run on our side, and the bench of host memory sees its size after every step."""

import pytest

from bench import host_memory, posttrain, posttrain_work
from bench.policies import EPISODES
from modelyard.execution import ExecutionConfig


@pytest.mark.parametrize("name", list(posttrain_work.WORK))
def test_posttrain_benchmark_our_side_runs_on_the_tiny_shape(name: str) -> None:
    samples, work = posttrain_work.WORK[name](posttrain_work.SHAPES["tiny"], "fp32", ExecutionConfig(threads=1), 1, peers=False)
    assert samples in (posttrain_work.SFT_ROWS, posttrain_work.REWARD_PAIRS, EPISODES)
    seconds = posttrain.measured(work, 2)
    assert [len(times) for times in seconds.values()] == [2]


def test_growth_of_a_line_is_its_slope() -> None:
    assert host_memory.growth([900.0, 0.0, *[100 + 0.5 * i for i in range(6)]], every=2) == pytest.approx(25.0)


@pytest.mark.parametrize("work", list(host_memory.Work))
def test_host_memory_is_seen_after_every_second_step_of_each_work(work: host_memory.Work) -> None:
    seen = host_memory.resident(work, 5, every=2)
    assert len(seen) == 2
    assert min(seen) > 50.0


@pytest.mark.slow
@pytest.mark.parametrize("work", [host_memory.Work.DPO, host_memory.Work.GRPO, host_memory.Work.PPO])
def test_resident_memory_of_a_policy_is_flat_over_sixty_steps(work: host_memory.Work) -> None:
    seen = host_memory.resident(work, 60, every=1)
    assert len(seen) == 60
    # kernels of the shapes that turn up first take some 9 MiB; one copy of the 0.16M weights kept a step would be 19 more
    assert max(seen[45:]) - max(seen[15:30]) < 14.0
