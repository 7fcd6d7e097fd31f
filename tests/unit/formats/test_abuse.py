"""The abuse model: windows, the file it is kept in, and a slow reference for its sums."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from modelyard.formats import abuse
from modelyard.formats.abuse import BITS, AbuseModel


def _model(weights: dict[str, list[float]], bias: tuple[float, ...] = (-3.0,), unknown: float = 4.0) -> AbuseModel:
    """Weights of words, or of ``two words``; every known word counts 1 in the norm, others ``unknown``."""

    def bucket(gram: str) -> int:
        found = abuse.codes(gram)
        return int((abuse.pairs(found) if found.size == 2 else abuse.singles(found))[0])

    grams = sorted(weights, key=bucket)
    table = np.array([[0.0] * len(bias), *(weights[gram] for gram in grams)], np.float32)
    squares = np.array([unknown, *(1.0 for _ in grams)], np.float32)
    buckets = np.array([-1, *map(bucket, grams)])
    names = ("offensive", "hate")[: len(bias)]
    return AbuseModel(frozenset({"vile"}), names, buckets, table, squares, np.array(bias, np.float32), "a test")


def test_log_odds_of_two_words_equal_the_sum_worked_by_hand() -> None:
    model = _model({"kill": [1.0, 0.0], "time": [0.5, 0.0], "kill time": [-4.0, 2.0]}, (-1.0, 0.25))
    expected = [[(1.0 + 0.5 - 4.0) / np.sqrt(2) - 1.0, 2.0 / np.sqrt(2) + 0.25]]
    assert np.allclose(model.log_odds("Kill time!"), expected, atol=1e-6)
    assert np.allclose(model.log_odds("kill nobody"), [[1 / np.sqrt(5) - 1.0, 0.25]], atol=1e-6)


def test_log_odds_of_a_long_text_equal_a_loop_over_windows() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{n}" for n in range(60)]
    model = _model({word: [float(value)] for word, value in zip(vocabulary, rng.normal(size=60), strict=True)})
    words = rng.choice([*vocabulary, "unseen"], 333).tolist()
    found = []
    for window in [words[start : start + size] for size in (50, 100) for start in range(0, 325 + 25 - size + 1, 25)]:
        rows = [model._rows[crc32(word.encode()) >> (32 - BITS)] for word in window]
        found.append([sum(float(model.weights[row, 0]) for row in rows) / np.sqrt(sum(float(model.squares[row]) for row in rows)) - 3.0])
    assert np.allclose(sorted(model.log_odds(" ".join(words)).tolist()), sorted(found), atol=1e-5)


def test_probability_of_a_passage_survives_any_amount_of_clean_text_around_it() -> None:
    model = _model({"vile": [6.0]})
    passage, clean = " ".join(["vile"] * 50), "a quiet word "
    alone = model.probability(passage)
    assert alone > 0.9
    for times in (100, 1000):
        assert model.probability(clean * times + passage + " " + clean * times) >= 0.99 * alone


def test_probability_of_any_joins_the_outputs_of_one_window() -> None:
    model = _model({"vile": [3.0, 2.0]}, (-1.0, -2.0))
    any_, outputs = model.judge("vile")
    assert outputs == pytest.approx({"offensive": 1 / (1 + np.exp(-2.0)), "hate": 0.5})
    assert any_ == pytest.approx(1 - (1 - outputs["offensive"]) * 0.5)
    assert model.judge("¿?") == (0.0, {"offensive": 0.0, "hate": 0.0})


def test_abuse_model_read_back_gives_the_same_answers(tmp_path: Path) -> None:
    model = _model({"vile": [2.0], "fine": [-1.0]})

    model.save(tmp_path)
    again = abuse.load(tmp_path)

    texts = ["a vile thing", "damn fine film", "", "V1le words"]
    assert [again.judge(t) for t in texts] == [model.judge(t) for t in texts]
    assert [again.word(t) for t in texts] == ["vile", None, None, "vile"]
    assert (again.identity, again.origin) == (model.identity, "a test")
    assert again.identity != _model({"vile": [2.0], "fine": [-1.1]}).identity


def test_abuse_model_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"abuse\.npz"):
        abuse.load(tmp_path)


def test_abuse_model_whose_arrays_do_not_fit_is_refused(tmp_path: Path) -> None:
    model = _model({"vile": [2.0]})
    AbuseModel(model.words, ("one", "two"), model.buckets, model.weights, model.squares, model.bias, "").save(tmp_path)
    with pytest.raises(ValueError, match=r"abuse\.npz: damaged .*do not fit"):
        abuse.load(tmp_path)


@pytest.mark.parametrize("text", ["they said 'vile' aloud", "VILE", "v1le", "'v1l3'", "so ''vile'"])
def test_word_of_the_lexicon_is_found_in_quotes_and_with_digits(text: str) -> None:
    model = _model({"kill": [1.0]})
    assert model.word(text) == "vile"
    assert model.word("vile's and revile") is None
