"""The gates: a clean candidate is promoted, and every kind of bad or missing evidence stops it for the right reason."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, get_args

import pytest

from modelyard.formats.contamination import Checked, Searched
from modelyard.release.gates.gate import Decision, Evidence, Use
from modelyard.release.limits import BenchmarkLimits, GateName, Override, ReleaseConfig
from modelyard.release.verdict import decide, decide_early
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import (
    CONFIG,
    CORPUS,
    FEEDBACK,
    FORECAST,
    GOOD,
    IDS,
    ITEMS,
    REPORT,
    SETS,
    measured,
    records,
    results,
    scores,
    searched,
    with_records,
)

DAY = date(2026, 12, 31)
OVERRIDE = {"gate": "forecast", "name": "Ada", "reason": "the ladder had another mix", "expires": DAY}
INVISIBLE = (
    "\u200b",
    "A\u200bda",
    "Ada\n",
    "Ada\x1b[2J",
    "Ada\0",
    "\u202eadA",
    "\u3164",
    "\u2800",
    "\u2066Ada",
    "A\u200dda",
    "Ada\t",
    "x" * 2001,
)
"""Texts that a page, a terminal or a person shows otherwise than they were written."""


def verdict_of(decision: Decision, name: str) -> tuple[str, str]:
    (gate,) = [gate for gate in decision.gates if gate.name == name]
    return gate.verdict, gate.reason


def changed(**metrics: Any) -> Evidence:
    return GOOD._replace(results=results(scores(30), **metrics))


def forecast(**values: float | None) -> Evidence:
    return GOOD._replace(forecast=FORECAST.model_copy(update=values))


def test_gate_clean_candidate_is_promoted() -> None:
    decision = decide(GOOD, CONFIG)

    assert decision.verdict == "PROMOTE", decision
    assert [gate.name for gate in decision.gates] == [name for name in get_args(GateName) if name != "sign_off"]
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


@pytest.mark.parametrize("name", ["last_word", "openings"])
def test_gate_contamination_check_of_no_items_is_blocked(name: str) -> None:
    assert GOOD.contamination is not None
    unchecked = {**GOOD.contamination, name: searched(0)}
    without = {key: value for key, value in GOOD.contamination.items() if key != name}

    for report in (unchecked, without):
        assert verdict_of(decide(GOOD._replace(contamination=report), CONFIG), "contamination")[0] == "BLOCK"


def test_gate_contamination_by_content_decides_and_as_written_where_it_is_limited() -> None:
    spelled, written = ({**REPORT, "last_word": searched(100, content=c, written=w)} for c, w in ((9, 0), (1, 9)))
    limited = CONFIG.model_copy(update={"max_contaminated_written": 0.05})

    def decided(report: dict[str, Checked], config: ReleaseConfig) -> Decision:
        words = contaminated(list(GOOD.results.of("policy")["last_word"]), range(len(report["last_word"].content)))
        results = with_records(GOOD.results, "policy", {"last_word": words})
        return decide(GOOD._replace(results=results, contamination=report), config)

    verdict, reason = verdict_of(decided(spelled, CONFIG), "contamination")
    assert (verdict, reason) == ("BLOCK", "worst share 9.0% (last_word), at most 5.0% allowed; as written 0.0%")
    decision = decided(written, CONFIG)
    assert verdict_of(decision, "contamination")[0] == "PROMOTE"
    [gate] = [gate for gate in decision.gates if gate.name == "contamination"]
    assert (gate.metrics["release/contamination/last_word"], gate.metrics["release/contamination/last_word/written"]) == (0.01, 0.09)
    verdict, reason = verdict_of(decided(written, limited), "contamination")
    assert (verdict, reason[-36:]) == ("BLOCK", "as written 9.0%, at most 5.0% allowed"[-36:])


@pytest.mark.parametrize(
    ("entry", "records"),
    [
        (searched(10**18), "names 0 of 1000000000000000000 items of last_word as contaminated, its records 2 of 100"),
        (searched(99, content=2), "names 2 of 99 items of last_word as contaminated, its records other 2 of 100"),
        (searched(100), "names 0 of 100 items of last_word as contaminated, its records 2 of 100"),
        (searched(100, content=3), "names 3 of 100 items of last_word as contaminated, its records 2 of 100"),
        (
            searched(100).model_copy(update={"content": ("0", "7")}),
            "names 2 of 100 items of last_word as contaminated, its records other 2",
        ),
    ],
)
def test_gate_contamination_that_contradicts_the_records_is_refused(entry: Checked, records: str) -> None:
    words = contaminated(list(GOOD.results.of("policy")["last_word"]), range(2))
    evidence = GOOD._replace(results=with_records(GOOD.results, "policy", {"last_word": words}))
    good = {**REPORT, "last_word": searched(100, content=2)}

    verdict, reason = verdict_of(decide(evidence._replace(contamination={**REPORT, "last_word": entry}), CONFIG), "contamination")

    assert verdict_of(decide(evidence._replace(contamination=good), CONFIG), "contamination")[0] == "PROMOTE"
    assert verdict == "BLOCK"
    assert records in reason


def test_gate_results_that_contradict_their_records_are_refused() -> None:
    found = verdict_of(decide(GOOD._replace(contradiction="evals/policy/last_word/acc is 1"), CONFIG), "metrics")

    assert found == ("BLOCK", "results contradict their records: evals/policy/last_word/acc is 1")


@pytest.mark.parametrize("missing", SETS)
@pytest.mark.parametrize("entry", [None, Searched(documents=0)])
def test_gate_training_set_that_was_not_searched_is_refused_by_name(missing: str, entry: Searched | None) -> None:
    sets = {name: found for name, found in {**SETS, missing: entry}.items() if found is not None}
    report = {**REPORT, "last_word": searched(100).model_copy(update={"sets": sets})}

    verdict, reason = verdict_of(decide(GOOD._replace(contamination=report), CONFIG), "contamination")

    assert verdict == "BLOCK"
    assert f"{missing}, which " in reason
    assert "not searched for items of last_word" in reason


def test_gate_model_of_other_data_than_searched_is_refused() -> None:
    trained = (*GOOD.trained, Use("gold", "gold_comparisons", "feedback/other"))

    verdict, reason = verdict_of(decide(GOOD._replace(trained=trained), CONFIG), "contamination")

    assert (verdict, reason) == ("BLOCK", f"gold was trained on feedback/other, but {CORPUS} and {FEEDBACK} was searched")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"limits": {"mmlu": BenchmarkLimits()}}, r"release.limits.mmlu: 'mmlu' is none of evals.benchmarks \(last_word, openings\)"),
        ({"preference": "prompts"}, "release.preference: 'prompts' is none of"),
        ({"calibration": ("next_token", "mmlu")}, "release.calibration: 'mmlu' is none of"),
    ],
)
def test_release_config_unknown_benchmark_is_refused(changed: dict, message: str) -> None:
    config = CONFIG.model_copy(update={"limits": {}, **changed})

    with pytest.raises(ValueError, match=message):
        config.require_measured(["last_word", "openings"])


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


def test_gate_override_covers_its_own_gate_alone() -> None:
    override = Override(gate="forecast", name="Ada Lovelace", reason="known", expires=DAY)
    config = CONFIG.model_copy(update={"overrides": (override,)})
    toxic = changed(policy__toxicity__toxicity=Estimate(0.15, 0.1, 0.21, 100))

    assert decide(toxic._replace(final_loss=3.3), config).verdict == "BLOCK"
    assert all(gate.override is None for gate in decide(GOOD, config).gates)  # nothing to set aside, nothing shown


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"reason": "  "},
        {"reason": None},
        {"gate": "weights"},
        {"gate": "forcast"},
        {"expires": None},
        {"expires": "soon"},
        *({key: text} for key in ("name", "reason") for text in INVISIBLE),
    ],
)
def test_gate_override_without_a_name_a_reason_or_a_gate_is_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="overrides"):
        type(CONFIG).model_validate(
            {**CONFIG.model_dump(), "overrides": [{key: value for key, value in {**OVERRIDE, **bad}.items() if value is not None}]}
        )


@pytest.mark.parametrize("name", ["Ada Lovelace", "N. O'Brien-Smith 2", "王小明", "क्\u200dषमा", "José", "Zoe\u0308"])
def test_gate_override_takes_names_of_every_script(name: str) -> None:
    assert Override.model_validate({**OVERRIDE, "name": f" {name} "}).name == name


def test_gate_override_that_has_expired_or_never_does_is_refused_on_the_day() -> None:
    def config(expires: date) -> ReleaseConfig:
        return CONFIG.model_copy(update={"overrides": (Override.model_validate({**OVERRIDE, "expires": expires}),)})

    config(DAY).require_current(DAY)
    config(DAY).require_current(DAY - timedelta(days=366))
    with pytest.raises(ValueError, match=r"release.overrides.0.expires: Ada's override of forecast expired on 2026-12-31"):
        config(DAY).require_current(DAY + timedelta(days=1))
    with pytest.raises(ValueError, match="more than a year away"):
        config(DAY).require_current(DAY - timedelta(days=367))


@pytest.mark.parametrize(
    ("empty", "key"),
    [
        ({"min_items": 1}, "min_items 1: so few items can never be significantly worse"),
        ({"alpha": 1e-300}, "alpha"),
        ({"min_items": 14, "alpha": 1e-4}, "min_items 14"),
        ({"limits": {"last_word": {"min_items": 2}}}, "limits.last_word.min_items 2"),
        ({"tolerance": 1e308}, "tolerance"),
        ({"limits": {"last_word": {"tolerance": 1e308}}}, "limits.last_word.tolerance"),
        ({"max_alignment_tax": 1.0}, "max_alignment_tax"),
        ({"max_contaminated": 1.0}, "max_contaminated"),
        ({"forecast_tolerance": 1e308}, "forecast_tolerance"),
        ({"max_kl": 1e308}, "max_kl"),
        ({"max_calibration_error": 1.0}, "max_calibration_error"),
        ({"max_calibration_increase": 1.0}, "max_calibration_increase"),
    ],
)
def test_gate_limits_that_no_model_could_miss_are_refused_when_they_are_read(empty: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        ReleaseConfig.model_validate({**CONFIG.model_dump(), **empty})


def test_gate_limits_that_the_scores_show_to_be_empty_are_refused_or_named_by_their_gate() -> None:
    def limits(**own: object) -> ReleaseConfig:
        return CONFIG.model_copy(update={"limits": {**CONFIG.limits, "last_word": BenchmarkLimits.model_validate(own)}})

    key = "evals/policy/last_word/acc"
    shared = GOOD._replace(results=GOOD.results._replace(shares=frozenset({key})))

    assert verdict_of(decide(GOOD, limits(tolerance=1.5)), "regression") == (
        "BLOCK",
        "scores of last_word lie between 0 and 1, so none can be worse by more than 1.5; set release.limits.last_word",
    )
    assert "at most 100.0% (an empty limit: no model can miss it)" in verdict_of(decide(shared, limits(max={"acc": 1.0})), "regression")[1]
    assert "empty" not in verdict_of(decide(shared, limits(max={"acc": 0.9})), "regression")[1]


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


def contaminated(rows: list[dict], items: range) -> list[dict]:
    """The same records with some items marked as met in training."""
    met = {str(i) for i in items}
    return [{**row, "contaminated": row["item"] in met} for row in rows]


def with_words(scores_of_words: list[float], met: range) -> Evidence:
    """The candidate with these last-word scores, items ``met`` contaminated; production has the first 60 of 100 right."""
    assert GOOD.baseline is not None
    new, old = results(scores_of_words), results(scores(60), weights="production-1")
    marked = contaminated(list(new.of("policy")["last_word"]), met)
    return GOOD._replace(results=with_records(new, "policy", {"last_word": marked}), baseline=old)


def test_gate_result_that_turns_without_contaminated_items_is_blocked() -> None:
    # 20 items that production has wrong and the candidate right by heart hide 20 that it lost
    learned = [1.0] * 40 + [0.0] * 20 + [1.0] * 20 + [0.0] * 20

    hidden = decide(with_words(learned, range(60, 80)), CONFIG)
    honest = decide(with_words(learned, range(0)), CONFIG)

    assert verdict_of(honest, "regression")[0] == "PROMOTE"
    verdict, reason = verdict_of(hidden, "regression")
    assert (hidden.verdict, verdict) == ("BLOCK", "BLOCK")
    assert "last_word -0.2500" in reason
    assert "on the 80 items that are in no training data" in reason
    assert {c.benchmark: c.verdict for c in hidden.comparisons}["last_word"] == "same"


def test_gate_contaminated_items_that_change_nothing_do_not_block() -> None:
    assert verdict_of(decide(with_words(scores(60), range(5)), CONFIG), "regression")[0] == "PROMOTE"


def test_gate_benchmark_with_too_few_clean_items_is_refused() -> None:
    few, none = (decide(with_words(scores(60), range(n)), CONFIG) for n in (80, 100))

    assert verdict_of(few, "regression") == ("BLOCK", "not enough items to compare on: last_word")
    assert verdict_of(none, "regression") == ("BLOCK", "every item of last_word is in training data, so nothing can be compared on it")


@pytest.mark.parametrize(
    ("clean", "verdict"),
    [
        (Estimate(0.74, 0.65, 0.82, 90), "PROMOTE"),
        (Estimate(0.66, 0.55, 0.75, 90), "BLOCK"),
        (Estimate(0.74, 0.65, 0.82, 20), "BLOCK"),
    ],
)
def test_gate_win_rate_that_rests_on_contaminated_openings_is_blocked(clean: Estimate, verdict: str) -> None:
    met = Estimate(1.0, 0.7, 1.0, 10)
    key = "policy__openings__win_rate_over_sft"

    decision = decide(changed(**{f"{key}_clean": clean, f"{key}_contaminated": met}), CONFIG)

    assert verdict_of(decision, "preference")[0] == verdict
    assert verdict_of(decide(changed(**{f"{key}_contaminated": met}), CONFIG), "preference")[0] == "BLOCK"
