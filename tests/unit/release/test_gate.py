"""The gates: a clean candidate is promoted, and every kind of bad or missing evidence stops it for the right reason."""

from collections.abc import Callable
from typing import Any

import pytest

from modelyard.estimate import Estimate
from modelyard.release.gate import Decision, Evidence, ReleaseConfig, Results, decide

CONFIG = ReleaseConfig(
    min_items=30,
    max_contaminated=0.05,
    forecast_tolerance=0.03,
    protected=("last_word", "human_eval"),
    tolerance={},
    alpha=0.05,
    max_toxicity=0.2,
    max_toxicity_increase=0.05,
    min_win_rate=0.6,
    max_kl=6.0,
    seed=0,
)
IDS = {"last_word": "id-1", "human_eval": "id-2"}


def results(words: list[float], weights: str = "policy-1", **metrics: Estimate) -> Results:
    known = {
        "evals/policy/toxicity": Estimate(0.02, 0.0, 0.06, 100),
        "evals/sft/toxicity": Estimate(0.01, 0.0, 0.05, 100),
        "evals/policy/win_rate_over_sft": Estimate(0.75, 0.66, 0.82, 100),
        "evals/policy/kl_to_sft": Estimate(4.0, 3.5, 4.5, 100),
    }
    known |= {key.replace("__", "/"): value for key, value in metrics.items()}
    scores = {"last_word": words, "human_eval": [0.0] * 60}
    rows = {
        name: [{"item": str(k), "score": s, "benchmark_id": IDS[name], "weights": weights} for k, s in enumerate(values)]
        for name, values in scores.items()
    }
    return Results(known, {"base": "base-1", "sft": "sft-1", "policy": weights}, IDS, rows)


GOOD = Evidence(
    results=results([1.0] * 30 + [0.0] * 70),
    weights={"base": "base-1", "sft": "sft-1", "policy": "policy-1"},
    suite={"success": True, "evaluated": 12, "failed": []},
    contamination={name: {"n": 100, "contaminated": 1, "share": 0.01} for name in (*IDS, "openings")},
    forecast={"prediction": 3.0, "low": 2.9, "high": 3.1},
    final_loss=3.02,
    baseline=results([1.0] * 30 + [0.0] * 70, weights="production-1"),
)


def verdict_of(decision: Decision, name: str) -> tuple[str, str]:
    (gate,) = [gate for gate in decision.gates if gate.name == name]
    return gate.verdict, gate.reason


def changed(**metrics: Any) -> Evidence:
    return GOOD._replace(results=results([1.0] * 30 + [0.0] * 70, **metrics))


def test_gate_clean_candidate_is_promoted() -> None:
    decision = decide(GOOD, CONFIG)

    assert decision.verdict == "PROMOTE", decision
    assert [gate.name for gate in decision.gates] == ["weights", "data", "contamination", "forecast", "regression", "safety", "preference"]
    assert {c.benchmark for c in decision.comparisons} == {"last_word", "human_eval"}


def test_gate_first_release_has_nothing_to_regress_from() -> None:
    decision = decide(GOOD._replace(baseline=None), CONFIG)

    assert decision.verdict == "PROMOTE"
    assert "first release" in verdict_of(decision, "regression")[1]


def test_gate_regression_is_blocked_and_names_wins_elsewhere() -> None:
    better_code = GOOD.results.records["human_eval"]
    new = results([1.0] * 15 + [0.0] * 85)
    new = new._replace(records={**new.records, "human_eval": [{**row, "score": 1.0} for row in better_code]})

    decision = decide(GOOD._replace(results=new), CONFIG)

    verdict, reason = verdict_of(decision, "regression")
    assert (decision.verdict, verdict) == ("BLOCK", "BLOCK")
    assert "last_word -0.1500" in reason
    assert "15 items lost" in reason
    assert "better on human_eval" in reason


@pytest.mark.parametrize("key", ["evals/policy/toxicity", "evals/sft/toxicity", "evals/policy/win_rate_over_sft", "evals/policy/kl_to_sft"])
def test_gate_missing_metric_never_passes(key: str) -> None:
    metrics = {name: value for name, value in GOOD.results.metrics.items() if name != key}

    decision = decide(GOOD._replace(results=GOOD.results._replace(metrics=metrics)), CONFIG)

    assert decision.verdict == "BLOCK"
    assert any(f"{key} is missing" in gate.reason for gate in decision.gates)


@pytest.mark.parametrize("key", ["evals__policy__toxicity", "evals__policy__win_rate_over_sft", "evals__policy__kl_to_sft"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Estimate(float("nan"), 0.0, 1.0, 100), "not a finite number"),
        (Estimate(0.9, float("nan"), 1.0, 100), "not a finite number"),
        (Estimate(0.9, 0.9, float("inf"), 100), "not a finite number"),
        (Estimate(0.9, 0.9, 0.9, 29), "fewer than 30"),
        (Estimate(0.9, 0.95, 0.99, 100), "outside its own interval"),
    ],
)
def test_gate_unusable_metric_never_passes(key: str, bad: Estimate, message: str) -> None:
    decision = decide(changed(**{key: bad}), CONFIG)

    assert decision.verdict == "BLOCK"
    assert any(message in gate.reason for gate in decision.gates)


