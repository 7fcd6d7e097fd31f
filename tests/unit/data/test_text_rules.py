"""C4's lines, repeated passages and the quality classifier on planted text."""

import random
import re
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus.document import READ_SCHEMA
from modelyard.data.filters import abuse, c4, classifier, languages, passages, wrapped
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.classifier import ClassifierConfig
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.screen import FiltersConfig, Screen

C4 = C4Config(min_line_words=5, min_sentences=3, terminal_punctuation=True, braces=True)
FILTERS = tomllib.loads((Path(__file__).parents[3] / "configs/data/web.toml").read_text("utf-8"))["corpus"]["filters"]
LINES = ["This line has enough words in it.", "Another line that also has enough words!", "Is a third line with a question long enough?"]


def test_c4_cuts_lines_that_are_no_prose_and_counts_them_by_rule():
    prose = [f"{line[:-1]}, and it goes on for a while before it is over{line[-1]}" for line in LINES]
    planted = [
        "Home | About | Contact us today",
        "Too short.",
        "Please enable JavaScript to see this whole page.",
        "See our privacy policy before you go on.",
    ]
    text = "\n".join([planted[0], prose[0], planted[1], prose[1], planted[2], prose[2] + "[12]", planted[3], "An unfinished line..."])
    cut = c4.cut(text, C4)
    assert (cut.text, cut.refusal) == ("\n".join(prose), None)
    assert cut.characters == {
        "c4/unfinished_line": len(planted[0]) + 1 + len("An unfinished line...") + 1,
        "c4/short_line": len(planted[1]) + 1,
        "c4/policy_line": len(planted[2]) + 1 + len(planted[3]) + 1,
        "c4/citation": len("[12]"),
    }


@given(st.text(alphabet=st.sampled_from("ab .!?\"')]\u201d\n\u3002\uff01\u0964\u0e01\u00a0"), max_size=60))
def test_sentences_are_those_of_the_rule_in_one_expression(text):
    rule = r"[.!?]+[\"'\u201d)\]]*(?=\s|$)|[\u3002\uff01\u0964]+|[\u0e00-\u0eff](?=\s|$)"
    assert languages.sentences(text) == len(re.findall(rule, text))


def test_c4_refuses_a_page_that_would_lose_more_than_half_of_itself():
    menu = ["Home", "Offices in all parts of the country", "Everything there is about us", "News", "All that our partners have to say"]
    menu += ["Shop", "The page in other languages"]
    text = "\n".join([*LINES, *menu])
    share = sum(len(line) + 1 for line in menu) / len(text)
    refusal = c4.cut(text, C4).refusal
    assert share > 0.5
    assert (refusal.reason, refusal.detail) == ("c4/mostly_cut", f"{share:.0%} of its characters, most by c4/unfinished_line")
    assert c4.cut(text, C4.model_copy(update={"max_cut": 1.0})).text == "\n".join(LINES)


PROSE = (
    "The harbour was quiet that year, and the men who had worked on the ships sat with their backs to the wall "
    "and talked of the coal and the timber that used to come. Nobody had told them that the line was to be closed. "
    "It was closed all the same, in the first week of the spring, and the station with it."
)


@pytest.mark.parametrize("column", [50, 72, 79, 100])
def test_c4_keeps_hand_wrapped_prose_and_judges_its_paragraphs(column):
    paragraphs = [textwrap.fill(f"{PROSE} {name} wrote it down. {PROSE}", column) for name in ("Ann", "Ben", "Cleo")]
    heading = "Chapter the second of the book"
    cut = c4.cut("\n\n".join([paragraphs[0], heading, *paragraphs[1:]]), C4)
    assert cut.text == "\n\n".join(paragraphs)
    assert cut.characters == {"c4/unfinished_line": len(heading) + 1}


def test_wrapped_verse_lists_and_pages_of_long_lines_are_not():
    verse = "So shaken as we are, so wan with care,\nFind we a time for frighted peace to pant,\nAnd breathe" + (
        " short-winded accents of new broils\nTo be commenced in strands afar remote.\nNo more\nof this\nthan that\nand so we go\n"
    )
    menu = "\n".join(["Home", "About us", "Contact", "A longer entry of the menu that says something", "Terms", "Imprint"] * 3)
    assert not any(wrapped.is_wrapped(text.split("\n")) for text in (verse, menu, "\n".join([PROSE] * 9)))
    assert wrapped.is_wrapped(textwrap.fill(PROSE, 60).split("\n"))


def test_wrapped_lines_of_a_script_without_capitals_are_told_by_unended_sentences():
    sentence = "우리는 아침마다 강가를 따라 걸으면서 지난밤에 있었던 일을 서로에게 이야기했다."
    assert not wrapped.is_wrapped([sentence] * 8)
    assert wrapped.is_wrapped(textwrap.fill(" ".join([sentence] * 12), 60).split("\n"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(LINES[:2]), "c4/few_sentences"),
        ("\n".join([*LINES, "int main() { return 0; }"]), "c4/brace"),
        ("\n".join([*LINES, "Lorem ipsum dolor sit amet, consectetur."]), "c4/lorem_ipsum"),
    ],
)
def test_c4_refuses_pages_by_reason(text, reason):
    assert c4.cut(text, C4).refusal.reason == reason


