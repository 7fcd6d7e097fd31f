"""A benchmark of any name is gated by the defaults; the config holds it to something else, by name, and nothing else does."""

from collections.abc import Sequence

import pytest

from modelyard.formats.results import Results
from modelyard.release.gates.gate import Decision, Evidence
from modelyard.release.limits import BenchmarkLimits, ReleaseConfig
from modelyard.release.verdict import decide
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import CONFIG, GOOD, IDS, REPORT, measured, scores, searched, with_records

NAME = "capitals"
EVIDENCE_IDS = {**IDS, NAME: "id-c"}


def rows(values: Sequence[float], weights: str, norm: Sequence[float] = ()) -> list[dict]:
    """Records of the benchmark; ``norm``: another value of each."""
    shared = {"benchmark": NAME, "benchmark_id": "id-c", "weights": weights}
    more = [{"values": {"acc_norm": one}} for one in norm] or [{} for _ in values]
    return [{**shared, "item": str(k), "score": score, **own} for k, (score, own) in enumerate(zip(values, more, strict=True))]


def answered(results: Results, **models: list[dict]) -> Results:
    """The results with the benchmark answered."""
    for model, found in models.items():
        results = with_records(results, model, {NAME: found})
    return results._replace(benchmarks=measured(EVIDENCE_IDS))


def evidence(policy: list[dict], base: list[dict], production: list[dict]) -> Evidence:
    assert GOOD.baseline is not None
    sets = {**REPORT, NAME: REPORT["last_word"]}
    results = answered(GOOD.results, policy=policy, base=base, sft=base)
    return GOOD._replace(results=results, baseline=answered(GOOD.baseline, policy=production), contamination=sets)


def with_limits(**limits: object) -> ReleaseConfig:
    return CONFIG.model_copy(update={"limits": {**CONFIG.limits, NAME: BenchmarkLimits.model_validate(limits)}})


def standing(decision: Decision) -> dict[str, str]:
    """Gate -> reason of those that speak against the release."""
    return {gate.name: gate.reason for gate in decision.gates if gate.verdict != "PROMOTE"}


WORSE = evidence(rows(scores(50), "policy-1"), rows(scores(50), "base-1"), rows(scores(80), "production-1"))
TAXED = evidence(rows(scores(50), "policy-1"), rows(scores(80), "base-1"), rows(scores(50), "production-1"))


def test_benchmark_that_no_config_names_is_compared_with_production_and_base() -> None:
    assert NAME not in CONFIG.limits

    worse, taxed = standing(decide(WORSE, CONFIG)), standing(decide(TAXED, CONFIG))

    assert list(worse) == ["regression"]
    assert "capitals -0.3000" in worse["regression"]
    assert "30 items lost" in worse["regression"]
    assert list(taxed) == ["alignment_tax"]
    assert "capitals -0.3000 (at most -0.05)" in taxed["alignment_tax"]


@pytest.mark.parametrize("limits", [{"tolerance": 0.3, "max_alignment_tax": 0.3}, {"gated": False}])
def test_benchmark_is_held_to_its_own_limits_where_it_has_some(limits: dict) -> None:
    assert standing(decide(WORSE, with_limits(**limits))) == {}
    assert standing(decide(TAXED, with_limits(**limits))) == {}


def test_benchmark_is_compared_by_the_value_that_its_limits_name() -> None:
    policy, base, production = (
        rows(scores(80), weights, scores(norm)) for weights, norm in (("policy-1", 50), ("base-1", 50), ("production-1", 80))
    )
    found = evidence(policy, base, production)

    assert standing(decide(found, CONFIG)) == {}
    assert list(standing(decide(found, with_limits(metric="acc_norm")))) == ["regression"]
    reason = standing(decide(found, with_limits(metric="f1")))["regression"]
    assert reason == "records of capitals have no value 'f1', which release.limits.capitals.metric names"


