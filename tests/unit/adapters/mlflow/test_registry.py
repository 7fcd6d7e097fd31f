"""Aliases move only as decisions say, and a second registration changes nothing. Real MLflow on SQLite."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.registry import Candidate, Move, Opponent, Registered, Registry, RegistryError
from modelyard.adapters.mlflow.tracker import Tracker
from tests.worlds.registry import log_directory


@pytest.fixture
def registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(uri, request.node.name)


@pytest.fixture(scope="module")
def tracker(uri: str) -> Tracker:
    return Tracker(uri, "release")


def judged(registry: Registry, name: str, verdict: str = "PROMOTE") -> Candidate:
    """A candidate called ``name``, compared with what is in production now."""
    opponent = registry.opponent(f"policy/{name}")
    return Candidate(f"{name}-fingerprint", f"policy/{name}", f"results/{name}", opponent, verdict, {"forecast_error": "0.01"})


Release = Callable[..., Registered]


@pytest.fixture
def release(tracker: Tracker, registry: Registry, tmp_path: Path) -> Release:
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")

    def register(name: str, verdict: str = "PROMOTE", candidate: Candidate | None = None) -> Registered:
        run_id = tracker.client.create_run(tracker.experiment).info.run_id
        return registry.register(candidate or judged(registry, name, verdict), export, run_id, log=log_directory)

    return register


def alias(registry: Registry, name: str) -> str | None:
    version = registry.alias(name)
    return str(version.version) if version else None


def test_search_finds_what_is_on_its_later_pages_too(registry: Registry) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        registry.client.create_registered_model(name)
    assert [one.name for one in every(registry.client.search_registered_models, "name LIKE 'page-%'", max_results=2)] == names


def test_registry_first_promotion_moves_candidate_and_production(registry: Registry, release: Release) -> None:
    assert registry.opponent("policy/a") is None

    result = release("a")

    assert result == Registered("1", (Move("candidate", None, "1"), Move("production", None, "1")))
    assert registry.opponent("policy/b") == Opponent("policy/a", "results/a", "1")
    assert alias(registry, "previous") is None


@pytest.mark.parametrize("verdict", ["HOLD", "BLOCK"])
def test_registry_refused_candidate_leaves_production(registry: Registry, release: Release, verdict: str) -> None:
    release("a")

    result = release("b", verdict)

    assert result.moved == (Move("candidate", "1", "2"),)
    assert alias(registry, "production") == "1"
    assert registry.client.get_model_version(registry.name, "2").tags["decision"] == verdict


def test_registry_held_classifier_of_a_policy_that_serves_neither_serves_nor_is_forgotten(registry: Registry, release: Release) -> None:
    def served_with(classifier: str, verdict: str) -> Candidate:
        candidate = judged(registry, "a", verdict)
        tags = {**candidate.tags, "decision_artifact": f"decision/{classifier}{verdict}"}
        return candidate._replace(tags=tags | ({"content_classifier": classifier} if classifier else {}))

    def tags() -> dict[str, str]:
        return dict(registry.alias("production").tags)

    release("a", candidate=served_with("classifier/1", "PROMOTE"))
    for _ in range(2):
        assert registry.classifier("policy/a", "classifier/2") == "classifier/1", "the question is the same the second time"
        release("a", candidate=served_with("classifier/2", "HOLD"))
        assert (tags()["content_classifier"], tags()["decision"]) == ("classifier/1", "PROMOTE")
        assert (tags()["held_content_classifier"], tags()["held_decision"]) == ("classifier/2", "HOLD")

    release("a", candidate=served_with("classifier/2", "PROMOTE"))
    assert tags()["content_classifier"] == "classifier/2"
    assert not [key for key in tags() if key.startswith("held_")]
    assert registry.classifier("policy/a", "classifier/2") == "classifier/1", "judged again as it was judged then"
    release("a", candidate=served_with("", "PROMOTE"))
    assert "content_classifier" not in tags()


def test_registry_version_decided_anew_without_a_key_is_not_signed_by_what_signed_it_before(registry: Registry, release: Release) -> None:
    def decided(number: int, verdict: str, signature: str = "") -> dict[str, str]:
        candidate = judged(registry, "a", verdict)
        tags = {**candidate.tags, "decision_artifact": f"decision/{number}"} | ({"signature": signature} if signature else {})
        release("a", candidate=candidate._replace(tags=tags))
        return {key: value for key, value in registry.alias("candidate").tags.items() if key.endswith("signature")}

    assert decided(1, "HOLD", "signature/1") == {"signature": "signature/1"}
    assert decided(2, "HOLD") == {}
    assert decided(3, "PROMOTE", "signature/3") == {"signature": "signature/3"}
    assert decided(4, "HOLD", "signature/4") == {"signature": "signature/3", "held_signature": "signature/4"}
    assert decided(5, "HOLD") == {"signature": "signature/3"}, "what serves stays signed"
    assert decided(6, "PROMOTE") == {}


def test_registry_second_promotion_keeps_the_previous_and_what_it_was_compared_with(registry: Registry, release: Release) -> None:
    release("a")

    release("b")

    assert (alias(registry, "production"), alias(registry, "previous")) == ("2", "1")
    same_question = registry.opponent("policy/b")  # as before it was promoted: the decision is found again
    assert same_question == Opponent("policy/a", "results/a", "1")
    assert registry.opponent("policy/c") == Opponent("policy/b", "results/b", "2")


def test_registry_same_run_again_changes_nothing(registry: Registry, release: Release) -> None:
    release("a")
    release("b")

    again = release("b")

    assert again == Registered("2", ())
    assert len(registry.client.search_model_versions(f"name = '{registry.name}'")) == 2
    assert registry.opponent("policy/b") == Opponent("policy/a", "results/a", "1")


def test_registry_scores_measured_again_are_what_a_second_run_asks_for(registry: Registry, release: Release) -> None:
    release("a")
    candidate = judged(registry, "b")
    assert candidate.opponent is not None
    again = candidate._replace(opponent=candidate.opponent._replace(scores="baseline/of-a"))

    release("b", candidate=again)

    assert registry.opponent("policy/b") == Opponent("policy/a", "baseline/of-a", "1")


def test_registry_production_that_moved_since_the_decision_is_refused(registry: Registry, release: Release) -> None:
    release("a")
    late = judged(registry, "b")
    release("c")

    with pytest.raises(RegistryError, match=r"compared policy/b with policy/a: now it is policy/c; run the line again"):
        release("b", candidate=late)
    assert (alias(registry, "candidate"), alias(registry, "production")) == ("2", "2")


def test_registry_two_releases_racing_leave_one_winner_and_a_clear_loser(registry: Registry, release: Release, uri: str) -> None:
    release("a")
    candidates = [judged(registry, name) for name in ("b", "c")]
    outcomes: dict[str, Registered | Exception] = {}
    together = threading.Barrier(2)

    def race(candidate: Candidate) -> None:
        together.wait()
        try:
            outcomes[candidate.policy] = release("", candidate=candidate)
        except RegistryError as error:
            outcomes[candidate.policy] = error

    threads = [threading.Thread(target=race, args=(candidate,)) for candidate in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (winner,) = [name for name, outcome in outcomes.items() if isinstance(outcome, Registered)]
    (loser,) = [outcome for outcome in outcomes.values() if isinstance(outcome, RegistryError)]
    serving = registry.alias("production")
    assert serving.tags["policy"] == winner
    assert alias(registry, "previous") == "1"
    assert f"now it is {winner}" in str(loser)
    assert registry.alias("candidate").tags["policy"] == winner


def test_registry_rollback_puts_back_what_was_replaced_and_the_version_stays_out(registry: Registry, release: Release) -> None:
    for name in ("a", "b", "c"):
        release(name)

    moved = registry.rollback("3", "Ada", "users complain")

    assert moved == (Move("production", "3", "2"), Move("previous", "2", "1"))
    assert registry.rollback("3", "Ada", "users complain") == ()
    assert registry.opponent("policy/d") == Opponent("policy/b", "results/b", "2")
    with pytest.raises(RegistryError, match="version 3 was rolled back by Ada: users complain; it is not promoted again"):
        release("c")
    release("d")
    assert (alias(registry, "production"), alias(registry, "previous")) == ("4", "2")


def test_registry_rollback_that_was_cut_off_is_finished_by_the_next(registry: Registry, release: Release) -> None:
    for name in ("a", "b", "c"):
        release(name)
    registry.client.set_registered_model_alias(registry.name, "production", "2")  # as if killed after the first move

    assert registry.rollback("3", "Ada", "users complain") == (Move("previous", "2", "1"),)


def test_registry_first_release_can_be_withdrawn_and_is_not_promoted_again(registry: Registry, release: Release) -> None:
    release("a")
    assert registry.is_first("policy/a")
    assert not registry.is_first("policy/b")

    assert registry.rollback("1", "Ada", "users complain") == (Move("production", "1", None),)

    assert alias(registry, "production") is None
    assert not registry.is_first("policy/a")
    with pytest.raises(RegistryError, match="version 1 was rolled back by Ada: users complain"):
        release("a")
    release("b")
    assert (alias(registry, "production"), alias(registry, "previous")) == ("2", None)


def test_registry_second_rollback_keeps_who_decided_the_first(registry: Registry, release: Release) -> None:
    for name in ("a", "b"):
        release(name)
    registry.rollback("2", "Ada", "users complain")

    assert registry.rollback("2", "Mallory", "it was me") == ()

    assert registry.numbered("2").tags["rolled_back"] == "by Ada: users complain"


@pytest.mark.parametrize(("name", "reason"), [(" ", "x"), ("Ada", ""), ("A\u200bda", "x"), ("Ada", "x\ny"), ("\x1b[2J", "x"), ("A\0", "x")])
def test_registry_rollback_by_nobody_who_can_be_read_is_refused(registry: Registry, release: Release, name: str, reason: str) -> None:
    release("a")

    with pytest.raises(RegistryError, match="a rollback needs a name and a reason"):
        registry.rollback("1", name, reason)
    assert alias(registry, "production") == "1"


def test_registry_versions_released_before_are_told_by_what_each_replaced_and_not_by_their_numbers(
    registry: Registry, release: Release
) -> None:
    release("a")
    release("b", "HOLD")
    release("c")
    assert registry.released("policy/b") == {"1": "results/a", "3": "results/c"}, "it does not serve yet"

    release("b")
    assert list(registry.released("policy/b").items()) == [("1", "results/a"), ("3", "results/c")]
    assert registry.released("policy/c") == {"1": "results/a"}
    assert list(registry.released("policy/new")) == ["1", "3", "2"]

    release("d", "HOLD")
    registry.client.set_model_version_tag(registry.name, "4", "opponent", "policy/a")  # promoted, and killed before production moved
    release("e")
    assert list(registry.released("policy/d")) == ["1", "3", "2", "5"]
    assert list(registry.released("policy/new")) == ["1", "3", "2", "5"]

    registry.rollback("5", "Ada", "users complain")
    assert list(registry.released("policy/e")) == list(registry.released("policy/new")) == ["1", "3", "2"]


def test_registry_production_registered_by_hand_is_one_clear_refusal(registry: Registry, release: Release) -> None:
    release("a")
    source = registry.numbered("1").source
    registry.client.create_model_version(registry.name, source)
    registry.client.set_registered_model_alias(registry.name, "production", "2")

    with pytest.raises(RegistryError, match="version 2 has no tag policy: it was registered by hand, not by a release"):
        registry.opponent("policy/b")


def test_registry_directory_that_is_no_model_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"config\.json"):
        registry.register(judged(registry, "a"), tmp_path / "none", "unused")
