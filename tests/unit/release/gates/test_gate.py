"""The gates: a clean candidate is promoted, and every kind of bad or missing evidence stops it for the right reason."""

from collections.abc import Callable
from datetime import date
from typing import get_args

import pytest

from modelyard.formats.forecast import SealedBucket
from modelyard.release.gates.gate import Evidence, Use
from modelyard.release.limits import GateName, Override
from modelyard.release.verdict import decide, decide_early
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import (
    CONFIG,
    FEEDBACK,
    FORECAST,
    GOOD,
    IDS,
    ITEMS,
    REPORT,
    changed,
    measured,
    records,
    results,
    scores,
    searched,
    verdict_of,
    with_records,
)

DAY = date(2026, 12, 31)


def forecast(**values: object) -> Evidence:
    return GOOD._replace(forecast=FORECAST.model_copy(update=values))


def test_gate_clean_candidate_is_promoted() -> None:
    decision = decide(GOOD, CONFIG)

    assert decision.verdict == "PROMOTE", decision
    assert [gate.name for gate in decision.gates] == [name for name in get_args(GateName) if name not in ("sign_off", "vision")]
    assert {c.benchmark for c in decision.comparisons} == {"last_word", "human_eval"}


def test_gate_first_release_has_nothing_to_regress_from() -> None:
    held = decide(GOOD._replace(baseline=None), CONFIG)
    decision = decide(GOOD._replace(baseline=None), CONFIG.model_copy(update={"first": True}))

    assert (held.verdict, verdict_of(held, "regression")[0]) == ("HOLD", "HOLD"), "an empty registry may be the wrong one"
    assert "release.first = true" in verdict_of(held, "regression")[1]

    assert decision.verdict == "PROMOTE"
    assert "first release" in verdict_of(decision, "regression")[1]


def test_gate_regression_is_blocked_and_names_wins_elsewhere() -> None:
    better_code = [{**row, "score": 1.0} for row in GOOD.results.of("policy")["human_eval"]]
    new = with_records(results(scores(15)), "policy", {"human_eval": better_code})

    decision = decide(GOOD._replace(results=new), CONFIG)

    verdict, reason = verdict_of(decision, "regression")
    assert (decision.verdict, verdict) == ("BLOCK", "BLOCK")
    assert "last_word -0.1500" in reason
    assert "15 items lost" in reason
    assert "better on human_eval" in reason


@pytest.mark.parametrize(
    "key",
    [
        "evals/policy/toxicity/toxicity",
        "evals/sft/toxicity/toxicity",
        "evals/policy/openings/win_rate_over_sft",
        "evals/policy/openings/kl_to_sft",
    ],
)
def test_gate_missing_metric_never_passes(key: str) -> None:
    metrics = {name: value for name, value in GOOD.results.metrics.items() if name != key}

    decision = decide(GOOD._replace(results=GOOD.results._replace(metrics=metrics)), CONFIG)

    assert decision.verdict == "BLOCK"
    assert any(f"{key} is missing" in gate.reason for gate in decision.gates)


@pytest.mark.parametrize("key", ["policy__toxicity__toxicity", "policy__openings__win_rate_over_sft", "policy__openings__kl_to_sft"])
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


def test_gate_results_that_contradict_their_records_are_refused() -> None:
    found = verdict_of(decide(GOOD._replace(contradiction="evals/policy/last_word/acc is 1"), CONFIG), "metrics")

    assert found == ("BLOCK", "results contradict their records: evals/policy/last_word/acc is 1")


@pytest.mark.parametrize("model", ["base", "sft", "policy"])
def test_gate_foreign_weights_are_blocked(model: str) -> None:
    other = decide(GOOD._replace(weights={**GOOD.weights, model: "someone-elses"}), CONFIG)
    missing = decide(GOOD._replace(weights={k: v for k, v in GOOD.weights.items() if k != model}), CONFIG)

    assert verdict_of(other, "weights")[0] == "BLOCK"
    assert f"other {model} weights" in verdict_of(other, "weights")[1]
    assert verdict_of(missing, "weights")[0] == "BLOCK"


def test_gate_records_of_foreign_weights_are_blocked() -> None:
    rows = [{**row, "weights": "other"} for row in GOOD.results.of("policy")["last_word"]]

    decision = decide(GOOD._replace(results=with_records(GOOD.results, "policy", {"last_word": rows})), CONFIG)

    assert verdict_of(decision, "regression")[0] == "BLOCK"


