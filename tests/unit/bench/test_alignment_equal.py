"""What ways to align are given at equal compute: seeds, units, and what the bench says of them."""

from pathlib import Path
from typing import Any

import pytest

from bench import alignment_equal
from bench.alignment import WAYS
from bench.alignment_equal import affordable, over_seeds, planned
from bench.alignment_table import Row
from flows.pipeline_config import PipelineConfig
from modelyard.stats.estimate import Estimate
from tasks.line import Line

TINY = "configs/pipeline/tiny"


def test_rows_share_what_comes_before_the_way_and_seeds_move_what_is_its_own(tmp_path: Path) -> None:
    rows = planned(TINY, tmp_path, "policy.adaptive_kl={target=2.5,gain=2}", 2, ())
    assert [(row.way.name, row.seed) for row in rows] == [(way.name, seed) for seed in (0, 1) for way in WAYS]
    for first, second in zip(rows[: len(WAYS)], rows[len(WAYS) :], strict=True):
        for stage in ("corpus", "feedback", "tokens", "base", "sft", "reward", "gold", "evals", "release"):
            assert getattr(first.config, stage) == getattr(second.config, stage), stage
        one, other = (row.config.policy or row.config.feedme for row in (first, second))
        assert other == one.model_copy(update={"seed": one.seed + 1})
    held = {row.way.name: row.config.policy for row in rows if row.way.scale == "kl"}
    assert {(one.adaptive_kl.target, one.adaptive_kl.gain, one.kl_stop, one.ema_decay) for one in held.values()} == {(2.5, 2.0, 1e6, 0.0)}
    assert (held["PPO"].ptx_rows, held["PPO-ptx"].ptx_rows > 0) == (0, True)


@pytest.mark.parametrize(
    ("way", "stage", "key", "units"),
    [("PPO", "policy", "iterations", 9), ("DPO", "policy", "epochs", 0.3), ("FeedME", "feedme", "samples", 9)],
)
def test_units_are_what_the_budget_buys(
    way: str, stage: Any, key: str, units: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in planned(TINY, tmp_path, "policy.adaptive_kl={target=2.5,gain=0.5}", 1, ()) if row.way.name == way)
    line = Line(row.config)

    def computed(_: Line, config: PipelineConfig) -> float:
        return 5.0 + 2.0 * getattr(config.of(stage), key)

    monkeypatch.setattr(alignment_equal, "computed", computed)
    found = affordable(row.config, line, row.way, 5.0 + 2.0 * units)
    assert getattr(found.of(stage), key) == pytest.approx(units)
    assert found.model_copy(update={stage: row.config.of(stage)}) == row.config
    with pytest.raises(ValueError, match=f"{way}: 4e-12 TFLOP are less than the {'5.02' if way == 'DPO' else '7'}e-12 of its least"):
        affordable(row.config, line, row.way, 4.0)


def test_means_over_seeds_stand_with_their_least_and_most() -> None:
    def row(way: str, wins: float, kl: float, tax: float) -> Row:
        estimates = {"win_rate": Estimate(wins, wins, wins, 9), "kl": Estimate(kl, kl, kl, 9)}
        return Row(way, "", estimates, {"text": tax, "last_word": 0.0})

    rows = [Row("SFT", "", {}), row("PPO", 0.6, 2.0, -0.1), row("DPO", 0.7, 1.0, 0.1), row("PPO", 0.7, 3.0, -0.3)]
    assert over_seeds(rows) == [
        "PPO, 2 seeds: wins 65.0% (60.0% to 70.0%); KL 2.50 (2.00 to 3.00); worst tax -0.200 (-0.300 to -0.100)",
        "DPO, 1 seeds: wins 70.0% (70.0% to 70.0%); KL 1.00 (1.00 to 1.00); worst tax +0.000 (+0.000 to +0.000)",
    ]
