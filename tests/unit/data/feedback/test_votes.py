"""Comparisons from raters' raw votes: who is read, ties, K, and how often people agree, by exhaustive counting."""

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback.votes import Draw, RatedText, VotesConfig, agreement, comparisons, draw, drawn_votes, read_ratings


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
        RatedText(str(i), "movie", f"text {i}", tuple(int(v) for v in np.clip(np.rint(generator.normal(m, 1.2, 9)), -4, 4)))
        for i, m in enumerate(means)
    ]


def test_read_ratings_split_domain_and_rater_parity_are_kept_apart(tmp_path: Path) -> None:
    path = write_ratings(tmp_path / "ratings.parquet")
    even = read_ratings(path, "reward", ["movie"], "even")
    odd = read_ratings(path, "reward", ["movie"], "odd")
    assert [(r.id, r.votes) for r in even] == [("a", (1, 2, 3)), ("d", (4, 2))]
    assert [(r.id, r.votes) for r in odd] == [("a", (-1, -2)), ("d", (3, 1))]


def test_read_ratings_nothing_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'gold' has no two rated texts"):
        read_ratings(write_ratings(tmp_path / "ratings.parquet"), "gold", ["movie"], "even")


def test_draw_one_pass_uses_each_text_once() -> None:
    rated = rated_texts(42)
    drawn = list(draw(rated, 4, np.random.default_rng(0)))
    used = [item for one in drawn for item in one.items]
    assert len(used) == len(set(used)) == 40
    assert drawn == list(draw(rated, 4, np.random.default_rng(0))) != list(draw(rated, 4, np.random.default_rng(1)))


def test_agreement_three_raters_equals_counting() -> None:
    rated = [RatedText("a", "movie", "a", (2, 1, -1)), RatedText("b", "movie", "b", (0, 1, 1))]
    pair = Draw((0, 1), (0, 0))
    fresh = [(x, y) for x, y in product((1, -1), (1, 1)) if x != y]
    assert drawn_votes(rated, pair) == (2, 0)
    assert agreement(rated, pair) == sum(x > y for x, y in fresh) / len(fresh) == 0.0
    assert agreement([RatedText("a", "movie", "a", (2, 1)), RatedText("b", "movie", "b", (0, 1))], pair) is None


def test_comparisons_keep_raters_and_items_apart_and_rank_by_the_drawn_votes(tmp_path: Path) -> None:
    texts = {
        split: [{"id": f"{split}{i}", "domain": "movie", "split": split, "text": f"{split} text {i}", "votes": votes} for i, votes in found]
        for split, found in {
            "reward": [(i, [i % 5, -4] * 4) for i in range(40)],
            "gold": [(i, [-4, i % 5] * 4) for i in range(40)],
            "test": [(i, [i % 5, 4 - i % 5] * 4) for i in range(40)],
        }.items()
    }
    pq.write_table(pa.Table.from_pylist([row for rows in texts.values() for row in rows]), tmp_path / "ratings.parquet")
    shape = {"domains": ("movie",), "test_domains": ("movie",), "completions": 4}
    config = VotesConfig(**shape, reward={"raters": "even", "passes": 2}, gold={"raters": "odd", "passes": 1})
    found = comparisons(tmp_path / "ratings.parquet", config, 0)
    by_split = {split: [one for one in found.comparisons if one.split == split] for split in texts}
    vote = {row["text"]: row["votes"] for rows in texts.values() for row in rows}
    for split, made in by_split.items():
        assert {text.split()[0] for one in made for text in one.completions} == {split}
        for one in made:
            drawn = [vote[text][0 if one.rater == "even" else 1] for text in one.completions]  # every vote of a group is the same here
            order = sorted(range(len(drawn)), key=lambda i: one.ranks[i])
            assert [drawn[i] for i in order] == sorted(drawn, reverse=True)
            assert all((drawn[i] == drawn[j]) == (one.ranks[i] == one.ranks[j]) for i in order for j in order)
            assert one.scores == tuple(drawn)
    assert {one.rater for one in by_split["reward"]} == {"even"}
    assert {one.rater for one in by_split["gold"]} == {"odd"}
    assert {one.rater for one in by_split["test"]} == {"even", "odd"}
    assert len(by_split["reward"]) + len(by_split["gold"]) + len(by_split["test"]) + found.ties == 20 + 10 + 40
    assert found.ties > 0
    assert all(one.agreement == 1.0 for one in by_split["test"])


def test_config_shared_raters_are_refused() -> None:
    shape = {"domains": ("movie",), "test_domains": ("movie",), "completions": 4}
    with pytest.raises(ValueError, match=r"gold.raters: must differ from reward.raters \(even\)"):
        VotesConfig(**shape, reward={"raters": "even", "passes": 1}, gold={"raters": "even", "passes": 1})
