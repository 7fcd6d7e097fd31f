# ruff: noqa: RUF001
"""Filters, by the reason they give; near misses stay."""

from pathlib import Path

import ftfy
import hypothesis
import numpy as np
import pytest

from modelyard.config import read_tree
from modelyard.data.filters import abuse, language, normalise, quality, words
from modelyard.data.filters.abuse import AbuseConfig
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.filters.language import LanguageConfig
from modelyard.data.filters.lines import layout
from modelyard.data.filters.screen import FiltersConfig

TINY = Path(__file__).parents[3] / "configs" / "pipeline" / "tiny.toml"
FILTERS = FiltersConfig.model_validate(read_tree(TINY)["corpus"]["filters"])
LANGUAGE = LanguageConfig(accepted=["en"], confidence=0.6, min_letters=30)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Itâ€™s fine", "It's fine"),
        ("love &amp; peace", "love & peace"),
        ("cafe\u0301", "café"),
        ("a\r\nb\rc  \n", "a\nb\nc"),
        ("x\x00y\x1f", "xy"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("    indented\n    code", "    indented\n    code"),
    ],
)
def test_normalise_repairs_text_and_keeps_indentation(raw, clean):
    assert normalise.normalise(raw) == clean


@pytest.mark.parametrize(
    "text",
    [
        "\u4f60\u597d\uff0c\u4e16\u754c\uff01\uff08\u771f\u7684\uff09",
        "\u4ed6\u8bf4\uff1a\u201c\u4f60\u597d\u201d\u3002",
        "\uff76\uff80\uff76\uff85",
        "write `&amp;` where you mean &amp;",
        "print('\u201cquoted\u201d')",
    ],
)
def test_normalise_leaves_east_asian_punctuation_and_what_is_spoken_of_as_it_is(text):
    assert normalise.normalise(text) == text


def test_normalise_changes_line_ends_of_code_only():
    code = "\ufeffx = '&amp; \u201cq\u201d \ufb01 e\u0301 \xc3\xa9'  \r\n\r\n\r\n\r\n\r\n\x0cdef f():\r    return 1 && y\n"
    kept = "x = '&amp; \u201cq\u201d \ufb01 e\u0301 \xc3\xa9'  \n\n\n\n\n\x0cdef f():\n    return 1 && y"
    assert normalise.normalise(code, "code") == kept
    assert normalise.normalise(code) != kept


PIECES = [
    "â€™", "Ã©", "Ã ", "Â ", "é", "œ", "\u201c", "\u201d", "\u2019", "\u201e", "&amp;", "&lt;",
    "&AMP;", "<", "\n", "\r\n", "\r", " ", "a", "B", "word ", "ﬁ", "\x80", "\x85", "\x9f", "\u2028",
    "\ufeff", "e\u0301", "\x1b[31m", "\x00", "日本", "（", "。", "ｶ", "×", "²", "ØÙ", "à²", "вЂ", "Р",
    "В", "\xa0", "°", "Č", "€", "ŉ", "ʼ", "'", "\"", "`", "ΒΓ", "ā€", "�", "♪", "│", "Ãƒ", "\ud83d",
    "😀",
]  # fmt: skip


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(hypothesis.strategies.lists(hypothesis.strategies.sampled_from(PIECES), max_size=14).map("".join))
def test_normalise_mends_what_ftfy_mends(text):
    assert normalise.normalise(text) == normalise._tidied(ftfy.fix_text(text, normalise._config(text)))


def test_normalise_takes_a_line_of_a_million_blanks_in_one_pass():
    assert normalise.normalise("a" + " " * 2_000_000 + "\nb" + " " * 2_000_000 + "c") == "a\nb" + " " * 2_000_000 + "c"


@pytest.mark.parametrize(("text", "reason"), [(" \n\t", "normalise/empty"), ("lost \ufffd char", "normalise/undecodable")])
def test_normalise_refuse_names_the_reason(text, reason):
    assert normalise.refuse(text).reason == reason


@pytest.mark.parametrize(
    "text",
    ["Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter von gestern.", "誰がコンピュータを発明したのですか", "너는 더러워"],
)
def test_language_other_language_is_refused(text):
    assert language.identify(text, LANGUAGE).refusal.reason == "language/not_accepted"


