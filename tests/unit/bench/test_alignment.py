"""What the bench of ways to align plans and reads, and best-of-n against every choice of n samples."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from bench import alignment, best_of_n
from bench.alignment_table import Row, require_above_chance, table
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.stats.estimate import Estimate
from modelyard.store.manifest import Artifact

SCALES = {"kl": [1.0, 2.5], "beta": [0.3, 0.1], "samples": [4, 16]}
TINY = "configs/pipeline/tiny"


def test_best_of_n_is_the_mean_over_every_choice_of_n_samples() -> None:
    generator = np.random.default_rng(0)
    liked, won = generator.permuted(np.tile(np.arange(7.0), (3, 1)), axis=1), generator.choice([0.0, 0.5, 1.0], (3, 7))
    for n in (1, 3, 7):
        chosen = [[won[i, max(some, key=lambda k: liked[i, k])] for some in combinations(range(7), n)] for i in range(3)]
        assert best_of_n.win_rate(liked, won, n, 0).value == pytest.approx(np.mean(chosen))
    with pytest.raises(ValueError, match="best of 8 of 7 samples"):
        best_of_n.weights(8, 7)


@pytest.mark.parametrize("n", [1, 4, 64])
def test_distance_of_best_of_n_is_that_of_the_largest_of_n_from_one(n: int) -> None:
    def term(u: float) -> float:
        density = n * u ** (n - 1)
        return density * np.log(density) if density else 0.0

    assert best_of_n.distance(n) == pytest.approx(quad(term, 0, 1)[0], abs=1e-6)


def test_rows_share_all_that_comes_before_the_way_and_differ_in_it(tmp_path: Path) -> None:
    rows = alignment.planned(TINY, tmp_path, SCALES, 0.02, ())
    assert [row.way for row in rows] == [way.name for way in alignment.WAYS for _ in range(2)]
    first = rows[0].config
    for stage in ("corpus", "feedback", "tokens", "base", "sft", "reward", "gold", "evals", "release"):
        assert all(getattr(row.config, stage) == getattr(first, stage) for row in rows), stage
    ways = [row.config.policy or row.config.feedme for row in rows]
    assert all(one != other for one, other in combinations(ways, 2))
    by_name = {row.way: row.config.policy for row in rows}
    assert by_name["FeedME"] is None
    assert (by_name["PPO"].ptx_coef, by_name["PPO-ptx"].ptx_coef > 0) == (0, True)
    assert {by_name[way].algorithm for way in ("GRPO", "DPO", "K-wise DPO")} == {"grpo", "dpo", "kwise_dpo"}
    assert [row.config.policy.kl_stop for row in rows if row.way == "PPO-ptx"] == SCALES["kl"]


def test_every_way_has_a_config_of_full_size_for_a_gpu(tmp_path: Path) -> None:
    rows = alignment.planned("configs/pipeline/smollm2-gpu", tmp_path, {"kl": [1.0], "beta": [0.1], "samples": [4]}, 0.02, ())
    assert [row.way for row in rows] == [way.name for way in alignment.WAYS]
    policies = [row.config for row in rows if row.config.policy]
    assert all(one.feedme is None and one.sft_start is None and one.sft == rows[0].config.sft for one in policies), "one origin of every KL"
    assert {one.policy.ema_decay for one in policies if isinstance(one.policy, OnPolicyConfig)} == {0}, (
        "what is released went as far as it says"
    )
    [feedme] = [row.config for row in rows if row.config.feedme]
    assert (feedme.policy, feedme.start_selection is None, feedme.sft) == (None, False, rows[0].config.sft)


def artifact(low: float) -> Artifact:
    metrics = {"gold/test/accuracy": 0.55, "gold/test/accuracy_low": low}
    return Artifact(name="gold", version="0", fingerprint="0", parents={}, config={}, code="", metrics=metrics, files={}, seconds=1.0)


def test_reward_model_that_may_be_chance_ends_the_table() -> None:
    require_above_chance(artifact(0.51))
    with pytest.raises(
        ValueError, match=r"gold: orders 55.0% of held-out pairs rightly, at least 49.0%: what it says of policies is chance"
    ):
        require_above_chance(artifact(0.49))


def test_table_shows_what_was_measured_and_a_dash_for_what_was_not() -> None:
    won = {"kl": Estimate(1.2, 1.0, 1.4, 9), "win_rate": Estimate(0.6, 0.5, 0.7, 9)}
    rows = [Row("SFT", "", {}), Row("PPO", "kl 1", won, {"a": 0.1, "b": -0.2}, 12.0, 2**21, "HOLD", {"preference": "too few wins"})]
    cells = [list(column.cells) for column in table(rows).columns]
    assert [cell[1] for cell in cells[2:6]] == ["1.20 [1.00, 1.40]", "60.0% [50.0%, 70.0%]", "-", "b -0.2000"]
    assert [cell[1] for cell in cells[-3:]] == ["12", "2 MiB", "HOLD (preference)"]
    assert [cell[0] for cell in cells[2:6]] == ["-"] * 4
    assert rows[0].plain()["seconds"] is None