def test_passages_later_copies_are_cut_whatever_their_case_and_punctuation():
    rng = random.Random(0)
    words = [f"word{n}" for n in range(5000)]
    passage, before, between, after = (" ".join(rng.sample(words, 60)) for _ in range(4))
    text = f"{before}. {passage}! {between}\n{passage.upper().replace(' ', ', ')}. {after}"
    near_miss = f"{before} {passage} {between} {' '.join(passage.split()[:49])} {after}"
    cut, kept, plain = passages.cut([text, near_miss, before], 50)
    assert cut.text == f"{before}. {passage}! {between}\n. {after}"
    assert cut.characters == len(text) - len(cut.text)
    assert (kept.text, plain.text) == (near_miss, before)


def test_passages_document_that_is_mostly_repetition_is_refused_whole_by_reason():
    rng = random.Random(1)
    words = [f"word{n}" for n in range(5000)]
    passage, rest = (" ".join(rng.sample(words, 60)) for _ in range(2))
    most = " ".join([passage, *([passage] * 3), rest])
    half = " ".join([passage, passage, rest])
    refused, kept = passages.cut([most, half], 50)
    assert (refused.text, refused.characters) == (most, 0)
    assert (refused.refusal.reason, refused.refusal.detail) == (
        "repeated_passage/mostly_cut",
        f"{3 * len(passage) / len(most):.0%} of its characters",
    )
    assert (kept.text, kept.refusal) == (f"{passage}  {rest}", None)
    assert kept.characters == len(passage)


def test_passages_of_a_kind_whose_size_is_0_are_not_looked_for():
    text = " ".join(["The harbour was quiet that year, and the men who had worked on the ships sat with their backs to the wall."] * 6)
    filters = FiltersConfig.model_validate({**FILTERS, "gopher": {}, "c4": {}, "repeated_passage": {"text": 0, "review": 20}})
    teacher = Teacher(["vileword"], np.array([8.0]), np.array([2.0]), -1.0, 8.0, 0.0, frozenset())
    screen = Screen(filters, abuse.train(["vileword"], teacher, filters.abuse).filter)
    common = {"source": "s", "language": "en", "licence": "MIT", "group": "", "web": False, "text": text}
    rows = [{"id": kind, "kind": kind, **common} for kind in ("text", "review")]
    kept, refused = screen(pa.Table.from_pylist(rows, schema=pa.schema(READ_SCHEMA))).to_pylist()
    assert (kept["text"], kept["reason"], kept["cut"]) == (text, None, "")
    assert refused["reason"] == "repeated_passage/mostly_cut"


@pytest.mark.parametrize(
    ("config", "good", "bad"),
    [
        (FiltersConfig, FILTERS, {"repeated_passage": {"text": -1}}),
        (DuplicatesConfig, FILTERS["duplicates"], {"shingle": 0}),
        (DuplicatesConfig, FILTERS["duplicates"], {"permutations": 0}),
        (ContaminationConfig, {"seed": 0, "substrings": 3, "length": 50, "ngram": 8}, {"ngram": 7}),
        (ContaminationConfig, {"seed": 0, "substrings": 3, "length": 50, "ngram": 8}, {"substrings": 0}),
        (ContaminationConfig, {"seed": 0, "substrings": 3, "length": 50, "ngram": 8}, {"seed": -1}),
    ],
)
def test_config_sizes_that_nothing_can_be_counted_by_are_refused(config, good, bad):
    config.model_validate(good)
    with pytest.raises(ValidationError, match=f"1 validation error for {config.__name__}\n{next(iter(bad))}"):
        config.model_validate({**good, **bad})


def test_classifier_tells_curated_from_raw_and_keeps_a_little_of_the_raw():
    rng = random.Random(0)
    shared = [f"common{n}" for n in range(200)]
    curated, raw = (
        [" ".join(rng.choices([*shared, *(f"{name}{n}" for n in range(300))], k=80)) for _ in range(300)] for name in ("fine", "spam")
    )
    config = ClassifierConfig(curated=["books"], raw=["crawl"], documents=250, pareto=9.0)
    trained = classifier.train(curated, raw, config)
    assert trained.precision.value > 0.95
    assert trained.recall.value > 0.95
    unseen = [*curated[250:], *raw[250:]]
    scores = trained.classifier.scores(unseen)
    assert scores[:50].min() > scores[50:].max()
    refused = [refusal is not None for refusal in trained.classifier.refuse(unseen, ["crawl"] * 100)]
    assert sum(refused[:50]) < 10
    assert sum(refused[50:]) > 40
    assert trained.classifier.refuse(unseen, ["books"] * 100) == [None] * 100, "a curated source is not asked"
    assert trained.classifier.refuse(unseen[::-1], ["crawl"] * 100)[::-1] == trained.classifier.refuse(unseen, ["crawl"] * 100)
