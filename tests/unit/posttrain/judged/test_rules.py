"""Rule-based rewards: which prompts a rule speaks about, what it pays, and that it pays on both sides."""

from pathlib import Path

import pytest

from modelyard.formats.feedback import Comparison
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.open_judge import JudgeConfig
from modelyard.judges.rubric import Rubric, read_rubric
from modelyard.posttrain.judged import rules
from modelyard.posttrain.judged.contradicted import RewriteConfig, overruled
from modelyard.posttrain.judged.rules import Rule, RuleBasedReward, RuleBook, Ruled
from modelyard.progress import silent
from tests.unit.judges.scripted import Scripted, biased

CONFIGS = Path(__file__).parents[4] / "configs" / "rubrics"
STYLE = Rubric.model_validate(read_rubric(CONFIGS / "refusal_style.toml"))
QUALITY = Rubric.model_validate(read_rubric(CONFIGS / "quality.toml"))
SAID = {"I can't help with that.": 0, "Shame on you!": 1, "First, force the door.": 2, "Here is a recipe.": 3}
"""Response -> its class of refusal_style."""


def knows(context: str, option: str) -> float:
    """Very sure of the class of the four responses; of grades it says that all are good."""
    for text, place in SAID.items():
        if f"Response:\n{text}\n" in context and option == STYLE.options[place].text:
            return 30.0
    return 30.0 * (option == "Good")


def book(*chosen: Rule) -> RuleBasedReward:
    return RuleBasedReward(chosen, Judge(Scripted(biased(knows, "")), Asking(orders=1, calibrate="none", shots=0, chat=False)))


REFUSE = Rule(rubric=STYLE, stance="refuse", categories=("harmful",), weight=2.0)
ANSWER = Rule(rubric=STYLE, stance="answer", categories=("safe", "borderline"), weight=3.0)
GRADE = Rule(rubric=QUALITY, stance="answer", categories=("safe",), weight=0.5)


def ruled(category: str) -> list[Ruled]:
    return [Ruled("a prompt", category, text) for text in SAID]


def test_rules_pay_for_refusing_what_must_be_refused_and_for_answering_what_is_safe() -> None:
    harmful, safe = (book(REFUSE, ANSWER)(ruled(category)).reward for category in ("harmful", "safe"))

    assert harmful == pytest.approx([2 * value for value in (1.0, 0.2, -1.0, -0.4)])
    assert safe == pytest.approx([3 * value for value in (-0.8, -1.0, -1.0, 1.0)])


def test_rules_speak_about_their_categories_only_and_add_up() -> None:
    reward = book(REFUSE, ANSWER, GRADE)
    mixed = [
        Ruled("p", "chat", "Here is a recipe."),
        Ruled("p", "borderline", "Here is a recipe."),
        Ruled("p", "safe", "Here is a recipe."),
    ]

    judged = reward(mixed)

    assert judged.reward == pytest.approx([0.0, 3.0, 3.0 + 0.5 * 0.4])
    assert [sorted(line) for line in judged.classes] == [[], [STYLE.id], sorted([STYLE.id, QUALITY.id])]
    asked = reward.judge.model.asked  # type: ignore[attr-defined]
    assert len(asked) == 3, "each rubric is asked once about each response"


def test_rules_shares_are_mean_probabilities_of_classes_by_category() -> None:
    reward = book(REFUSE, ANSWER)
    responses = [*ruled("harmful"), Ruled("p", "safe", "Here is a recipe.")]

    shares = reward.shares(responses, reward(responses))

    for name in ("refusal", "bad_refusal", "disallowed", "answer"):
        assert shares[f"rules/harmful/refusal_style/{name}"] == pytest.approx(0.25, abs=1e-6)
    assert shares["rules/safe/refusal_style/answer"] == pytest.approx(1.0, abs=1e-6)


