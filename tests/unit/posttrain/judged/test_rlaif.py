"""AI preferences: K completions ranked by their wins, ties, and records like people's."""

import pytest

from modelyard.formats.feedback import Comparison
from modelyard.judges.judge import Asking, Judge
from modelyard.posttrain.judged.candidates import Candidates
from modelyard.posttrain.judged.rlaif import label, ranked
from tests.unit.judges.scripted import Scripted, biased

BOTH = Asking(orders=2, calibrate="none", shots=0, chat=False)
WORTH = {"great": 2.0, "fine": 1.0, "fair": 1.0, "bad": -1.0}


def by_worth(context: str, option: str) -> float:
    return WORTH.get(option, 0.0)


def test_labels_rank_completions_by_wins_tie_near_equals_and_name_the_judge() -> None:
    judge = Judge(Scripted(biased(by_worth, "A")), BOTH)
    candidates = [
        Candidates("1", "p", ("fine", "bad", "great", "fair"), "story"),
        Candidates("2", "p", ("fine", "fair")),
        Candidates("3", "p", ("bad", "fine")),
    ]

    labels = label(judge, candidates, "reward", tie=0.05)

    assert [one.id for one in labels.comparisons] == ["ai-1", "ai-3"]
    assert labels.comparisons[0].ranks == (2, 3, 1, 2)
    assert labels.comparisons[1].ranks == (2, 1)
    assert (labels.comparisons[0].rater, labels.comparisons[0].source, labels.comparisons[0].category) == (judge.identity, "rlaif", "story")
    assert labels.tied == 1
    assert labels.contradicted.n == 8
    assert Comparison.model_validate_json(labels.comparisons[0].model_dump_json()) == labels.comparisons[0]


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [((0.9, 0.1), (1, 2)), ((0.5, 0.5), (1, 1)), ((0.5, 0.46, 0.42), (1, 1, 2)), ((0.2, 0.8, 0.79, 0.4), (3, 1, 1, 2))],
)
def test_ranked_near_scores_share_the_rank_of_their_first(scores: tuple[float, ...], ranks: tuple[int, ...]) -> None:
    assert ranked(scores, 0.05) == ranks


def test_labels_that_cannot_be_made_are_refused() -> None:
    judge = Judge(Scripted(), BOTH)
    with pytest.raises(ValueError, match="x: fewer than two completions"):
        label(judge, [Candidates("x", "p", ("alone",))], "reward", 0.1)
