"""What the bench of ways to align plans and reads, and best-of-n against every choice of n samples."""

from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from scipy.integrate import quad

from bench import alignment, best_of_n
from bench.alignment_compute import Tokens, of_comparisons, of_feedme, of_sampling, of_sft
from bench.alignment_table import Row, require_above_chance, spread, table
from modelyard.formats.feedback import Comparison
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.preference.ranked import Ranked
from modelyard.posttrain.rows.masking import Example
from modelyard.pretrain.pretrain import PretrainConfig
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
    assert [row.way for row in rows] == [way.name for way in alignment.WAYS] * 2, "a run cut short has every way at its first setting"
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


@pytest.mark.parametrize("size", ["smollm2-gpu", "smollm2-table"])
def test_every_way_has_a_config_for_smollm2(size: str, tmp_path: Path) -> None:
    rows = alignment.planned(f"configs/pipeline/{size}", tmp_path, {"kl": [1.0], "beta": [0.1], "samples": [4]}, 0.02, ())
    assert [row.way for row in rows] == [way.name for way in alignment.WAYS]
    policies = [row.config for row in rows if row.config.policy]
    assert all(one.feedme is None and one.sft_start is None and one.sft == rows[0].config.sft for one in policies), "one origin of every KL"
    assert {one.policy.ema_decay for one in policies if isinstance(one.policy, OnPolicyConfig)} == {0}, (
        "what is released went as far as it says"
    )
    [feedme] = [row.config for row in rows if row.config.feedme]
    assert (feedme.policy, feedme.sft) == (None, rows[0].config.sft)
    assert bool(feedme.start_selection) == bool(feedme.selection) == (size == "smollm2-gpu"), "its epoch is chosen where the first one's is"


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
    won = {"kl": Estimate(1.2, 1.0, 1.4, 9), "win_rate": Estimate(0.6, 0.5, 0.7, 9), "unsafe_answered": Estimate(0.25, 0.1, 0.4, 9)}
    rows = [Row("SFT", "", {}), Row("PPO", "kl 1", won, {"a": 0.1, "b": -0.2}, 3.4e12, 12.0, 2**21, "HOLD", {"preference": "too few wins"})]
    cells = [list(column.cells) for column in table(rows).columns]
    assert [cell[1] for cell in cells[2:6]] == ["1.20 [1.00, 1.40]", "60.0% [50.0%, 70.0%]", "-", "b -0.2000"]
    assert [cell[1] for cell in cells[7:9]] == ["25.0% [10.0%, 40.0%]", "-"]
    assert [cell[1] for cell in cells[-4:]] == ["3.4", "12", "2 MiB", "HOLD (preference)"]
    assert [cell[0] for cell in cells[2:6]] == ["-"] * 4
    assert rows[0].plain()["seconds"] is None


def test_spread_of_compute_names_the_rows_at_its_ends() -> None:
    rows = [Row("SFT", "", {}), Row("PPO", "kl 1", {}, compute=2e12), Row("DPO", "beta 1", {}, compute=5e12)]
    assert spread(rows) == "compute from 2 TFLOP (PPO, kl 1) to 5 (DPO, beta 1): 2.5 times as much"
    assert spread(rows[:2]) == ""


def test_tokens_of_an_on_policy_way_are_those_of_every_pass(tmp_path: Path) -> None:
    """Against a count text by text."""
    config = alignment.planned(TINY, tmp_path, {"kl": [1.0], "beta": [], "samples": []}, 0.02, ())[1].config.policy
    assert isinstance(config, PPOConfig)
    config = config.model_copy(update={"iterations": 9, "episodes": 4, "minibatches": 2, "ptx_rows": 3})
    answers, counted = [5.0, 7.0], {"drawn": 0.0, "read": 0.0, "trained": 0.0}
    for round_, answer in enumerate([*answers, fmean(answers)]):
        for _ in range(config.episodes):
            counted["drawn"] += answer
            counted["read"] += 10  # its prompt, before the first token is drawn
            for _model in ("reward", "actor", "reference", "value"):
                counted["read"] += 10 + answer
            for _model in ("actor", "value") if round_ < len(answers) else ():
                counted["trained"] += 10 + answer
        counted["trained"] += config.minibatches * config.ptx_rows * 64 if round_ < len(answers) else 0
    assert of_sampling(config, 10.0, answers, 64) == Tokens(**counted)
    assert of_sampling(config.model_copy(update={"iterations": 2}), 10.0, answers, 64).drawn == 2 * 4 * 6.0, "the last one is trained on"


def test_tokens_of_comparisons_and_of_feedme_are_those_that_train_and_those_that_are_read(tmp_path: Path) -> None:
    by_name = {row.way: row.config for row in alignment.planned(TINY, tmp_path, {"kl": [], "beta": [0.1], "samples": [2]}, 0.02, ())}
    dpo, feedme, second = by_name["DPO"].policy, by_name["FeedME"].feedme, by_name["FeedME"].sft_start
    assert isinstance(dpo, PreferenceConfig)
    pair = {"prompt": "", "source": "s", "rater": "r", "completions": ["a", "b"], "ranks": [1, 2]}
    examples = [Example([1, 2], [3, 4]), Example([1, 2], [3, 4, 5])]  # 3 and 4 positions
    found = [Ranked(Comparison.model_validate({"id": split, "split": split, **pair}), examples) for split in ("reward", "test")]
    assert of_comparisons(dpo.model_copy(update={"epochs": 0.5}), found) == Tokens(read=14, trained=3.5)
    assert feedme is not None
    assert second is not None
    assert of_feedme(feedme.model_copy(update={"max_new_tokens": 8}), [3, 5]) == Tokens(drawn=32, read=2 * 2 * 8 + 32)
    assert of_sft(second.model_copy(update={"epochs": 2.0, "pretraining_share": 0.2}), [4, 6, 99], 10) == Tokens(trained=25.0)


def test_a_token_that_is_read_costs_a_third_of_one_that_is_trained_on(tmp_path: Path) -> None:
    base = alignment.planned(TINY, tmp_path, {"kl": [], "beta": [], "samples": [2]}, 0.02, ())[0].config.base
    assert isinstance(base, PretrainConfig)
    model = base.model.model_copy(update={"seq_len": 32})
    assert Tokens(trained=5).flops(model, 32) == 5 * model.flops_per_token()
    assert Tokens(drawn=6, read=9).flops(model, 32) == Tokens(trained=5).flops(model, 32) > Tokens(trained=5).flops(model, 8)
