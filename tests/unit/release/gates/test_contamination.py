"""What training has met: shares by content and as written, sets that were searched, results that turn without such items."""

import pytest

from modelyard.formats.contamination import Checked, Searched
from modelyard.release.gates.gate import Decision, Evidence, Use
from modelyard.release.limits import ReleaseConfig
from modelyard.release.verdict import decide
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import (
    CONFIG,
    CORPUS,
    FEEDBACK,
    GOOD,
    REPORT,
    SETS,
    changed,
    records,
    results,
    scores,
    searched,
    verdict_of,
    with_records,
)


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


@pytest.mark.parametrize("missing", SETS)
@pytest.mark.parametrize("entry", [None, Searched(documents=0)])
def test_gate_training_set_that_was_not_searched_is_refused_by_name(missing: str, entry: Searched | None) -> None:
    sets = {name: found for name, found in {**SETS, missing: entry}.items() if found is not None}
    report = {**REPORT, "last_word": searched(100).model_copy(update={"sets": sets})}

    verdict, reason = verdict_of(decide(GOOD._replace(contamination=report), CONFIG), "contamination")

    assert verdict == "BLOCK"
    assert f"{missing}, which " in reason
    assert "not searched for items of last_word" in reason


@pytest.mark.parametrize(("thumbs", "verdict"), [(None, "BLOCK"), (0, "PROMOTE"), (7, "PROMOTE")])
def test_gate_policy_by_kto_without_a_thumb_has_none_to_be_searched(thumbs: int | None, verdict: str) -> None:
    sets = SETS if thumbs is None else {**SETS, "thumbs": Searched(documents=thumbs)}
    report = {name: one.model_copy(update={"sets": sets}) for name, one in REPORT.items()}
    kto = GOOD._replace(trained=(*GOOD.trained, Use("policy", "thumbs", FEEDBACK)), contamination=report)
    found, reason = verdict_of(decide(kto, CONFIG), "contamination")
    assert found == verdict
    assert ("thumbs, which policy was trained on, was not searched" in reason) == (verdict == "BLOCK")


def test_gate_model_of_other_data_than_searched_is_refused() -> None:
    trained = (*GOOD.trained, Use("gold", "gold_comparisons", "feedback/other"))

    verdict, reason = verdict_of(decide(GOOD._replace(trained=trained), CONFIG), "contamination")

    assert (verdict, reason) == ("BLOCK", f"gold was trained on feedback/other, but {CORPUS} and {FEEDBACK} was searched")


@pytest.mark.parametrize(("ahead", "twin", "verdict"), [(30, 30, "PROMOTE"), (30, 27, "PROMOTE"), (60, 30, "HOLD"), (30, 60, "PROMOTE")])
def test_gate_base_ahead_of_the_twin_that_never_saw_an_item_is_held(ahead: int, twin: int, verdict: str) -> None:
    words = {"base": (ahead, "base-1"), "no_contam": (twin, "twin-1")}
    found = with_records(GOOD.results, "no_contam", {"human_eval": records("human_eval", [0.0] * 60, "twin-1")})
    for model, (right, weights) in words.items():
        found = with_records(found, model, {"last_word": records("last_word", scores(right), weights)})
    found = found._replace(weights={**GOOD.results.weights, "no_contam": "twin-1"})
    evidence = GOOD._replace(results=found, weights={**GOOD.weights, "no_contam": "twin-1"})

    decision = decide(evidence, CONFIG)

    assert verdict_of(decision, "contamination")[0] == verdict
    [shown] = [c for c in decision.contamination_gain if c.benchmark == "last_word"]
    assert round(shown.difference * 100) == ahead - twin
    other = decide(evidence._replace(weights=GOOD.weights), CONFIG)
    assert verdict_of(other, "weights") == ("BLOCK", "fingerprint of no_contam is missing")


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
