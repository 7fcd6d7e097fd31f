"""Labels of harm: reading and refusing files, halves by near duplicates, and what a model learns from them."""

import hashlib
import json

import numpy as np
import pytest
from pydantic import ValidationError

from bench.abuse_functional import cases
from modelyard.data.corpus.document import DataError
from modelyard.data.filters import abuse, abuse_contrasts, abuse_labels, abuse_training
from modelyard.data.filters.abuse import AbuseConfig
from modelyard.data.filters.abuse_labels import CATEGORIES, UNKNOWN, LabelsConfig
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.harms.gather import HarmLabelsConfig, records

TEACHER = Teacher(["scum"], np.array([9.0]), np.array([1.0]), -1.0, 2.0, 0.0, frozenset({"the", "a", "is"}))
WORDS = ("river", "stone", "cloud", "road", "light", "field", "water", "wind", "hill", "sand", "leaf", "rain")
HARMS = {"S": "lewdly", "H": "hateful", "V": "stabbing", "HR": "bullying", "SH": "cutting", "S3": "minorly", "H2": "lynching", "V2": "gory"}


def _texts():
    """40 texts of each category, told by one word each, and 200 of none."""
    rng = np.random.default_rng(0)
    for number in range(520):
        words = [*rng.choice(WORDS, 12).tolist(), f"unique{number}"]
        key = list(HARMS)[number // 40] if number < 320 else ""
        yield {"prompt": " ".join([*words, *([HARMS[key]] * 2 if key else [])]), **{name: int(name == key) for name in HARMS}}


def _config(tmp_path, rows, **changes):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LabelsConfig(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), licence="MIT").model_copy(update=changes)


def _abuse(labels, **changes):
    return AbuseConfig(**{"sure": 0.5, "suspicious": 0.3, "lexicon": 0.5, "allowed": [], "labels": labels, **changes})


def test_labels_not_looked_at_are_zero_only_in_harmless_texts(tmp_path):
    rows = [*_texts(), {"text": "a harmless one"}, {"prompt": "a harmful one", "S": 1, "V": None}]
    found = abuse_labels.read(_config(tmp_path, rows))
    assert found.labels[-2].tolist() == [0] * 8
    assert found.labels[-1].tolist() == [1] + [UNKNOWN] * 7
    assert found.harmful[[-2, -1]].tolist() == [False, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "S": 2}, r"labels\.jsonl:521: S: "),
        ({"prompt": "x", "sexual": 1}, r"labels\.jsonl:521: sexual: "),
        ({"S": 1}, r"labels\.jsonl:521: .*needs one of prompt and text"),
        ([1], r"labels\.jsonl:521: not a JSON object"),
    ],
)
def test_labels_bad_row_is_refused_with_file_line_and_key(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        abuse_labels.read(_config(tmp_path, [*_texts(), row]))


def test_labels_of_another_hash_absent_or_of_one_class_are_refused(tmp_path):
    rows = list(_texts())
    with pytest.raises(DataError, match=r"labels\.jsonl"):
        abuse_labels.read(_config(tmp_path, rows, sha256="0" * 64))
    with pytest.raises(DataError, match=r"filters\.abuse\.labels: .*no such file"):
        abuse_labels.read(_config(tmp_path, rows, path="elsewhere.jsonl"))
    with pytest.raises(DataError, match=r"H2 \(hate/threatening\)"):
        abuse_labels.read(_config(tmp_path, [{**row, "H2": 0} for row in rows]))


def test_config_categories_are_known_and_need_labels(tmp_path):
    labels = _config(tmp_path, _texts())
    with pytest.raises(ValidationError, match="'spam' is none of sexual, hate"):
        _abuse(labels, categories={"spam": 0.5})
    with pytest.raises(ValidationError, match="need labels"):
        _abuse(None, categories={"hate": 0.5})


def test_filter_whose_labels_are_held_out_is_the_one_that_was_measured(tmp_path):
    labels = _config(tmp_path, _texts())
    whole, half = (abuse.train(["vileword"], TEACHER, _abuse(labels, held_out=held)) for held in (False, True))
    texts = abuse_labels.read(labels)
    expected = abuse_training.fit(texts.some(abuse_labels.first_half(texts.texts)), TEACHER, frozenset(), "")
    assert np.array_equal(half.filter.weights, expected.weights)
    assert not np.array_equal(half.filter.weights, whole.filter.weights)
    assert half.measured == whole.measured
    assert half.filter.origin.split(" ")[0] == str(int(abuse_labels.first_half(texts.texts).sum()))
    with pytest.raises(ValidationError, match="held_out: is of labels"):
        _abuse(None, held_out=True)


def test_halves_of_the_filter_and_of_the_content_classifier_are_the_same(tmp_path):
    labels = _config(tmp_path, _texts())
    texts = abuse_labels.read(labels).texts
    mine = {text for text, first in zip(texts, abuse_labels.first_half(texts), strict=True) if first}
    harms = HarmLabelsConfig(files=(labels,), test_share=0.5)
    assert {one.text for one in records(harms, ("",))[0] if one.split == "test"} == set(texts) - mine


def test_halves_keep_near_duplicates_together():
    rng = np.random.default_rng(1)
    vocabulary = [f"w{n}" for n in range(400)]
    texts = [" ".join(rng.choice(vocabulary, 30)) for _ in range(60)]
    copies = [" ".join("other" if n == 15 else word for n, word in enumerate(text.split())) for text in texts]
    half = abuse_labels.first_half([*texts, *copies])
    assert (half[:60] == half[60:]).all()
    assert 15 < half[:60].sum() < 45


def test_trained_categories_are_told_apart_refused_by_name_and_measured(tmp_path):
    trained = abuse.train([], TEACHER, _abuse(_config(tmp_path, _texts()), sure=2.0, categories=dict.fromkeys(CATEGORIES.values(), 0.5)))
    for key, name in CATEGORIES.items():
        text = f"river stone {HARMS[key]} cloud road {HARMS[key]} wind"
        assert trained.filter.refuse(text).reason == f"abuse/{name.replace('/', '_')}"
        assert trained.measured[f"average_precision/{name}"].value > 0.9
    assert trained.filter.refuse("river stone cloud road light") is None
    clean = " ".join(WORDS) + " "
    assert trained.filter.refuse(clean * 200 + " ".join(["gory"] * 60) + " " + clean * 200).reason == "abuse/violence_graphic"
    assert trained.measured["precision"].low > 0.9
    assert trained.measured["recall"].n < 300, "measured on the half that was not trained on"
    assert "520 labelled texts (MIT, sha256 " in trained.report()["origin"]


def test_training_twice_and_wherever_the_labels_lie_gives_the_same_model(tmp_path):
    labels = _config(tmp_path, _texts())
    first, second = (abuse_training.fit(abuse_labels.read(labels), TEACHER, frozenset(), "") for _ in range(2))
    assert first.identity == second.identity
    moved = labels.model_copy(update={"path": "elsewhere"})
    assert _abuse(labels).anywhere() == _abuse(moved).anywhere() != _abuse(None)


def test_contrasts_and_functional_tests_share_no_sentence():
    def plain(text):
        return text.lower().strip(".!")

    trained_on, asked = ({plain(text) for text in texts} for texts in (abuse_contrasts.contrasts().texts, [c.text for c in cases(each=99)]))
    assert trained_on & asked == set()
