"""The gate over what a release sees: it owes something to its images that its twin, which never saw one, does not have."""

import json
from pathlib import Path

import pytest

from modelyard.formats.contamination import Checked
from modelyard.formats.results import Measured
from modelyard.release.decision import twin_differs
from modelyard.release.gates.gate import Evidence
from modelyard.release.verdict import decide
from tests.unit.release.evidence import CONFIG, GOOD, SETS, records, scores, verdict_of, with_records

SHAPES = "shapes"


def shapes(right: list[float], weights: str, contaminated: int = 0) -> list[dict]:
    """Records of a benchmark with images, of which the first so many items are met in training."""
    shared = {"benchmark": SHAPES, "benchmark_id": "id-s", "weights": weights}
    return [{**shared, "item": str(k), "score": score, "contaminated": k < contaminated} for k, score in enumerate(right)]


def seen(
    right: list[float], twin: list[float], *, words: int = 30, contaminated: int = 0, images: str = "shown", name: str = SHAPES
) -> Evidence:
    """A good candidate that is shown images and its twin, with their scores on them and the twin's last words."""
    found = with_records(GOOD.results, "policy", {SHAPES: shapes(right, "policy-1", contaminated)})
    blind = {SHAPES: shapes(twin, "twin-1", contaminated), "last_word": records("last_word", scores(words), "twin-1")}
    found = with_records(found, "no_vision", {**blind, "human_eval": records("human_eval", [0.0] * 60, "twin-1")})
    found = found._replace(
        weights={**GOOD.results.weights, "no_vision": "twin-1"},
        benchmarks={**found.benchmarks, name: Measured(id="id-s", metrics=("exact",), images=images, between_versions=images == "shown")},
    )
    assert GOOD.contamination
    checked = Checked(n=len(right), content=tuple(str(k) for k in range(contaminated)), sets=SETS)
    weights = {**GOOD.weights, "no_vision": "twin-1"}
    report = {**GOOD.contamination, SHAPES: checked}
    return GOOD._replace(results=found, weights=weights, sees=True, contamination=report, baseline=None)


FIRST = CONFIG.model_copy(update={"first": True})


@pytest.mark.parametrize(
    ("right", "twin", "words", "verdict", "said"),
    [
        (87, 67, 30, "PROMOTE", "ahead of its twin that never saw an image: shapes 0.870 against 0.670"),
        (67, 67, 30, "BLOCK", "not shown to see more than its twin on shapes 0.670 against 0.670 (p 1.0000)"),
        (70, 67, 30, "BLOCK", "not shown to see more than its twin on shapes"),
        (60, 87, 30, "BLOCK", "not shown to see more than its twin on shapes"),
        (87, 67, 60, "BLOCK", "worse than its twin on text: last_word 0.300 against 0.600"),
    ],
)
def test_release_is_held_against_its_twin_that_never_saw_an_image(right: int, twin: int, words: int, verdict: str, said: str) -> None:
    decision = decide(seen(scores(right), scores(twin), words=words), FIRST)

    found, reason = verdict_of(decision, "vision")
    assert found == verdict, reason
    assert reason.startswith(said)
    assert decision.verdict == verdict
    [shown] = [c for c in decision.vision if c.benchmark == SHAPES]
    assert round(shown.difference * 100) == right - twin
    assert {c.benchmark for c in decision.tax} == {"last_word", "human_eval", "held_out_text"} & {c.benchmark for c in decision.tax}
    assert SHAPES not in {c.benchmark for c in decision.tax}, "the base model reads text alone"


def test_gain_below_what_the_config_asks_for_is_blocked() -> None:
    evidence = seen(scores(87), scores(67))
    assert verdict_of(decide(evidence, FIRST.model_copy(update={"min_vision_gain": 0.19})), "vision")[0] == "PROMOTE"
    assert verdict_of(decide(evidence, FIRST.model_copy(update={"min_vision_gain": 0.21})), "vision")[0] == "BLOCK"


def test_gain_that_rests_on_pictures_of_the_training_data_is_blocked() -> None:
    right, twin = [1.0] * 80 + scores(2, 20), [0.0] * 20 + [1.0] * 60 + scores(2, 20)
    generous = FIRST.model_copy(update={"max_contaminated": 0.5})
    assert verdict_of(decide(seen(right, twin), generous), "vision")[0] == "PROMOTE"

    verdict, reason = verdict_of(decide(seen(right, twin, contaminated=20), generous), "vision")

    assert verdict == "BLOCK"
    assert "on the 80 items that are in no training data" in reason


def test_absence_never_passes() -> None:
    evidence = seen(scores(87), scores(67))
    weights = {name: one for name, one in evidence.results.weights.items() if name != "no_vision"}
    alone = evidence._replace(results=evidence.results._replace(weights=weights), weights=GOOD.weights)
    assert verdict_of(decide(alone, FIRST), "vision") == (
        "BLOCK",
        "the release is shown images, and no twin that never saw one was measured",
    )
    blank = seen(scores(87), scores(67), images="blank")
    assert verdict_of(decide(blank, FIRST), "vision")[1].startswith("no benchmark with images was measured")
    other = evidence._replace(twin_differs="sft.seed")
    assert verdict_of(decide(other, FIRST), "vision") == ("BLOCK", "the twin differs by more than the images: sft.seed")
    unanswered = with_records(evidence.results, "no_vision", {SHAPES: []})
    assert verdict_of(decide(evidence._replace(results=unanswered), FIRST), "vision")[0] == "BLOCK"


def test_release_that_is_shown_no_images_has_no_such_gate() -> None:
    assert "vision" not in {gate.name for gate in decide(GOOD, CONFIG).gates}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"seed": 2}, "seeing.seed"),
        ({"blank": False}, "no_vision was not trained blank"),
        ({"feedback": "feedback/2"}, "what seeing and no_vision were made from"),
    ],
)
def test_twin_is_one_by_all_but_its_images(changed: dict, said: str, tmp_path: Path) -> None:
    parents = {"base": "base/1", "feedback": "feedback/1"}
    config = {"seed": 1, "epochs": 2.0, "blank": False}
    twin = {**config, "blank": True} | {key: value for key, value in changed.items() if key != "feedback"}
    fed = {key: value for key, value in changed.items() if key == "feedback"}
    made = {
        "seeing": (config, {**parents, "projector": "projector/1"}),
        "no_vision": (twin, {**parents, **fed, "projector": "no_vision_projector/1"}),
    }
    for role, (own, by) in made.items():
        (tmp_path / role).mkdir()
        (tmp_path / role / "artifact.json").write_text(json.dumps({"name": role, "config": own, "parents": by}))
    assert twin_differs({role: tmp_path / role for role in made}) == said
    assert twin_differs({"seeing": tmp_path / "seeing"}) == ""
