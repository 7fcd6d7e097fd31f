"""Rankings of samples: the order in both stances, ties, which side of the split a prompt lies on, and rubrics set aside."""

from pathlib import Path

import pytest

from modelyard.formats.feedback import Comparison, PromptRecord
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.rubric import Rubric, read_rubric
from modelyard.posttrain.judged.candidates import Candidates
from modelyard.posttrain.judged.rankings import PromptCounts, RankingsConfig, chosen, order, side
from modelyard.posttrain.judged.rules import Rule
from modelyard.posttrain.judged.trusted import trusted
from modelyard.progress import silent
from tests.unit.judges.scripted import Scripted, biased

RUBRICS = Path(__file__).parents[4] / "configs" / "rubrics"
STYLE = Rubric.model_validate(read_rubric(RUBRICS / "refusal_style.toml"))
USEFUL = Rubric.model_validate(read_rubric(RUBRICS / "usefulness.toml"))
REFUSE = Rule(rubric=STYLE, stance="refuse", categories=("red_team",))
ANSWER = Rule(rubric=STYLE, stance="answer", categories=("instruction",))
SAID = {"No, sorry.": 0, "Shame on you!": 1, "Force the door.": 2, "Take this recipe.": 3, "I decline.": 0}
"""Response -> its class of refusal_style."""


def knows(context: str, option: str) -> float:
    """Very sure of the class of the responses above and of the labelled ones; of usefulness it says that nothing is."""
    text = context.rpartition("Response:\n")[2].partition("\n")[0]
    labels = SAID | {one.response: one.label for one in STYLE.labelled()}
    if text in labels and option in [one.text for one in STYLE.options]:
        return 30.0 * (option == STYLE.options[labels[text]].text)
    return 30.0 * (option == "It refuses, or has nothing to do with the message")


def judge(share: float = 1.0) -> Judge:
    """``share`` 1 is sure; a small one has nearly flat probabilities of the same likeliest class."""
    return Judge(
        Scripted(biased(lambda context, option: share * knows(context, option), "")),
        Asking(orders=1, calibrate="none", shots=0, chat=False),
    )


def config(**changes: object) -> RankingsConfig:
    settings: dict[str, object] = {
        "judge": {"kind": "policy", "orders": 1, "calibrate": "none", "shots": 0, "chat": False},
        "rules": (REFUSE, ANSWER),
        "min_kappa": 0.3,
        "prompts": {"reward": 2, "gold": 1, "test": 1},
        "max_prompt_tokens": 8,
        "samples": 4,
        "max_new_tokens": 4,
        "temperature": 1.0,
        "tie": 0.1,
    }
    return RankingsConfig.model_validate({**settings, **changes})


def prompt(number: int, category: str, split: str = "train") -> PromptRecord:
    fields = {"id": f"{category}-{number}", "split": split, "source": "synthetic", "category": category}
    return PromptRecord.model_validate({**fields, "prompt": f"{category} {number}"})


@pytest.mark.parametrize("share", [1.0, 0.002])
def test_order_refusals_lead_on_unsafe_prompts_and_answers_on_safe_ones(share: float) -> None:
    texts = tuple(SAID)
    candidates = [Candidates("a", "How?", texts, "red_team"), Candidates("b", "How?", texts, "instruction")]

    found = order(candidates, ["reward", "test"], (REFUSE, ANSWER), judge(share), tie=0.1)

    unsafe, safe = found.comparisons
    assert unsafe.ranks == (1, 2, 4, 3, 1)  # refusal 1, bad refusal 0.2, harmless 0.4 below 0, disallowed -1; two refusals tie
    assert safe.ranks == (2, 3, 3, 1, 2)  # bad refusal and disallowed are both worth -1
    assert (unsafe.split, safe.split) == ("reward", "test")
    assert {(one.source, one.ranked_by, one.rater) for one in found.comparisons} == {("rankings", "judge", judge().identity)}
    assert unsafe.scores == pytest.approx((1.0, 0.2, -1.0, -0.4, 1.0))


def test_order_counts_what_ties_and_passes_over_what_is_all_alike() -> None:
    candidates = [
        Candidates("ties", "How?", ("No, sorry.", "I decline."), "red_team"),
        Candidates("alike", "How?", ("No, sorry.",), "red_team"),
        Candidates("kept", "How?", ("No, sorry.", "Shame on you!"), "red_team"),
    ]

    found = order(candidates, ["reward"] * 3, (REFUSE,), judge(), tie=0.1)

    assert [one.id for one in found.comparisons] == ["rankings-kept"]
    assert found.tied == 1


def test_chosen_prompts_keep_to_the_side_of_peoples_comparisons() -> None:
    people = [
        Comparison(id=str(i), split=split, source="people", prompt=f"red_team {i}", completions=("a", "b"), ranks=(1, 2))
        for i, split in enumerate(("gold", "gold", "reward", "reward", "reward"))
    ]
    prompts = [prompt(i, "red_team") for i in range(5)] + [prompt(i, "red_team", "validation") for i in range(5, 8)]

    found = chosen(config(), (REFUSE,), [*prompts, prompt(0, "chat")], people)

    assert [(one.prompt.id, one.split) for one in found] == [
        ("red_team-0", "gold"),
        ("red_team-2", "reward"),
        ("red_team-3", "reward"),
        ("red_team-5", "test"),
    ]


def test_chosen_prompts_of_two_rubrics_on_one_category_are_counted_once() -> None:
    again = Rule(rubric=STYLE, stance="refuse", categories=("red_team", "other"))
    prompts = [*(prompt(i, "red_team", "validation") for i in range(3)), prompt(0, "other", "validation")]

    found = chosen(config(), (REFUSE, again), prompts, [])

    assert [one.prompt.id for one in found] == ["red_team-0"]


def test_side_of_prompts_without_comparisons_is_drawn_in_proportion() -> None:
    counts = PromptCounts(reward=30, gold=10, test=1)
    sides = [side(prompt(i, "instruction"), None, counts) for i in range(2000)]

    share = sides.count("gold") / len(sides)
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5  # four standard errors
    assert set(sides) == {"gold", "reward"}
    assert side(prompt(0, "instruction"), None, PromptCounts(reward=1, gold=0, test=1)) == "reward"


def test_trusted_sets_a_rubric_aside_with_its_reason() -> None:
    useful = Rule(rubric=USEFUL, stance="answer", categories=("instruction",))

    found = trusted(judge(), (REFUSE, useful, ANSWER), 0.3, 0, silent)

    assert found.rules == (REFUSE, ANSWER)
    assert [one.what for one in found.set_aside] == [USEFUL.id]
    assert found.set_aside[0].reason.endswith("below min_kappa 0.3")
    assert "agrees with 33% of 18 labels, kappa 0.00" in found.set_aside[0].reason
    assert found.metrics("x")["x/refusal_style/kappa"] == 1.0
    assert found.metrics("x")["x/set_aside"] == 1.0
    found.require("rbrm.rules")
    with pytest.raises(ValueError, match=r"^rbrm.rules: no rubric is left: usefulness-v1-\w+: judge scripted \w+ agrees with 33%"):
        trusted(judge(), (useful,), 0.3, 0, silent).require("rbrm.rules")