def test_gate_stale_baseline_of_another_benchmark_id_is_held() -> None:
    assert GOOD.baseline is not None
    stale = GOOD.baseline._replace(benchmarks=measured({**IDS, "last_word": "id-0"}))

    decision = decide(GOOD._replace(baseline=stale), CONFIG)

    assert verdict_of(decision, "regression")[0] == "HOLD"
    assert "another benchmark id (id-0, now id-1)" in verdict_of(decision, "regression")[1]


def test_gate_too_few_items_to_compare_is_blocked() -> None:
    decision = decide(GOOD, CONFIG.model_copy(update={"min_items": 61}))

    assert verdict_of(decision, "regression") == ("BLOCK", "not enough items to compare on: human_eval")


def test_gate_forecast_says_what_speaks_against_the_law() -> None:
    evidence = GOOD._replace(forecast=FORECAST.model_copy(update={"objection": "the runs fall faster"}))

    assert verdict_of(decide(evidence, CONFIG), "forecast")[1].endswith("; the runs fall faster")


@pytest.mark.parametrize(
    ("objection", "nats", "verdict", "reason"),
    [
        ("", 1.1, "PROMOTE", "last_word: 1 of 1 buckets as forecast"),
        (
            "",
            1.5,
            "HOLD",
            "last_word: 0 of 1 buckets as forecast; bucket 2 of last_word: forecast 1.0000 [0.8000, 1.2000], measured 1.5000",
        ),
        ("falls faster", 1.5, "PROMOTE", "last_word: no bucket follows a law"),
    ],
)
def test_gate_forecast_of_right_answers_holds_where_a_law_was_claimed_and_missed(
    objection: str, nats: float, verdict: str, reason: str
) -> None:
    law = {"prediction": 1.0, "low": 0.8, "high": 1.2, "a": 1.0, "b": -0.1, "c": 0.0, "points": FORECAST.points, "objection": objection}
    bucket = SealedBucket.model_validate({**law, "benchmark": "last_word", "bucket": 1, "problems": ("3", "5")})
    rows = [{**row, "values": {"nats": nats}} for row in records("last_word", scores(30), "base-1")]
    evidence = forecast(buckets=(bucket,))._replace(results=with_records(GOOD.results, "base", {"last_word": rows}))

    assert verdict_of(decide(evidence, CONFIG), "forecast")[0] == verdict
    assert verdict_of(decide(evidence, CONFIG), "forecast")[1].endswith(reason)
    unasked = evidence._replace(results=with_records(GOOD.results, "base", {"last_word": rows[:4]}))
    assert verdict_of(decide(unasked, CONFIG), "forecast") == ("BLOCK", "last_word: item 5, which the forecast is of, was not asked")


