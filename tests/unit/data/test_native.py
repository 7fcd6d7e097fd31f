# ruff: noqa: RUF001 (letters of many scripts are what this file is about)
"""The compiled counting gives, to the last bit, what the NumPy code beside it gives, on texts of many scripts."""

import ctypes
import random
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.data.filters import duplicates, gopher, native, passages, pii, quality, words
from modelyard.data.filters.abuse import AbuseFilter
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.gopher import GopherConfig
from modelyard.data.filters.languages import LANGUAGES
from modelyard.data.filters.lines import layout
from modelyard.data.filters.quality import QualityConfig
from modelyard.data.filters.tallies import tallies

FILTERS = tomllib.loads((Path(__file__).parents[3] / "configs/data/web.toml").read_text("utf-8"))["corpus"]["filters"]
GOPHER = GopherConfig.model_validate(FILTERS["gopher"]["text"])
QUALITY = QualityConfig.model_validate(FILTERS["quality"]["text"])
COPIES = DuplicatesConfig.model_validate(FILTERS["duplicates"])
_PIECES = "a B the of and 's ’ ' don't ... .... … # ## - • é ß İ ſ がぎ か\u3099 東京 ラー 日本語の ภาษาไทย ไทย မြန်မာ हिन्दी किताबें 한국어는 니다 Мы"
_ODD = "\n|\n\n|\t|\u00a0|\u2028|\u200c|\u200d|\u0301|\ufe0f|\U0001f600|\U00020000|\ud800|\x00|0|12|١٢|.|,|!|-x|x-|$@* a$s|می\u200cخواهم"
PIECES = [*_PIECES.split(), "", *_ODD.split("|")]
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
    st.text(max_size=80),
    st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), st.integers(2, 12)).map(
        lambda drawn: " ".join(drawn[0] * drawn[1])
    ),
)


@pytest.fixture(scope="module", autouse=True)
def _library(tmp_path_factory):
    """The library of the source as it is; an installed one may be older, or not there."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler: NumPy counts alone")
    file = tmp_path_factory.mktemp("native") / "counting.so"
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", str(file), str(Path(native.__file__).with_name("counting.c"))], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LIBRARY", ctypes.CDLL(str(file)))
        yield


def _everything(texts, language):
    """Each value that is counted, by the code that runs now."""
    block = words.characters(texts)
    values = [block.kinds, block.prefix]
    for apostrophes, unspaced in ((True, True), (False, True), (False, False)):
        found = words.words(block, apostrophes, unspaced)
        values += found
        for n in (1, 3, 5, 50):
            hashes, starts = words.ngrams(found, n)
            state = words.seen_before(hashes, found.documents[starts])
            values += [hashes, starts, state, words.covered(found, starts[state == words.AGAIN], n)]
    found, lines = words.words(block, True, True), layout(block)
    values += [*lines.lines, *lines.paragraphs, lines.longest, lines.lines.repeated(block)]
    values += [value for rule in gopher.measure(block, found, lines, GOPHER, language) for value in (rule.name, rule.values)]
    values += [quality.judge(texts, block, found, lines, "text", QUALITY, language), *quality._top_word(found), *tallies(block, found)]
    words_of_abuse = [AbuseFilter.codes(object.__new__(AbuseFilter), text) for text in texts]
    return [*values, *words_of_abuse, passages.cut(texts, 3), duplicates.signatures(texts, COPIES)]


def _require_equal(texts, language):
    assert native.available()
    compiled = _everything(texts, language)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LIBRARY", None)
        plain = _everything(texts, language)
    for mine, reference in zip(compiled, plain, strict=True):
        if isinstance(reference, np.ndarray):
            assert mine.dtype == reference.dtype
            np.testing.assert_array_equal(mine, reference)
        else:
            assert mine == reference


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6), st.sampled_from(sorted(LANGUAGES)))
def test_compiled_counting_on_any_texts_equals_numpy(texts, language):
    _require_equal(texts, language)


NUMBERS = st.text(st.sampled_from("0123456789 ().+/-ABCDEFGHxé\n٣４－　²"), max_size=80)


@settings(max_examples=300, deadline=None)
@given(NUMBERS)
def test_compiled_scan_for_numbers_finds_what_the_patterns_find(text):
    found = sorted(pii._windows(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LIBRARY", None)
        assert sorted(pii._windows(text)) == found


def test_compiled_counting_on_long_texts_that_repeat_equals_numpy():
    rng = random.Random(0)
    vocabulary = [f"{piece}{number}" for number in range(12) for piece in ("the", "Of", "本", "ไท", "и")]
    for language in ("en", "ja", "th", "ru"):
        runs = [[rng.choice(vocabulary) for _ in range(rng.randrange(1, 30))] for _ in range(8)]
        texts = [rng.choice((" ", "", "\n", ". ")).join(word for _ in range(40) for word in rng.choice(runs)) for _ in range(12)]
        _require_equal(texts, language)