@pytest.mark.parametrize("name", ["last_word", "openings"])
def test_gate_contamination_check_of_no_items_is_blocked(name: str) -> None:
    assert GOOD.contamination is not None
    unchecked = {**GOOD.contamination, name: {"n": 0, "contaminated": 0, "share": 0.0}}
    without = {key: value for key, value in GOOD.contamination.items() if key != name}

    for report in (unchecked, without):
        assert verdict_of(decide(GOOD._replace(contamination=report), CONFIG), "contamination")[0] == "BLOCK"


@pytest.mark.parametrize("model", ["base", "sft", "policy"])
def test_gate_foreign_weights_are_blocked(model: str) -> None:
    other = decide(GOOD._replace(weights={**GOOD.weights, model: "someone-elses"}), CONFIG)
    missing = decide(GOOD._replace(weights={k: v for k, v in GOOD.weights.items() if k != model}), CONFIG)

    assert verdict_of(other, "weights")[0] == "BLOCK"
    assert f"other {model} weights" in verdict_of(other, "weights")[1]
    assert verdict_of(missing, "weights")[0] == "BLOCK"


def test_gate_records_of_foreign_weights_are_blocked() -> None:
    rows = {**GOOD.results.records, "last_word": [{**row, "weights": "other"} for row in GOOD.results.records["last_word"]]}

    decision = decide(GOOD._replace(results=GOOD.results._replace(records=rows)), CONFIG)

    assert verdict_of(decision, "regression")[0] == "BLOCK"


def test_gate_stale_baseline_of_another_benchmark_id_is_held() -> None:
    assert GOOD.baseline is not None
    stale = GOOD.baseline._replace(benchmarks={**IDS, "last_word": "id-0"})

    decision = decide(GOOD._replace(baseline=stale), CONFIG)

    assert verdict_of(decision, "regression")[0] == "HOLD"
    assert "another benchmark id (id-0, now id-1)" in verdict_of(decision, "regression")[1]


def test_gate_too_few_items_to_compare_is_blocked() -> None:
    decision = decide(GOOD, CONFIG.model_copy(update={"min_items": 61}))

    assert verdict_of(decision, "regression") == ("BLOCK", "not enough items to compare on: human_eval")


CASES: dict[str, tuple[Callable[[], Evidence], str, str]] = {
    "forecast_miss": (lambda: GOOD._replace(final_loss=3.3), "forecast", "HOLD"),
    "forecast_missing": (lambda: GOOD._replace(forecast=None), "forecast", "BLOCK"),
    "forecast_nan": (lambda: GOOD._replace(forecast={"prediction": float("nan"), "low": 1.0, "high": 2.0}), "forecast", "BLOCK"),
    "final_loss_missing": (lambda: GOOD._replace(final_loss=None), "forecast", "BLOCK"),
    "suite_missing": (lambda: GOOD._replace(suite=None), "data", "BLOCK"),
    "suite_failed": (lambda: GOOD._replace(suite={"success": False, "evaluated": 3, "failed": ["unique ids"]}), "data", "BLOCK"),
    "suite_empty": (lambda: GOOD._replace(suite={"success": True, "evaluated": 0, "failed": []}), "data", "BLOCK"),
    "contamination_missing": (lambda: GOOD._replace(contamination=None), "contamination", "BLOCK"),
    "benchmark_unchecked": (lambda: GOOD._replace(contamination={"last_word": {"n": 1, "share": 0.0}}), "contamination", "BLOCK"),
    "contaminated": (lambda: GOOD._replace(contamination={name: {"n": 100, "share": 0.2} for name in IDS}), "contamination", "BLOCK"),
    "toxic": (lambda: changed(evals__policy__toxicity=Estimate(0.15, 0.1, 0.21, 100)), "safety", "BLOCK"),
    "more_toxic_than_sft": (lambda: changed(evals__policy__toxicity=Estimate(0.08, 0.05, 0.12, 100)), "safety", "BLOCK"),
    "win_not_shown": (lambda: changed(evals__policy__win_rate_over_sft=Estimate(0.66, 0.59, 0.72, 100)), "preference", "HOLD"),
    "win_bought_with_kl": (lambda: changed(evals__policy__kl_to_sft=Estimate(5.9, 5.5, 6.3, 100)), "preference", "HOLD"),
    "negative_kl": (lambda: changed(evals__policy__kl_to_sft=Estimate(-0.5, -0.7, -0.3, 100)), "preference", "BLOCK"),
}


@pytest.mark.parametrize("case", CASES)
def test_gate_bad_evidence_is_stopped_by_its_gate_alone(case: str) -> None:
    evidence, name, expected = CASES[case]

    decision = decide(evidence(), CONFIG)

    assert verdict_of(decision, name)[0] == decision.verdict == expected, decision
    assert [gate.name for gate in decision.gates if gate.verdict != "PROMOTE"] == [name]
