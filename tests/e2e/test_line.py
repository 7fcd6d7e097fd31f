"""The smallest line, as a person runs it: end to end, cached, changed, refused by a gate, split over two ranks.

One full run is shared; every other test works on a copy of its store, so it only pays for what it changes.
"""

import pytest

from modelyard.exit_codes import HOLD
from tests.e2e.running import PIPELINE, PRETRAIN, STAGES, aliases, artifact, copy, line

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_line_smallest_builds_every_stage_and_promotes(finished):
    directory, done = finished
    assert done.stages("built")[: len(STAGES)] == STAGES
    assert "PROMOTE" in done.out
    assert "make ui" in done.out
    assert all(model in done.out for model in ("base", "SFT", "PPO"))
    assert aliases(directory) == {"candidate": "1", "production": "1"}


def test_line_second_run_finds_every_stage(finished, tmp_path):
    done = line(copy(finished[0], tmp_path / "again"), PIPELINE, f"execution.checkpoint_store=file://{tmp_path}/checkpoints")
    assert done.code == 0, done.err
    assert done.stages("built") == []
    assert set(done.stages("cached")) == set(STAGES)


def test_line_changed_kl_coef_rebuilds_what_follows_and_a_failed_gate_stops_it(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "changed")
    done = line(directory, PIPELINE, "ppo.kl_coef=0.5", "evals.last_word_tokens=3", "release.min_win_rate=0.99")
    assert done.stages("built")[:4] == ["policy", "results", "baseline", "decision"]  # production answers the changed benchmarks too
    assert set(STAGES[: STAGES.index("policy")]) <= set(done.stages("cached"))
    assert done.code == HOLD
    assert done.err.startswith("HOLD: preference: wins ")
    assert done.err.count("\n") == 1
    assert aliases(directory)["production"] == "1"
    assert "not worse than production on 4 benchmarks" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tensor_parallel", "pipeline_parallel"])
def test_line_two_ranks_start_from_the_same_loss(finished, tmp_path, layout):
    directory = copy(finished[0], tmp_path / layout, without=("base",))
    done = line(directory, PRETRAIN, f"execution.{layout}=2", "execution.threads=1")
    assert done.code == 0, done.err
    key = "pretrain/train/first_loss"
    assert artifact(directory, "base")["metrics"][key] == pytest.approx(artifact(finished[0], "base")["metrics"][key], abs=1e-4)