CASES: dict[str, tuple[Callable[[], Evidence], str, str]] = {
    "forecast_miss": (lambda: GOOD._replace(final_loss=3.3), "forecast", "HOLD"),
    "forecast_sealed_late": (lambda: GOOD._replace(sealed_at=1001.5), "forecast", "BLOCK"),
    "forecast_never_sealed": (lambda: GOOD._replace(sealed_at=None), "forecast", "BLOCK"),
    "forecast_of_another_run": (lambda: forecast(at_compute=1.01e14), "forecast", "BLOCK"),
    "base_start_missing": (lambda: GOOD._replace(base={"started": None, "flops": 1e14}), "forecast", "BLOCK"),
    "base_run_missing": (lambda: GOOD._replace(base=None), "forecast", "BLOCK"),
    "forecast_missing": (lambda: GOOD._replace(forecast=None), "forecast", "BLOCK"),
    "final_loss_missing": (lambda: GOOD._replace(final_loss=None), "forecast", "BLOCK"),
    "suite_missing": (lambda: GOOD._replace(suite=None), "data", "BLOCK"),
    "suite_failed": (lambda: GOOD._replace(suite={"success": False, "evaluated": 3, "failed": ["unique ids"]}), "data", "BLOCK"),
    "suite_empty": (lambda: GOOD._replace(suite={"success": True, "evaluated": 0, "failed": []}), "data", "BLOCK"),
    "metric_suite_missing": (lambda: GOOD._replace(metric_suite=None), "metrics", "BLOCK"),
    "metric_suite_failed": (
        lambda: GOOD._replace(metric_suite={"success": False, "evaluated": 3, "failed": ["metric_has_items"]}),
        "metrics",
        "BLOCK",
    ),
    "contamination_missing": (lambda: GOOD._replace(contamination=None), "contamination", "BLOCK"),
    "benchmark_unchecked": (lambda: GOOD._replace(contamination={"last_word": REPORT["last_word"]}), "contamination", "BLOCK"),
    "corpus_of_a_model_unknown": (lambda: GOOD._replace(trained=(Use("sft", "demonstrations", None),)), "contamination", "BLOCK"),
    "training_sets_unknown": (lambda: GOOD._replace(trained=()), "contamination", "BLOCK"),
    "another_corpus_searched": (lambda: GOOD._replace(searched=("corpus/another", FEEDBACK)), "contamination", "BLOCK"),
    "production_unmeasured": (lambda: GOOD._replace(baseline=None, unmeasured="its files are gone"), "regression", "HOLD"),
    "taxed": (
        lambda: GOOD._replace(results=with_records(GOOD.results, "base", {"last_word": records("last_word", scores(60), "base-1")})),
        "alignment_tax",
        "HOLD",
    ),
    "base_records_missing": (
        lambda: GOOD._replace(results=with_records(GOOD.results, "base", {"last_word": []})),
        "alignment_tax",
        "BLOCK",
    ),
    "base_records_of_other_weights": (
        lambda: GOOD._replace(results=with_records(GOOD.results, "base", {"last_word": records("last_word", scores(30), "other")})),
        "alignment_tax",
        "BLOCK",
    ),
    "uncalibrated": (lambda: changed(policy__next_token__calibration_error=Estimate(0.1, 0.05, 0.21, 100)), "calibration", "HOLD"),
    "less_calibrated_than_base": (
        lambda: changed(policy__next_token__calibration_error=Estimate(0.15, 0.1, 0.19, 100)),
        "calibration",
        "HOLD",
    ),
    "contaminated": (
        lambda: GOOD._replace(contamination={name: searched(n, content=20) for name, n in ITEMS.items()}),
        "contamination",
        "BLOCK",
    ),
    "toxic": (lambda: changed(policy__toxicity__toxicity=Estimate(0.15, 0.1, 0.21, 100)), "safety", "BLOCK"),
    "more_toxic_than_sft": (lambda: changed(policy__toxicity__toxicity=Estimate(0.08, 0.05, 0.12, 100)), "safety", "BLOCK"),
    "win_not_shown": (lambda: changed(policy__openings__win_rate_over_sft=Estimate(0.66, 0.59, 0.72, 100)), "preference", "HOLD"),
    "win_bought_with_kl": (lambda: changed(policy__openings__kl_to_sft=Estimate(5.9, 5.5, 6.3, 100)), "preference", "HOLD"),
    "negative_kl": (lambda: changed(policy__openings__kl_to_sft=Estimate(-0.5, -0.7, -0.3, 100)), "preference", "BLOCK"),
}


@pytest.mark.parametrize("case", CASES)
def test_gate_bad_evidence_is_stopped_by_its_gate_alone(case: str) -> None:
    evidence, name, expected = CASES[case]

    decision = decide(evidence(), CONFIG)

    assert verdict_of(decision, name)[0] == decision.verdict == expected, decision
    assert [gate.name for gate in decision.gates if gate.verdict != "PROMOTE"] == [name]


@pytest.mark.parametrize("case", [name for name, (_, gate, _) in CASES.items() if gate != "weights"])
def test_gate_override_lets_the_release_go_on_and_stays_on_the_record(case: str) -> None:
    evidence, name, expected = CASES[case]
    override = Override(gate=name, name="Ada Lovelace", reason="looked at by hand", expires=DAY)

    decision = decide(evidence(), CONFIG.model_copy(update={"overrides": (override,)}))

    (gate,) = [gate for gate in decision.gates if gate.override]
    assert decision.verdict == "PROMOTE"
    assert (gate.name, gate.verdict, gate.override) == (name, expected, override)


@pytest.mark.parametrize(
    ("suite", "report", "blocking"),
    [
        (GOOD.suite, REPORT, []),
        (None, REPORT, ["data"]),
        (GOOD.suite, None, ["contamination"]),
        (GOOD.suite, {**REPORT, "openings": searched(100, content=20)}, ["contamination"]),
        (GOOD.suite, {**REPORT, "openings": searched(3)}, ["contamination"]),
    ],
)
def test_gate_early_stops_what_the_data_alone_will_block(suite: dict | None, report: dict | None, blocking: list[str]) -> None:
    gates = decide_early(suite, report, CONFIG)

    assert [gate.name for gate in gates] == ["data", "contamination"]
    assert [gate.name for gate in gates if gate.standing == "BLOCK"] == blocking
    late = decide(GOOD._replace(suite=suite, contamination=report), CONFIG)
    assert [gate.name for gate in late.gates if gate.verdict == "BLOCK"] == blocking
