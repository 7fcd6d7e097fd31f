"""What a releaser may set: limits that something can miss, and overrides that name a person, a reason and a day."""

from datetime import date, timedelta

import pytest

from modelyard.formats.results import Measured, Results
from modelyard.release.limits import BenchmarkLimits, Override, ReleaseConfig
from modelyard.release.verdict import decide
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import CONFIG, GOOD, REPORT, changed, searched, verdict_of, with_records

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
        ({"min_win_rate": 0.0}, "min_win_rate"),
        ({"min_win_rate": 1e-300}, "min_win_rate"),
        ({"limits": {"last_word": {"max": {"acc": 1e308}}}}, "limits.last_word.max.acc"),
        ({"limits": {"last_word": {"min": {"nats": -1e308}}}}, "limits.last_word.min.nats"),
        ({"limits": {"last_word": {"max_increase": {"acc": 1e7}}}}, "limits.last_word.max_increase.acc"),
        ({"limits": {"last_word": {"max_decrease": {"acc": 1e7}}}}, "limits.last_word.max_decrease.acc"),
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
    ("name", "own", "said"),
    [
        ("next_token", {"max": {"calibration_error": 0.05}}, "next_token calibration_error 7.0% [5.0%, 9.0%], at most 5.0% EXCEEDED"),
        ("validation_loss", {"max": {"loss": 3.0}}, "validation_loss loss 9.000 [8.900, 9.100], at most 3.000 EXCEEDED"),
        ("openings", {"min": {"win_rate_over_sft": 0.7}}, "openings win_rate_over_sft 75.0% [66.0%, 82.0%], at least 70.0% MISSED"),
    ],
)
def test_limit_of_a_benchmark_that_versions_are_not_compared_on_stops_a_release(name: str, own: dict, said: str) -> None:
    found = changed(policy__validation_loss__loss=Estimate(9.0, 8.9, 9.1, 100))
    packed = {one: Measured(id=one, metrics=(), between_versions=False) for one in ("next_token", "validation_loss")}
    evidence = found._replace(results=found.results._replace(benchmarks={**found.results.benchmarks, **packed}))
    limits = {**CONFIG.limits, name: BenchmarkLimits.model_validate(own)}

    assert verdict_of(decide(evidence, CONFIG), "regression")[0] == "PROMOTE"
    assert verdict_of(decide(evidence, CONFIG.model_copy(update={"limits": limits})), "regression") == ("BLOCK", said)


@pytest.mark.parametrize(
    ("policy", "most", "verdict", "said"),
    [
        (0.36, 0.1, "BLOCK", "36.0% [30.0%, 43.0%], -13.0% against SFT, no less than -10.0% MISSED"),
        (0.36, 0.14, "PROMOTE", "-13.0% against SFT, no less than -14.0%"),
        (0.49, 0.0, "PROMOTE", "+0.0% against SFT, no less than +0.0%"),
        (0.6, 0.0, "PROMOTE", "+11.0% against SFT, no less than +0.0%"),
        (0.6, 1.0, "PROMOTE", "no less than -100.0% (an empty limit: no model can miss it)"),
    ],
)
def test_limit_of_a_fall_below_the_sft_model_stops_a_release_that_fell_further(policy: float, most: float, verdict: str, said: str) -> None:
    def at(value: float) -> Estimate:
        return Estimate(value, round(value - 0.06, 2), round(value + 0.07, 2), 200)

    metrics = {f"evals/{model}/last_word/pass@100": at(value) for model, value in (("sft", 0.49), ("policy", policy))}
    held = BenchmarkLimits(max_decrease={"pass@100": most})
    config = CONFIG.model_copy(update={"limits": {**CONFIG.limits, "last_word": held}})

    def decided(metrics: dict[str, Estimate]) -> tuple[str, str]:
        shares = GOOD.results.shares | set(metrics)
        results = GOOD.results._replace(metrics={**GOOD.results.metrics, **metrics}, shares=frozenset(shares))
        return verdict_of(decide(GOOD._replace(results=results), config), "regression")

    found = decided(metrics)
    assert found[0] == verdict
    assert said in found[1]
    del metrics["evals/sft/last_word/pass@100"]
    assert decided(metrics) == ("BLOCK", "metric evals/sft/last_word/pass@100 is missing")


@pytest.mark.parametrize(("items", "verdicts"), [(6, {"BLOCK"}), (7, {"PROMOTE"})])
def test_gate_that_holms_correction_leaves_no_way_to_fail_is_refused(items: int, verdicts: set[str]) -> None:
    def few(results: Results, model: str) -> Results:
        rows = results.of(model)
        return with_records(results, model, {name: rows[name][:items] for name in ("last_word", "human_eval")})

    results = few(few(GOOD.results, "policy"), "base")
    report = {**REPORT, **{name: searched(items) for name in ("last_word", "human_eval")}}
    known = GOOD._replace(results=results, baseline=few(GOOD.baseline, "policy"), contamination=report)
    decision = decide(known, CONFIG.model_copy(update={"min_items": 6}))
    said = dict(verdict_of(decision, name) for name in ("regression", "alignment_tax"))
    assert set(said) == verdicts, said
    if items == 6:
        assert said["BLOCK"].endswith("after Holm's correction over 2 comparisons: human_eval (6), last_word (6)")


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
