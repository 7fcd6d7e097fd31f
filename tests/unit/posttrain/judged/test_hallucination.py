"""The closed-domain loop step by step on a scripted model, and comparisons of flagged outputs."""

import re
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from modelyard.formats.flags import Flag
from modelyard.posttrain.judged.hallucination import (
    Case,
    ClosedDomainConfig,
    agreement,
    closed_domain,
    comparisons_of,
    open_domain,
    statements,
)
from tests.unit.judges.scripted import Scripted

RUBRIC = {
    "name": "closed_domain",
    "version": 1,
    "question": "Is all of it supported?",
    "shows_prompt": True,
    "options": [{"name": "faithful", "text": "It is"}, {"name": "invented", "text": "It is not"}],
    "values": {"answer": {"faithful": 1.0, "invented": -1.0}},
    "examples": [
        {"prompt": f"summary {i}", "stance": "answer", "responses": {"faithful": f"summary {i}", "invented": f"summary {i} x0"}}
        for i in range(6)
    ],
}
CONFIG = ClosedDomainConfig.model_validate(
    {
        "judge": {"kind": "policy"},
        "rubric": RUBRIC,
        "min_kappa": 0.3,
        "prompts": 4,
        "rounds": 5,
        "response_tokens": 40,
        "list_tokens": 30,
        "temperature": 0.7,
        "seed": 0,
    }
)


def writer(strike: int) -> Scripted:
    """Responds with invented words (``xN``), lists them, and strikes out ``strike`` of them in a rewrite."""

    def say(prompt: str) -> str:
        response = re.search(r"Response:\n(.*)", prompt)
        if "Rewrite the response" in prompt:
            kept = response.group(1)  # type: ignore[union-attr]
            for _ in range(strike):
                kept = re.sub(r" x\d", "", kept, count=1)
            return kept
        if "List every statement" in prompt:
            found = re.findall(r"x\d", response.group(1))  # type: ignore[union-attr]
            return "\n".join(f"- {word}" for word in found) or "None."
        return prompt + "".join(f" x{i}" for i in range(int(prompt[-1])))

    return Scripted(say=say)


CASES = [Case("faithful", "summary 0"), Case("once", "summary 1"), Case("thrice", "summary 3"), Case("never", "summary 7")]


def test_closed_domain_repeats_until_nothing_is_found_at_most_five_times() -> None:
    outcomes = closed_domain(writer(1), writer(1), CASES, CONFIG)

    assert [(one.end, one.rounds) for one in outcomes] == [("faithful", 0), ("rewritten", 1), ("rewritten", 3), ("given_up", 5)]
    assert [(one.response, one.rewrite) for one in outcomes] == [
        ("summary 0", ""),
        ("summary 1 x0", "summary 1"),
        ("summary 3 x0 x1 x2", "summary 3"),
        ("summary 7 x0 x1 x2 x3 x4 x5 x6", "summary 7 x5 x6"),
    ]


def test_closed_domain_comparisons_prefer_the_rewrite_to_the_original() -> None:
    found = comparisons_of(closed_domain(writer(2), writer(2), CASES, CONFIG), "reward", "the model 01")

    assert [(one.id, one.completions, one.ranks) for one in found] == [
        ("closed_domain-once", ("summary 1", "summary 1 x0"), (1, 2)),
        ("closed_domain-thrice", ("summary 3", "summary 3 x0 x1 x2"), (1, 2)),
        ("closed_domain-never", ("summary 7", "summary 7 x0 x1 x2 x3 x4 x5 x6"), (1, 2)),
    ]
    assert {(one.source, one.category, one.rater, one.split) for one in found} == {
        ("closed_domain", "hallucination", "the model 01", "reward")
    }


def test_closed_domain_a_rewrite_that_changes_nothing_is_no_comparison() -> None:
    fickle = writer(0)
    first = {"done": False}
    say = fickle.say

    def forgets(prompt: str) -> str:
        """Finds something once and never again, and rewrites nothing."""
        if "List every statement" in prompt:
            found, first["done"] = ("none" if first["done"] else "- x0"), True
            return found
        return say(prompt)

    fickle.say = forgets
    (outcome,) = closed_domain(fickle, fickle, [Case("once", "summary 1")], CONFIG)

    assert outcome.end == "given_up"
    assert comparisons_of([outcome], "reward", "m") == []


