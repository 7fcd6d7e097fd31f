"""C4's lines, repeated passages and the quality classifier on planted text."""

import random

import pytest

from modelyard.data.filters import c4, classifier, passages
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.classifier import ClassifierConfig

C4 = C4Config(min_line_words=5, min_sentences=3, terminal_punctuation=True, braces=True)
LINES = ["This line has enough words in it.", "Another line that also has enough words!", "Is a third line with a question long enough?"]


def test_c4_cuts_lines_that_are_no_prose():
    planted = [
        "Home | About | Contact us today",
        "Too short.",
        "Please enable JavaScript to see this whole page.",
        "See our privacy policy before you go on.",
    ]
    text = "\n".join(
        [planted[0], LINES[0], planted[1], LINES[1], planted[2], LINES[2] + "[12]", planted[3], "An unfinished line that trails off..."]
    )
    assert c4.cut(text, C4) == ("\n".join(LINES), None)


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
