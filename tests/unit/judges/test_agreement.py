"""Agreement with labels against hand-worked tables."""

import numpy as np
import pytest

from modelyard.judges.agreement import compare, measure
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.rubric import Rubric
from modelyard.stats.kappa import cohens_kappa

from .scripted import Scripted, biased

RUBRIC = Rubric.model_validate(
    {
        "name": "kind",
        "version": 1,
        "question": "Which kind?",
        "shows_prompt": False,
        "options": [{"name": "yes", "text": "Yes"}, {"name": "no", "text": "No"}],
        "values": {"answer": {"yes": 1, "no": -1}},
        "examples": [{"prompt": f"p{i}", "stance": "answer", "responses": {"yes": f"yes {i}", "no": f"no {i}"}} for i in range(10)],
    }
)


def test_kappa_of_cohens_worked_table() -> None:
    # both yes 20, both no 15, judge yes only 10, label yes only 5: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    assert cohens_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohens_kappa(np.array([[7, 0], [0, 3]])) == 1.0
    assert cohens_kappa(np.array([[5, 0], [5, 0]])) == 0.0
    assert cohens_kappa(np.array([[5, 0], [0, 0]])) == 0.0


def test_agreement_counts_labels_against_likeliest_classes() -> None:
    labelled = RUBRIC.labelled()
    said = [[0.9, 0.1] if i < 12 else [0.2, 0.8] for i in range(20)]  # labels alternate yes, no

    found = compare(RUBRIC, "somebody", labelled, said, seed=0)

    assert found.n == 20
    assert found.confusion == ((6, 4), (6, 4))
    assert found.accuracy == 0.5
    assert found.kappa == 0.0
    assert found.accuracy_low < 0.5 < found.accuracy_high
    assert found.kappa_low <= 0.0 <= found.kappa_high
    assert found.label_probability == pytest.approx((6 * 0.9 + 6 * 0.1 + 4 * 0.2 + 4 * 0.8) / 20)
    assert (found.rubric, found.judge) == (RUBRIC.id, "somebody")


def test_agreement_of_a_judge_that_knows_and_of_one_that_only_likes_a_place() -> None:
    asking = Asking(orders=1, calibrate="none", shots=0, chat=False)
    knowing = Scripted(biased(lambda context, option: 5.0 * (f"Response:\n{option.lower()} " in context), ""))
    blind = Scripted(biased(lambda context, option: 0.0, "A"))

    right, wrong = (measure(Judge(model, asking), RUBRIC, seed=0) for model in (knowing, blind))

    assert (right.accuracy, right.kappa, right.kappa_high) == (1.0, 1.0, 1.0)
    assert 0 < right.kappa_low < 1, "a few labels are no certainty"
    assert (wrong.accuracy, wrong.kappa) == (0.5, 0.0)
    with pytest.raises(ValueError, match="rubric kind: no labelled examples"):
        measure(Judge(knowing, asking), RUBRIC.model_copy(update={"examples": ()}), seed=0)
