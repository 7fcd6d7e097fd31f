"""Rules per language, from the config to the tokenizer: prose stays and is labelled, what is no prose goes by
its reason."""

import random
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.data.filters import c4, duplicates, gopher, language, passages, quality, words
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.gopher import GopherConfig
from modelyard.data.filters.language import LanguageConfig
from modelyard.data.filters.languages import LANGUAGES
from modelyard.data.filters.lines import layout
from modelyard.data.filters.quality import QualityConfig
from modelyard.data.tokens import tokenizer
from tests.worlds.prose import PROSE

WEB = tomllib.loads((Path(__file__).parents[3] / "configs/data/web.toml").read_text())["corpus"]["filters"]
QUALITY, GOPHER = QualityConfig.model_validate(WEB["quality"]["text"]), GopherConfig.model_validate(WEB["gopher"]["text"])
C4, COPIES = C4Config.model_validate(WEB["c4"]["text"]), DuplicatesConfig.model_validate(WEB["duplicates"])
ALL = LanguageConfig(accepted=sorted(PROSE), confidence=0.6, min_letters=30)


def _reasons(text, code):
    """Every counting rule's family and rule that the text breaks."""
    block = words.characters([text])
    found, lines = words.words(block, apostrophes=True, unspaced=True), layout(block)
    first = quality.judge([text], block, found, lines, "text", QUALITY, code)
    return [refusal.reason for refusal in [*first, *gopher.judge(block, found, lines, GOPHER, code), c4.cut(text, C4).refusal] if refusal]


@pytest.mark.parametrize("code", PROSE)
def test_rules_prose_of_each_language_is_kept_whole_and_labelled(code):
    assert language.identify(PROSE[code], ALL) == (code, None)
    assert _reasons(PROSE[code], code) == []
    assert c4.cut(PROSE[code], C4).text == PROSE[code], "no line is cut"


@pytest.mark.parametrize("code", PROSE)
def test_rules_shuffled_characters_and_repeated_lines_are_refused_by_reason(code):
    characters = list(PROSE[code])
    random.Random(0).shuffle(characters)
    assert "gopher/stop_words" in _reasons("".join(characters), code)
    assert "quality/duplicate_lines" in _reasons("\n".join([PROSE[code].split("\n")[0]] * 6), code)


@pytest.mark.parametrize("code", PROSE)
def test_language_every_other_language_is_refused(code):
    accepted = LanguageConfig(accepted=[code], confidence=0.6, min_letters=30)
    refused = {other: language.identify(text, accepted) for other, text in PROSE.items() if other != code}
    assert {other: (found.language, found.refusal and found.refusal.reason) for other, found in refused.items()} == {
        other: (other, "language/not_accepted") for other in refused
    }


@pytest.mark.parametrize(
    ("text", "accepted", "declared", "expected", "refused"),
    [
        ("憲法前文", ["ja"], "und", "ja", False),  # ideographs alone prove neither Chinese nor Japanese
        ("憲法前文", ["en"], "und", "zh", True),
        ("これはペンです", ["zh"], "und", "ja", True),
        ("Dull.", ["en", "ja"], "und", "en", False),  # Estonian, says the detector; of the accepted ones English has this script
        ("Dull.", ["de", "en"], "en", "en", False),
        ("안녕하세요", ["en", "ko"], "und", "ko", False),
        ("!!! 42 ...", ["en"], "und", "en", False),
    ],
)
def test_language_short_texts_go_by_their_script(text, accepted, declared, expected, refused):
    found = language.identify(text, LanguageConfig(accepted=accepted, confidence=0.6, min_letters=30), declared)
    assert (found.language, found.refusal is not None) == (expected, refused)


def test_language_config_without_rules_is_refused_by_name():
    with pytest.raises(ValidationError, match="there are no rules for 'tlh'; there are for"):
        LanguageConfig(accepted=["en", "tlh"], confidence=0.6, min_letters=30)
    with pytest.raises(ValidationError, match="at least 1 item"):
        LanguageConfig(accepted=[], confidence=0.6, min_letters=30)


