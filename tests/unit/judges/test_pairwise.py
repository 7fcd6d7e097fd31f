"""A judge on pairs: both positions, its bias and contradictions by hand, agreement with people, and pair sets as published."""

import math
from typing import Any

import pytest

from modelyard.formats.feedback import Comparison
from modelyard.formats.json_file import Line
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.pairwise import Pair, judged, of_comparisons, prefer, read_pair, sided
from tests.unit.judges.scripted import Scripted, biased

BOTH = Asking(orders=2, calibrate="none", shots=0, chat=False)
WORTH = {"great": 2.0, "fine": 1.0, "fair": 1.0, "bad": -1.0, "awful": -9.0}


def by_worth(context: str, option: str) -> float:
    return WORTH.get(option, 0.0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_preference_is_the_mean_of_both_positions_hand_worked() -> None:
    judge = Judge(Scripted(biased(by_worth, "A")), BOTH)  # 3 nats for whatever stands first

    great_bad, bad_great, equal = prefer(judge, [("p", "great", "bad"), ("p", "bad", "great"), ("p", "fine", "fair")])

    assert great_bad.first == pytest.approx((sigmoid(3 + 3) + 1 - sigmoid(-3 + 3)) / 2)
    assert bad_great.first == pytest.approx(1 - great_bad.first)
    assert (equal.first, equal.contradicted, equal.front) == (pytest.approx(0.5), True, 1.0)
    assert not prefer(Judge(Scripted(biased(by_worth, "")), BOTH), [("p", "great", "bad")])[0].contradicted
    with pytest.raises(ValueError, match="asked in both positions"):
        prefer(Judge(Scripted(), Asking(orders=1, calibrate="none", shots=0, chat=False)), [("p", "a", "b")])


@pytest.mark.parametrize(("place", "front"), [("A", 0.75), ("B", 0.25), ("", 0.5)])
def test_judged_position_bias_and_contradictions_are_counted(place: str, front: float) -> None:
    """Of two pairs the judge is sure of one, and takes its favourite place in the other, which is nearly even."""
    pairs = [Pair("1", "p", "great", "awful", 0), Pair("2", "q", "great", "fine", 1)]

    _, found = judged(Judge(Scripted(biased(by_worth, place)), BOTH), pairs, 0)

    assert (found.front.value, found.front.n) == (front, 4)
    assert (found.contradicted.value, found.contradicted.n) == (0.5 if place else 0.0, 2)
    assert found.wins.value == 1.0
    assert found.agreement
    assert (found.agreement.accuracy, found.agreement.confusion) == (0.5, ((1, 0), (1, 0)))
    assert found.consistent
    assert (found.consistent.value, found.consistent.n) == ((1.0, 1) if place else (0.5, 2))


def test_judged_undecided_pair_wins_a_half_and_agrees_with_nobody() -> None:
    pairs = [Pair("1", "p", "fine", "fair", 0), Pair("2", "p", "fine", "fair", 1), Pair("3", "p", "fine", "fair")]
    _, found = judged(Judge(Scripted(biased(by_worth, "")), BOTH), pairs, 0)
    assert found.wins.value == 0.5
    assert found.agreement
    assert (found.agreement.n, found.agreement.accuracy, found.agreement.kappa) == (2, 0.0, 0.0)
    assert found.agreement.confusion == ((0, 0, 1), (0, 0, 1))
    assert judged(Judge(Scripted(), BOTH), pairs[2:], 0)[1].agreement is None
    with pytest.raises(ValueError, match="no pair"):
        judged(Judge(Scripted(), BOTH), [], 0)


def test_people_s_comparisons_become_pairs_with_the_better_on_either_side() -> None:
    def ranked(name: str, completions: tuple[str, ...], ranks: tuple[int, ...]) -> Comparison:
        fields = {"id": name, "split": "test", "source": "people", "prompt": "p", "completions": completions, "ranks": ranks}
        return Comparison.model_validate(fields)

    pairs = of_comparisons([ranked(str(n), ("great", "bad", "fine"), (1, 3, 2)) for n in range(20)])

    assert len(pairs) == 60
    assert 15 < sum(pair.better for pair in pairs) < 45
    assert all(WORTH[(pair.first, pair.second)[pair.better]] > WORTH[(pair.first, pair.second)[1 - pair.better]] for pair in pairs)
    _, found = judged(Judge(Scripted(biased(by_worth, "")), BOTH), pairs, 0)
    assert found.agreement
    assert (found.agreement.accuracy, found.agreement.kappa) == (1.0, 1.0)


DIALOGUE = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How?\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"input": "i", "output_1": "a", "output_2": "b", "label": 2}, Pair("7", "i", "a", "b", 1)),
        ({"input": "i", "output_1": "a", "output_2": "b"}, Pair("7", "i", "a", "b", -1)),
        ({"prompt": "i", "chosen": "a", "rejected": "b", "subset": "chat", "id": 3}, sided("3", "i", "a", "b", "chat")),
        ({"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} b"}, sided("7", DIALOGUE[: -len("\n\nAssistant:")], " a", " b", "")),
        (
            {
                "chosen": [{"role": "user", "content": "i"}, {"role": "assistant", "content": "a"}],
                "rejected": [{"role": "assistant", "content": "b"}],
            },
            sided("7", "user: i", "a", "b", ""),
        ),
    ],
)
def test_read_pair_knows_the_published_forms(row: dict[str, Any], expected: Pair) -> None:
    assert read_pair(Line("f:1", row), 7) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "i", "output_1": "a", "output_2": "b", "label": 0}, "f:1: label: 0 is neither 1 nor 2"),
        ({"input": "i", "output_1": "a", "output_2": None, "label": 1}, "f:1: output_2: not a text but NoneType"),
        ({"text": "x"}, "f:1: neither input, output_1 and output_2 nor chosen and rejected"),
    ],
)
def test_read_pair_names_the_line_that_is_none(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pair(Line("f:1", row), 7)
