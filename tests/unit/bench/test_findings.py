"""What the bench of findings plans, writes for the corpus and makes of its scores."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from bench import findings, findings_report
from bench.lines import Progress
from modelyard.data.feedback.tasks import questions
from modelyard.formats.results import Results
from modelyard.stats.estimate import Estimate


def seed_scores(**changed: float) -> dict[str, float]:
    """One seed in which nothing differs but what is ``changed``: ``ppo_policy_pass_at_1``."""
    models = ("ppo/base", "ppo/sft", "ppo/policy", "grpo/sft", "grpo/policy", "weak/base", "weak/sft", "no-code/base", "no-code/sft")
    scores = {f"{model}/{metric}": 0.5 for model in models for metric in findings_report.METRICS}
    for key, value in changed.items():
        run, model, metric = key.split("_", 2)
        scores[f"{run}/{model}/{metric}"] = value
    return scores


@pytest.mark.parametrize("tiny", [False, True])
def test_runs_of_a_seed_share_what_a_finding_holds_equal(tmp_path: Path, tiny: bool) -> None:
    runs = {run.name: run.config for run in findings.planned(tmp_path, 2, 1, tiny) if run.seed == findings.FIRST_SEED}
    ppo, grpo, weak, no_code = (runs[name] for name in ("ppo", "grpo", "weak", "no-code"))
    assert (ppo.base, ppo.sft, ppo.tokens, ppo.reward) == (grpo.base, grpo.sft, grpo.tokens, grpo.reward)
    assert [one.policy.algorithm if one.policy else None for one in (ppo, grpo, weak, no_code)] == ["ppo", "grpo", None, None]
    shared = ("iterations", "episodes", "minibatches", "rewards", "reward_weight", "kl_coef", "optimizer", "seed")
    differing = [key for key in shared if getattr(ppo.policy, key) != getattr(grpo.policy, key)]
    assert differing == ["optimizer"]  # the warm-up's start alone, which is each recipe's own
    assert weak.base.model_dump(exclude={"steps", "optimizer"}) == ppo.base.model_dump(exclude={"steps", "optimizer"})
    assert weak.base.steps * 2 < ppo.base.steps
    assert (weak.sft, weak.tokens) == (ppo.sft, ppo.tokens)
    assert (no_code.sft, no_code.base) == (ppo.sft, ppo.base)
    assert no_code.tokens.model_copy(update={"mixture": ppo.tokens.mixture}) == ppo.tokens
    with_code, without = ppo.tokens.mixture, no_code.tokens.mixture
    assert without["code"].weight == 0 < with_code["code"].weight
    assert without["sums"] == with_code["sums"]
    assert math.fsum(share.weight for share in without.values()) == pytest.approx(math.fsum(share.weight for share in with_code.values()))


def test_seeds_are_told_apart_in_every_stage_that_draws(tmp_path: Path) -> None:
    first, second = (run.config for run in findings.planned(tmp_path, 2, 1, tiny=True) if run.name == "ppo")
    for stage in ("base", "sft", "reward", "policy"):
        assert getattr(first, stage).seed != getattr(second, stage).seed


def test_sums_of_the_corpus_are_right_and_none_that_the_task_asks(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    config = findings.planned(tmp_path, 1, 1, tiny=True)[0].config
    findings.write_sums(config, tmp_path / "inputs" / "sums.jsonl")
    texts = [json.loads(line)["text"] for line in (tmp_path / "inputs" / "sums.jsonl").read_text().splitlines()]
    asked = {question.prompt for question in questions(config.feedback.tasks[0])}
    assert len(texts) == len(set(texts)) > 5000
    for text in texts:
        left, _, right = text.partition("=")
        assert eval(left) == int(right)
        assert f"{left}=" not in asked


def test_scores_of_a_line_that_ends_with_sft_are_its_sft_models() -> None:
    metrics = {
        f"evals/{model}/answers/{metric}": Estimate(at, 0, 1, 9)
        for model, at in (("base", 0.1), ("policy", 0.2))
        for metric in findings_report.METRICS
    }
    results = Results(metrics, {}, {}, {"base": {}, "policy": {}})
    assert findings.scores_of(results)["sft/pass_at_1"] == 0.2
    assert "policy/pass_at_1" not in findings.scores_of(results)


def test_mean_over_seeds_has_students_interval() -> None:
    values = [0.1, 0.25, 0.15, 0.3]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = findings_report.over_seeds(values)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((np.mean(values), expected.low, expected.high, 4))
    assert math.isnan(findings_report.over_seeds([0.1]).low)


@pytest.mark.parametrize(
    ("low", "high", "sign", "said"),
    [
        (0.01, 0.2, 1, "appears"),
        (0.0, 0.2, 1, "does not appear at this size"),
        (-0.1, 0.2, 1, "does not appear at this size"),
        (-0.2, -0.1, 1, "the opposite appears"),
        (-0.2, -0.1, -1, "appears"),
        (0.1, 0.2, -1, "the opposite appears"),
        (math.nan, math.nan, -1, "one seed says nothing"),
    ],
)
def test_verdict_is_by_the_side_on_which_the_whole_interval_lies(low: float, high: float, sign: int, said: str) -> None:
    assert findings_report.verdict(Estimate((low + high) / 2, low, high, 3), sign) == said


def test_claims_are_paired_by_seed(tmp_path: Path) -> None:
    raised = {
        11: seed_scores(ppo_policy_pass_at_1=0.6, ppo_policy_pass_at_100=0.41, weak_sft_pass_at_1=0.8, ppo_sft_pass_at_1=0.5),
        12: seed_scores(ppo_policy_pass_at_1=0.7, ppo_policy_pass_at_100=0.39, weak_sft_pass_at_1=0.9, ppo_sft_pass_at_1=0.6),
        13: seed_scores(ppo_policy_pass_at_1=0.9, ppo_policy_pass_at_100=0.40, weak_sft_pass_at_1=0.7, ppo_sft_pass_at_1=0.8),
    }
    found = {one.claim.says: one for one in findings_report.judged(raised)}
    assert found["PPO after SFT raises pass@1"].differences == pytest.approx([0.1, 0.1, 0.1])
    assert found["PPO after SFT raises pass@1"].verdict == "appears"
    assert found["PPO after SFT lowers pass@100"].verdict == "appears"
    assert found["GRPO after SFT raises pass@1"].verdict == "does not appear at this size"
    assert found["pass@1 gained from the weak base less that from the strong one"].differences == pytest.approx([0.3, 0.3, -0.1])
    findings_report.plot(raised, tmp_path / "findings.png")
    assert (tmp_path / "findings.png").read_bytes().startswith(b"\x89PNG")


def test_progress_knows_what_is_left_only_when_every_kind_of_run_was_timed() -> None:
    progress = Progress(["ppo", "weak", "ppo", "weak"])
    assert progress.before(0, "ppo, seed 11") == "1 of 4: ppo, seed 11; 0.0 min so far, no ppo timed yet"
    progress.took["ppo"] = 120.0
    assert progress.before(1, "weak, seed 11").endswith("no weak timed yet")
    progress.took["weak"] = 60.0
    assert progress.before(2, "ppo, seed 12").endswith("about 3 min left")