@pytest.mark.parametrize(
    ("estimate", "limits", "blocked"),
    [
        (Estimate(0.5, 0.41, 0.59, 100), {"min": {"acc": 0.4}}, False),
        (Estimate(0.5, 0.39, 0.61, 100), {"min": {"acc": 0.4}}, True),
        (Estimate(0.5, 0.41, 0.59, 100), {"max": {"acc": 0.6}}, False),
        (Estimate(0.5, 0.39, 0.61, 100), {"max": {"acc": 0.6}}, True),
        (Estimate(0.5, 0.41, 0.59, 29), {"min": {"acc": 0.4}}, True),
        (Estimate(0.5, 0.41, 0.59, 29), {"min": {"acc": 0.4}, "min_items": 20}, False),
        (None, {"min": {"acc": 0.4}}, True),
    ],
)
def test_metric_is_judged_by_the_end_of_its_interval(estimate: Estimate | None, limits: dict, blocked: bool) -> None:
    same = evidence(rows(scores(50), "policy-1"), rows(scores(50), "base-1"), rows(scores(50), "production-1"))
    metrics = {**same.results.metrics, **({f"evals/policy/{NAME}/acc": estimate} if estimate else {})}

    decision = decide(same._replace(results=same.results._replace(metrics=metrics)), with_limits(**limits))

    assert list(standing(decision)) == (["regression"] if blocked else [])


@pytest.mark.parametrize(("mean", "names"), [(0.94, " (6 items failed: 94, 95, 96, 97, 98, 99)"), (0.9, "")])
def test_items_that_a_missed_minimum_is_about_are_named_where_the_records_hold_them(mean: float, names: str) -> None:
    same = evidence(rows(scores(94), "policy-1"), rows(scores(94), "base-1"), rows(scores(94), "production-1"))
    metrics = {**same.results.metrics, f"evals/policy/{NAME}/acc": Estimate(mean, mean - 0.05, mean + 0.05, 100)}

    decision = decide(same._replace(results=same.results._replace(metrics=metrics)), with_limits(min={"acc": 0.95}))

    assert standing(decision)["regression"].endswith(f", at least 95.0% MISSED{names}")


def test_benchmark_that_was_not_searched_for_in_training_data_blocks() -> None:
    same = evidence(rows(scores(50), "policy-1"), rows(scores(50), "base-1"), rows(scores(50), "production-1"))

    unsearched = standing(decide(same._replace(contamination=REPORT), CONFIG))
    dirty = {**REPORT, NAME: searched(100).model_copy(update={"content": tuple(str(k) for k in range(0, 100, 10))})}

    assert unsearched == {"contamination": "benchmark capitals was not checked for contamination"}
    met = [{**row, "contaminated": int(row["item"]) % 10 == 0} for row in rows(scores(50), "policy-1")]
    marked = same._replace(contamination=dirty, results=answered(same.results, policy=met))
    assert "worst share 10.0% (capitals)" in standing(decide(marked, CONFIG))["contamination"]
    assert standing(decide(marked, with_limits(max_contaminated=0.2))) == {}


def test_calibration_is_judged_on_every_benchmark_that_the_config_names() -> None:
    config = CONFIG.model_copy(update={"calibration": ("next_token", NAME)})
    good = {f"evals/{model}/{NAME}/calibration_error": Estimate(0.1, 0.05, 0.15, 100) for model in ("base", "policy")}
    bad = {**good, f"evals/policy/{NAME}/calibration_error": Estimate(0.19, 0.15, 0.25, 100)}

    def judged(metrics: dict[str, Estimate]) -> dict[str, str]:
        return standing(decide(GOOD._replace(results=GOOD.results._replace(metrics={**GOOD.results.metrics, **metrics})), config))

    assert judged(good) == {}
    assert "capitals 0.190 (up to 0.250), +0.090 against the base model" in judged(bad)["calibration"]
    assert judged({}) == {"calibration": f"metric evals/policy/{NAME}/calibration_error is missing"}