def test_languages_every_list_can_reach_what_the_recipes_ask():
    assert {code: len(set(rules.stop)) for code, rules in LANGUAGES.items() if len(set(rules.stop)) < 4 * GOPHER.min_stop_words} == {}
    block = words.characters([word for rules in LANGUAGES.values() if rules.found_as == "words" for word in rules.stop])
    assert (words.words(block).counts == 1).all(), "a stop word with a space or mark inside is never found as a word"


def test_words_marks_belong_to_their_letters_and_unspaced_characters_are_words():
    block = words.characters(["हिन्दी में किताबें", "東京でPython を学ぶ", "ภาษาไทย", "a ❤️ b 1️⃣", "می‌خواهم"])
    found = words.words(block, unspaced=True)
    texts = "".join(map(chr, block.codes))
    pieces = [texts[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
    assert pieces == ["हिन्दी", "में", "किताबें", *"東京で", "Python", *"を学ぶ", *"ภาษาไทย", "a", "b", "1", "می‌خواهم"]
    assert found.counts.tolist() == [3, 1 + 6 / 2, 7 / 4, 3, 1]
    assert found.steps.tolist() == [1, 2, 4, 1, 1]
    assert words.words(block).counts.tolist() == [3, 2, 1, 3, 1], "where it is not asked for, a run is one word"


def _changed(text, share, rng):
    characters = list(text)
    for at in rng.sample(range(len(text)), round(share * len(text))):
        characters[at] = rng.choice(text)
    return "".join(characters)


@pytest.mark.parametrize("code", ["ja", "zh", "th", "ko", "en"])
def test_signatures_one_percent_of_characters_changed_is_found_and_other_text_is_not(code):
    rng = random.Random(0)
    sentences = [line for line in PROSE[code].split("\n") for _ in range(8)]
    originals = ["".join(rng.sample("".join(sentences), 600)) for _ in range(30)]
    if code in ("en", "ko"):
        vocabulary = PROSE[code].split()
        originals = [" ".join(rng.choices(vocabulary, k=120)) for _ in range(30)]
    texts = [*originals, *(_changed(text, 0.01, rng) for text in originals)]
    found = duplicates.find([duplicates.exact_key(text) for text in texts], duplicates.signatures(texts, COPIES), COPIES)
    assert found[:30] == [None] * 30, "the same characters in another order are other text"
    hits = [copy is not None and copy.original == at for at, copy in enumerate(found[30:])]
    assert sum(hits) >= (30 if code in ("ja", "zh", "th") else 15)


def test_passages_repeated_japanese_passage_is_cut_by_characters():
    before, passage, after = PROSE["ja"].split("\n")[1:4]
    [shortened, once] = passages.cut([f"{passage}{before}{passage}{after}", passage + before + after], 20)
    assert shortened.text == f"{passage}{before}。{after}"
    assert once.characters == 0


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("東京でコンピューターを使いました。", ["東京", "で", "コンピューター", "を", "使", "いました", "。"]),
        ("हिन्दी में 42 किताबें", ["हिन्दी", " में", " ", "4", "2", " किताबें"]),
        ("我们说ABC话", ["我们说", "ABC", "话"]),
        ("한국어 문장", ["한국어", " 문장"]),
        ("It's  7 x²!\n\n don't", ["It", "'s", "  ", "7", " x", "²", "!", "\n\n", " don", "'t"]),
    ],
)
def test_tokenizer_pieces_end_where_scripts_meet(text, pieces):
    trained = tokenizer.train([text], 300)
    assert [text[start:end] for _, (start, end) in trained.pre_tokenizer.pre_tokenize_str(text)] == pieces
    assert trained.decode(trained.encode(text).ids) == text