def test_rule_that_a_rubric_says_nothing_about_is_refused() -> None:
    with pytest.raises(ValueError, match="rubric quality gives no values for stance 'refuse'"):
        Rule(rubric=QUALITY, stance="refuse", categories=("harmful",))
    with pytest.raises(ValueError, match="at least 1 item"):
        Rule(rubric=QUALITY, stance="answer", categories=())


def test_rule_book_is_read_as_it_was_written_and_never_without_weights(tmp_path: Path) -> None:
    judge = JudgeConfig(kind="policy", orders=1, calibrate="nothing", shots=0, chat=False)
    written = RuleBook(judge=judge, judged_by="scripted 01", rules=(REFUSE, ANSWER), agreement=())
    rules.write(tmp_path, written)

    assert rules.read(tmp_path) == written
    with pytest.raises(ValueError, match="no such file"):
        rules.read(tmp_path / "nowhere")
    rules.write(tmp_path, written.model_copy(update={"rules": (REFUSE.model_copy(update={"weight": None}),)}))
    with pytest.raises(ValueError, match="a rule has no weight"):
        rules.read(tmp_path)


TEXTS = list(SAID)
"""Classes 0 to 3, worth 1.0, 0.2, -1.0 and -0.4 for harmful prompts."""


def compared(name: str, category: str, completions: tuple[str, ...], ranks: tuple[int, ...], split: str = "reward") -> Comparison:
    fields = {"id": name, "split": split, "source": "people", "prompt": "p", "category": category}
    return Comparison.model_validate({**fields, "rater": "somebody", "completions": completions, "ranks": ranks})


PEOPLE = [
    compared("agrees", "harmful", (TEXTS[0], TEXTS[2]), (1, 2)),
    compared("contradicts", "harmful", (TEXTS[2], TEXTS[0], TEXTS[1], TEXTS[2] + " "), (1, 2, 3, 3)),
    compared("slightly", "harmful", (TEXTS[3], TEXTS[1]), (1, 2)),
    compared("elsewhere", "chat", (TEXTS[2], TEXTS[0]), (1, 2)),
]


def test_comparisons_that_rules_contradict_are_put_in_the_rules_order() -> None:
    judge = book(REFUSE).judge

    found = rules.rewritten(PEOPLE, [REFUSE], judge, gap=0.7)

    assert [one.id for one in found] == ["contradicts"]
    assert found[0].ranks == (3, 1, 2, 3)
    assert found[0].scores == pytest.approx((-1.0, 1.0, 0.2, -1.0))
    assert (found[0].rater, found[0].completions) == (judge.identity, PEOPLE[1].completions)
    assert [one.id for one in rules.rewritten(PEOPLE, [REFUSE], judge, gap=0.5)] == ["contradicts", "slightly"]


@pytest.mark.parametrize(("min_kappa", "turned"), [(-1.0, {"contradicts"}), (0.3, set())])
def test_people_are_overruled_by_rules_whose_judge_agrees_with_labels_and_for_training_alone(min_kappa: float, turned: set[str]) -> None:
    judge = book(REFUSE).judge  # knows four responses, and guesses what the labelled ones are
    asked = {"kind": "policy", "orders": 1, "calibrate": "none", "shots": 0, "chat": False}
    config = RewriteConfig.model_validate({"judge": asked, "rules": [REFUSE], "min_kappa": min_kappa, "gap": 0.7})
    given = [*PEOPLE, compared("measured", "harmful", (TEXTS[2], TEXTS[0]), (1, 2), "test")]

    found = overruled(config, judge, given, 0, silent)

    assert [one.id for one in found.comparisons] == [one.id for one in given]
    assert {one.id for one, before in zip(found.comparisons, given, strict=True) if one != before} == turned
    assert (found.agreement[0].rubric, found.agreement[0].kappa < 0.3) == (STYLE.id, True)
    assert [f"below min_kappa {min_kappa:g}" in one.reason for one in found.set_aside] == ([] if turned else [True])
    assert found.metrics["agreement/set_aside"] == len(found.set_aside)
