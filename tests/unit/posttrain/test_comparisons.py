"""Comparisons from raters' raw votes: who is read, ties, the ceiling by exhaustive counting, accuracy by margin."""

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.posttrain.comparisons import (
    Comparison,
    RatedText,
    accuracy_by_margin,
    agreement,
    draw_comparisons,
    draw_pairs,
    first_preferred,
    human_ceiling,
    pair_correct,
    read_ratings,
)


def write_ratings(path: Path) -> Path:
    rows = [
        {"id": "a", "domain": "movie", "split": "reward", "text": "good", "votes": [1, -1, 2, -2, 3]},
        {"id": "b", "domain": "movie", "split": "test", "text": "bad", "votes": [0, 0, 0, 0]},
        {"id": "c", "domain": "nyt", "split": "reward", "text": "news", "votes": [0, 0, 0, 0]},
        {"id": "d", "domain": "movie", "split": "reward", "text": "fine", "votes": [4, 3, 2, 1]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rated_texts(count: int, seed: int = 0) -> list[RatedText]:
    generator = np.random.default_rng(seed)
    means = generator.normal(0, 1.5, count)
    return [
        RatedText(str(i), f"text {i}", tuple(int(v) for v in np.clip(np.rint(generator.normal(m, 1.2, 9)), -4, 4)))
        for i, m in enumerate(means)
    ]


def test_read_ratings_split_domain_and_rater_parity_are_kept_apart(tmp_path: Path) -> None:
    path = write_ratings(tmp_path / "ratings.parquet")
    even = read_ratings(path, "reward", ["movie"], "even")
    odd = read_ratings(path, "reward", ["movie"], "odd")
    assert [(r.id, r.votes) for r in even] == [("a", (1, 2, 3)), ("d", (4, 2))]
    assert [(r.id, r.votes) for r in odd] == [("a", (-1, -2)), ("d", (3, 1))]


def test_read_ratings_nothing_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'scorer' has no two rated texts"):
        read_ratings(write_ratings(tmp_path / "ratings.parquet"), "scorer", ["movie"], "even")


def test_draw_comparisons_one_pass_uses_each_text_once_and_drops_ties() -> None:
    rated = [*rated_texts(40), RatedText("x", "x", (0, 0)), RatedText("y", "y", (0, 0))]
    drawn = draw_comparisons(rated, 4, np.random.default_rng(0))
    used = [item for comparison in drawn for item in comparison.items]
    assert len(used) == len(set(used))
    assert draw_comparisons(rated[-2:], 2, np.random.default_rng(0)) == []
    assert draw_pairs(rated, 3, seed=1) == draw_pairs(rated, 3, seed=1)
    assert len(draw_pairs(rated, 3, seed=1)) > 40


def test_agreement_three_raters_equals_counting() -> None:
    rated = [RatedText("a", "a", (2, 1, -1)), RatedText("b", "b", (0, 1, 1))]
    pair = Comparison((0, 1), (0, 0))
    fresh = [(x, y) for x, y in product((1, -1), (1, 1)) if x != y]
    assert first_preferred(rated, pair)
    assert agreement(rated, pair) == sum(x > y for x, y in fresh) / len(fresh) == 0.0
    assert agreement([RatedText("a", "a", (2, 1)), RatedText("b", "b", (0, 1))], pair) is None


def test_human_ceiling_equals_drawing_fresh_votes() -> None:
    rated = rated_texts(300)
    pairs = draw_pairs(rated, 2, seed=3)
    ceiling = human_ceiling(rated, pairs, seed=0)
    generator = np.random.default_rng(5)
    agreed = []
    for pair in pairs:
        per_pair = []
        for _ in range(60):
            votes = [rated[i].votes[generator.choice([k for k in range(9) if k != r])] for i, r in zip(*pair, strict=True)]
            if votes[0] != votes[1]:
                per_pair.append((votes[0] > votes[1]) == first_preferred(rated, pair))
        agreed += [np.mean(per_pair)] if per_pair else []
    assert ceiling.low < np.mean(agreed) < ceiling.high
    assert 0.6 < ceiling.value < 0.9


def test_pair_correct_mean_vote_as_score_beats_its_reverse_and_grows_with_margin() -> None:
    rated = rated_texts(400)
    pairs = draw_pairs(rated, 2, seed=3)
    means = [item.mean for item in rated]
    correct = pair_correct(rated, pairs, means)
    assert sum(correct) + sum(pair_correct(rated, pairs, [-m for m in means])) == len(pairs)
    assert set(pair_correct(rated, pairs, [0.0] * 400)) == {0.5}
    bins = accuracy_by_margin(rated, pairs, correct, [0.0, 0.5, 1.5])
    assert list(bins) == ["0-0.5", "0.5-1.5", "1.5-inf"]
    assert sum(b.n for b in bins.values()) == len(pairs)
    assert bins["0-0.5"].value < bins["0.5-1.5"].value < bins["1.5-inf"].value