@pytest.mark.parametrize(
    "text",
    [
        "Dull.",
        "A gripping, moving portrait of two sisters who cannot forgive.",
        "!!! 42 ...",
        "A CAMERA OF TEDIOUS SEQUELS, THE GENTLE ROMANCE, THE DREARY END.",
    ],
)
def test_language_english_and_undecidable_text_stays(text):
    assert language.identify(text, LANGUAGE) == ("en", None)


def _quality(text, kind, config, code="en"):
    block = words.characters([text])
    found = words.words(block, apostrophes=True, unspaced=True)
    [refusal] = quality.judge([text], block, found, layout(block), kind, config, code)
    return refusal


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("review", "Too bad.", "quality/too_short"),
        ("text", "word " * 5000, "quality/too_long"),
        ("text", "a b c d e f g h i j", "quality/word_length"),
        ("text", "one two three four five ===== ----- 11111 22222 ()()() [][][]", "quality/few_letters"),
        ("text", "This line stands here again.\n" * 4, "quality/duplicate_lines"),
        ("text", "spam spam spam spam spam spam spam spam eggs and more spam spam", "quality/repeated_word"),
        ("text", "#one #two #three #four #five #six and seven", "quality/symbols"),
        ("text", "Lorem ipsum dolor sit amet, consectetur adipiscing elit.", "quality/boilerplate"),
        ("code", "values = [" + "1234, " * 300 + "]\nname = other\ncall(name, values, more, words, here, now, then)", "quality/long_line"),
    ],
)
def test_quality_planted_text_is_refused_by_reason(kind, text, reason):
    config = FILTERS.quality[kind].model_copy(update={"min_alpha": 0.0} if kind == "code" else {})
    assert _quality(text, kind, config).reason == reason


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("review", "A quiet, funny, honest film."),
        ("text", "KING HENRY.\nWe hope to make the sender blush at it."),
        ("code", "def add(first, second):\n    total = first + second  # {}\n    return {'total': total}\n"),
        ("dialog", "Hello\nHi, how are you?"),
    ],
)
def test_quality_good_text_of_each_kind_stays(kind, text):
    assert _quality(text, kind, FILTERS.quality[kind]) is None


TEACHER = Teacher(
    words=["badword", "gay", "stupid", "table", "vileword", "vodka"],
    idf=np.array([4.0, 4.0, 3.0, 2.0, 5.0, 4.0]),
    weights=np.array([2.0, 3.0, 3.0, -0.5, 2.5, 0.0]),
    bias=-1.0,
    slope=3.0,
    offset=0.0,
    stop=frozenset({"the", "is", "a"}),
)
ABUSE = AbuseConfig(sure=0.9, suspicious=0.2, lexicon=0.5, allowed=["gay", "stupid"])


def test_abuse_without_labels_refuses_by_reason_and_ignores_allowed_words():
    trained = abuse.train(["badword", "gay", "vodka"], TEACHER, ABUSE)
    assert trained.filter.words == {"badword"}
    assert trained.filter.refuse("you badword vileword").reason == "abuse/classifier"
    assert trained.filter.refuse("stupid film about the gay table") is None
    milder = abuse.train(["badword"], TEACHER, ABUSE.model_copy(update={"sure": 1.0})).filter
    assert milder.refuse("the badword table is old").reason == "abuse/lexicon_and_classifier"
    assert milder.refuse("the vileword table is old") is None, "suspicious, and no word of the lexicon"
    assert (trained.measured, trained.report()["origin"]) == ({}, "the packaged model of alt-profanity-check; no labels")


def test_abuse_without_labels_gives_the_packaged_probability():
    """Worked by hand: the cosine-normalised TF-IDF of two words, the margin, the sigmoid."""
    found = abuse.train([], TEACHER, ABUSE).filter.probability("The badword is a table, stupid")
    margin = (4.0 * 2.0 + 2.0 * -0.5) / np.sqrt(4.0**2 + 2.0**2) - 1.0
    assert found == pytest.approx(1 / (1 + np.exp(-3.0 * margin)), abs=1e-6)