@pytest.mark.parametrize(("who", "tokens", "end"), [("policy", 12, "rewritten"), ("judge", 8, "given_up"), ("judge", 9, "rewritten")])
def test_closed_domain_a_rewrite_that_was_cut_is_never_preferred(who: str, tokens: int, end: str) -> None:
    policy, judge = writer(3), writer(3)
    (policy if who == "policy" else judge).cuts = True
    (outcome,) = closed_domain(policy, judge, [Case("thrice", "summary 3")], CONFIG.model_copy(update={"response_tokens": tokens}))

    assert (outcome.end, outcome.cut, outcome.rewrite_cut) == (end, who == "policy", end == "given_up")
    assert len(comparisons_of([outcome], "reward", "m")) == (end == "rewritten")


def test_closed_domain_an_empty_list_ends_a_case_without_a_rewrite() -> None:
    judge = Scripted(say=lambda prompt: "")

    (outcome,) = closed_domain(writer(1), judge, [Case("once", "summary 1")], CONFIG)

    assert (outcome.end, outcome.rounds, outcome.rewrite) == ("unclear", 0, "")
    assert not any("Rewrite the response" in prompt for prompt in judge.asked)
    assert comparisons_of([outcome], "reward", "m") == []


@pytest.mark.parametrize(("say", "kappa"), [(writer(1).say, 1.0), (lambda prompt: "none", 0.0), (lambda prompt: "- x", 0.0)])
def test_agreement_of_the_lists_with_labels(say: Callable[[str], str], kappa: float) -> None:
    found = agreement(Scripted(say=say), CONFIG)

    assert (found.n, found.kappa) == (12, kappa)


def test_closed_domain_labels_must_say_faithful_or_invented() -> None:
    renamed = [{"name": "right", "text": "It is"}, RUBRIC["options"][1]]  # type: ignore[index]
    values = {"answer": {"right": 1.0, "invented": -1.0}}
    rubric = {**RUBRIC, "options": renamed, "values": values, "examples": ()}
    with pytest.raises(ValidationError, match="its options must be faithful and invented"):
        ClosedDomainConfig.model_validate({**CONFIG.model_dump(), "rubric": rubric})


def test_closed_domain_first_round_is_greedy_and_later_ones_are_drawn() -> None:
    model = writer(1)
    closed_domain(model, model, [Case("thrice", "summary 3")], CONFIG)

    responses = [decoding for decoding in model.decodings if decoding.max_new_tokens == 40]
    assert [decoding.temperature for decoding in responses] == [0.7, 0.0, 0.7, 0.7]
    assert len({decoding.seed for decoding in responses}) == 4


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("none", []),
        ("None.", []),
        ("- none", []),
        ("- The year is wrong.\n- So is the name.", ["The year is wrong.", "So is the name."]),
        ("1. The year\n2) The name", ["The year", "The name"]),
        ("none of the statements about the year is supported", ["none of the statements about the year is supported"]),
        ("I think it is fine", ["I think it is fine"]),
        ("", None),
        (" - \n", None),
    ],
)
def test_statements_only_none_passes(reply: str, found: list[str] | None) -> None:
    assert statements(reply) == found


def flag(name: str, prompt: str, completion: str, factual: bool, **more: object) -> Flag:
    fields = {"id": name, "split": "reward", "source": "app", "prompt": prompt, "completion": completion, "factual": factual}
    return Flag.model_validate({**fields, **more})


def test_open_domain_flags_become_comparisons_with_what_is_right_on_their_own_side() -> None:
    flags = [
        flag("1", "Who wrote Faust?", "Schiller", False, correction="Goethe", rater="labeller 4"),
        flag("2", "Capital of Peru?", "Quito", False),
        flag("3", "Capital of Peru?", "Lima", True),
        flag("4", "Capital of Peru?", "It is Lima.", True),
        flag("5", "Highest mountain?", "K2", False),
        flag("6", "Capital of Peru?", "Cusco", False, split="gold"),
        flag("7", "Who wrote Faust?", "Heine", False, correction="Goethe", split="test"),
    ]

    found = open_domain(flags)

    assert [(one.id, one.completions) for one in found.comparisons] == [
        ("open_domain-1-0", ("Goethe", "Schiller")),
        ("open_domain-2-0", ("Lima", "Quito")),
        ("open_domain-2-1", ("It is Lima.", "Quito")),
        ("open_domain-7-0", ("Goethe", "Heine")),
    ]
    assert [one.split for one in found.comparisons] == ["reward", "reward", "reward", "test"]
    assert found.comparisons[0].rater == "labeller 4"
    assert all(one.ranks == (1, 2) and one.source == "open_domain" for one in found.comparisons)
    assert [one.id for one in found.unpaired] == ["5", "6"]
