"""What the card says of comparisons: read from the very records that the stages write."""

import json
from pathlib import Path

from modelyard import printable
from modelyard.judges import record
from modelyard.judges.agreement import Agreement
from modelyard.judges.open_judge import JudgeConfig
from modelyard.judges.record import AIFeedbackRecord, Count, SetAside
from modelyard.posttrain.judged import rules
from modelyard.posttrain.judged.rules import RuleBook
from modelyard.release.card.card_template import TEMPLATE
from modelyard.release.card.feedback import feedback

AGREEMENT = Agreement(
    rubric="refusal_style-v1-0badcafe",
    judge="policy 01",
    n=28,
    accuracy=0.71,
    accuracy_low=0.53,
    accuracy_high=0.85,
    kappa=0.608,
    kappa_low=0.443,
    kappa_high=0.804,
    label_probability=0.5,
    confusion=((1, 0), (0, 1)),
)


def world(root: Path) -> dict[str, Path]:
    """Records of a line in which two things were set aside."""
    inputs = {role: root / role for role in ("ai_feedback", "rbrm", "reward", "gold")}
    for directory in inputs.values():
        directory.mkdir()
    counts = (
        Count(split="reward", source="hh", ranked_by="people", comparisons=240, pairs=240),
        Count(split="reward", source="rankings", ranked_by="judge", comparisons=31, pairs=97),
    )
    aside = SetAside(what="comparisons against hallucination by closed_domain-v1", reason=record.below(AGREEMENT, 0.7))
    record.write(inputs["ai_feedback"], AIFeedbackRecord(counts=counts, agreement=(AGREEMENT,), set_aside=(aside,)))
    judge = JudgeConfig(kind="policy", orders=1, calibrate="examples", shots=2, chat=False)
    useless = SetAside(what="usefulness-v1", reason="judge <b> guesses")
    rules.write(inputs["rbrm"], RuleBook(judge=judge, judged_by="policy 01", rules=(), agreement=(), set_aside=(useless,)))
    ends = {"": 0.61, "_low": 0.55, "_high": 0.67, "_n": 210.0}
    metrics = {f"reward/test/{part}accuracy{end}": value for part in ("", "people/", "judge/") for end, value in ends.items()}
    (inputs["reward"] / "artifact.json").write_text(json.dumps({"metrics": metrics}))
    return inputs


def test_card_says_who_ranked_how_many_and_what_was_set_aside(tmp_path: Path) -> None:
    found = feedback(world(tmp_path))

    assert found.counts == [("reward", "hh", "people", "240", "240"), ("reward", "rankings", "judge", "31", "97")]
    assert found.accuracies == [("reward", whose, "0.610 [0.550, 0.670] n=210") for whose in ("all", "people", "a judge")]
    assert found.agreement == [("refusal_style-v1-0badcafe", "policy 01", "0.61 [0.44, 0.80] n=28")]
    assert found.set_aside == [
        (
            "comparisons against hallucination by closed_domain-v1",
            "judge policy 01 agrees with 71% of 28 labels, kappa 0.61 [0.44, 0.80] below min_kappa 0.7",
        ),
        ("rule-based reward by usefulness-v1", "judge <b> guesses"),
    ]


def test_card_without_ai_feedback_says_nothing_of_it(tmp_path: Path) -> None:
    inputs = world(tmp_path)

    found = feedback({role: inputs[role] for role in ("reward", "gold")})

    assert not any(found)


def test_card_sections_show_the_tables_and_escape_reasons(tmp_path: Path) -> None:
    start, end = TEMPLATE.index("{% if feedback.counts %}"), TEMPLATE.index("{% if rules %}")
    page = printable.page(TEMPLATE[start:end])

    shown = page.render(feedback=feedback(world(tmp_path)))

    assert "kappa 0.61 [0.44, 0.80] below min_kappa 0.7" in shown
    assert "judge &lt;b&gt; guesses" in shown
    assert '<td>rankings</td><td>judge</td><td class="n">31</td><td class="n">97</td>' in shown
    assert page.render(feedback=feedback({})).strip() == ""
