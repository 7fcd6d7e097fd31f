"""The many-pattern search and the procedure, against naive loops."""

import math
import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.contamination import check, folding, information, overlap
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.contamination.substrings import Finder
from modelyard.formats.contamination import read_report
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS, THUMBS, Message, write
from modelyard.formats.flags import FLAGS, Flag
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import silent

CONFIG = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
ALPHABETS = ["ab", "abcdefghijklmnopqrstuvwxyzABC0123456789", "aäßñ漢字かな한국어é😀"]


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_finder_equals_naive_search_across_lengths_scripts_and_batches(alphabet, batch):
    rng = random.Random(len(alphabet) + batch)
    documents = ["".join(rng.choices(alphabet, k=rng.choice([0, 1, 20, 50, 63, 64, 65, 300]))).encode() for _ in range(60)]
    patterns = []
    for _ in range(300):
        document = rng.choice(documents).decode()
        length = rng.choice([1, 2, 7, 8, 15, 16, 31, 32, 49, 50, 50, 50, 70])
        start = rng.randrange(max(1, len(document) - length + 1))
        patterns.append((document[start : start + length] if rng.random() < 0.6 else "".join(rng.choices(alphabet, k=length))).encode())
    patterns = [pattern for pattern in dict.fromkeys(patterns) if pattern]
    finder = Finder(patterns)
    found = []
    for first in range(0, len(documents), batch):
        hits = finder.search(documents[first : first + batch])
        found += [(p, first + d) for p, d in zip(hits.patterns.tolist(), hits.documents.tolist(), strict=True)]
    assert sorted(found) == [(p, d) for p, pattern in enumerate(patterns) for d, document in enumerate(documents) if pattern in document]
    assert len(found) > 100


def test_strip_keeps_letters_and_digits_of_any_script():
    for text in ("Hello, World_42!\n", "naïve — 漢字、かな; ½ x²", "हिन्दी", "a\u0301 \u00a0b"):
        assert folding.strip(text) == "".join(char for char in text if char.isalnum())


def test_draw_is_seeded_and_takes_a_short_item_whole():
    long = "".join(random.Random(0).choices(ALPHABETS[1], k=400))
    drawn = overlap.draw(long, 7, CONFIG)
    assert len(drawn) == 3
    assert all(len(substring) == 50 and substring in long for substring in drawn)
    assert drawn == overlap.draw(long, 7, CONFIG)
    assert drawn != overlap.draw(long, 7, ContaminationConfig(seed=1, substrings=3, length=50, ngram=13))
    assert overlap.draw("short", 0, CONFIG) == ["short"]


def test_check_planted_items_equal_the_naive_procedure():
    rng = random.Random(5)
    words = [f"w{n}" for n in range(3000)]
    items = [" ".join(rng.choices(words, k=rng.choice([3, 30, 80]))) for _ in range(60)]
    documents = [" ".join(rng.choices(words, k=200)) for _ in range(40)]
    for number in range(0, 60, 3):
        whole = number % 2 == 0
        text = items[number] if whole else items[number][: len(items[number]) // 2]
        documents[rng.randrange(40)] += " ...\n" + text.replace(" ", " -- ")
    stripped = [folding.strip(document) for document in documents]
    expected = [
        index
        for index, item in enumerate(items)
        if any(s in document for s in overlap.draw(folding.strip(item), index, CONFIG) for document in stripped)
    ]
    [found] = overlap.check([items], documents, CONFIG)
    assert [match.item for match in found.written.matches] == expected
    assert set(range(0, 60, 6)) <= set(expected)
    drawn = {index: overlap.draw(folding.strip(item), index, CONFIG) for index, item in enumerate(items)}
    for match in found.written.matches:
        assert match.substring in stripped[match.document]
        assert not any(s in document for s in drawn[match.item] for document in stripped[: match.document]), "the first document"
    holders = {n for n, document in enumerate(stripped) if any(s in document for index in expected for s in drawn[index])}
    assert found.written.documents == holders
    assert [match.item for match in found.ngrams] == _naive_ngrams(items, documents)


def _naive_ngrams(items, documents, size=13):
    """GPT-3's n-grams, by sets of tuples."""

    def grams(text, n):
        words = re.findall(r"[^\W_]+", text.casefold())
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    lengths = [len(re.findall(r"[^\W_]+", item)) for item in items]
    return [
        index
        for index, (item, length) in enumerate(zip(items, lengths, strict=True))
        if length >= 8 and any(grams(item, min(length, size)) & grams(document, min(length, size)) for document in documents)
    ]


def test_second_opinion_short_items_count_whole_and_case_and_punctuation_do_not_matter():
    text = "One two, three four; FIVE six seven eight nine ten eleven twelve thirteen fourteen!"
    items = [
        "one two three four five six seven",
        "four five six seven eight nine ten eleven",
        "Ünïcode " + text,
        text.replace("seven", "7"),
    ]
    [found] = overlap.check([items], ["nothing", text.replace(";", " --")], CONFIG)
    assert [(m.item, m.document) for m in found.ngrams] == [(1, 1), (2, 1)]
    assert [m.item for m in found.ngrams] == _naive_ngrams(items, [text])
    assert found.unjudged == 1


def test_check_item_without_letters_is_clean():
    bare, mixed = overlap.check([["... !!!", ""], ["?", "any", "y" * 50]], ["anything"], CONFIG)
    assert (bare.written.matches, bare.documents, bare.short, bare.empty) == ([], frozenset(), 0, 2)
    assert (mixed.written.documents, mixed.content.documents, mixed.short, mixed.empty) == (frozenset({0}), frozenset(), 1, 1)
    assert overlap.check([["... !!!", ""]], ["anything"], CONFIG)[0].written.matches == []


def test_fold_gives_one_spelling_and_keeps_what_is_said():
    spelled = ["Straße &amp; Ärger №\uff11\uff12", "STRASSE Ärger No12", "strasse &#196;rger&nbsp;no12", "Stra&szlig;e A\u0308rger NO 12"]
    assert {folding.fold(text) for text in spelled} == {"strasseärgerno12"}
    assert folding.fold("AT&T &lt; R&D") == "attrd"
    assert folding.fold("&amp;amp;quot;x") == folding.fold("&quot;x") == "x"


def _naive_bits(item, documents):
    """The item's information by counting substrings in a loop, its own occurrences taken out."""
    text = "\0".join(documents)
    own = text.count(item)

    def count(gram):
        whole = sum(text.startswith(gram, at) for at in range(len(text)))
        return max(0, whole - own * sum(item.startswith(gram, at) for at in range(len(item))))

    letters = [char for char in text if "a" <= char <= "z"]
    bits = 0.0
    for at in range(len(item)):
        chance = 1 / max(64, 2 * len(set(letters)))
        for size in range(1, min(5, at + 1) + 1):
            gram = item[at - size + 1 : at + 1]
            above = len(letters) if size == 1 else count(gram[:-1])
            chance = (count(gram) + 4 * chance) / (max(above, count(gram)) + 4)
        bits -= math.log2(chance)
    return bits


def test_evidence_equals_a_slow_count_and_falls_with_what_others_write():
    rng = random.Random(1)
    common = ["howareyou", "thankyouverymuch", "seeyoutomorrow"]
    documents = ["".join(rng.choices([*common, *"abcdefghijklmnopqrstuvwxyz"], k=30)) for _ in range(40)]
    documents[7] += "quetzalsadmirebasalt"
    items = ["quetzalsadmirebasalt", "howareyouthank", "abc"]
    sample = information.Sample()
    sample.feed(documents, 0)
    searched = sum(map(len, documents))
    found = sample.evidence(items, searched)
    assert found == pytest.approx([_naive_bits(item, documents) - 20 for item in items])
    assert found[0] > 40 > 0 > max(found[1:])


def test_short_item_that_many_documents_hold_is_a_phrase():
    documents = [f"document number {n} says quetzals admire basalt" for n in range(30)]
    few, many = (overlap.check([["Quetzals admire basalt!"]], texts, CONFIG)[0] for texts in (documents[:8], documents))
    assert [match.item for match in few.content.matches] == [0]
    assert (many.content.matches, len(many.written.documents)) == ([], 0)


def test_run_finds_items_in_flags_among_the_comparisons_that_they_become(tmp_path):
    feedback, benchmarks, corpus, out = (tmp_path / name for name in ("feedback", "benchmarks", "corpus", "out"))
    for directory in (feedback, corpus / "documents", out):
        directory.mkdir(parents=True)
    places = ("asked", "said", "corrected", "gold", "test", "clean")
    text = {
        place: f"{place}: which of the mills behind the {place} river has the {place} wheel that nobody ever mended?" for place in places
    }
    flags = [
        Flag(id="f0", split="reward", source="app", prompt=(Message(role="user", content=text["asked"]),), completion="a", factual=False),
        Flag(id="f1", split="reward", source="app", prompt="p", completion=text["said"], factual=False, correction=text["corrected"]),
        Flag(id="f2", split="gold", source="app", prompt=text["gold"], completion="b", factual=True),
        Flag(id="f3", split="test", source="app", prompt=text["test"], completion="c", factual=True),
    ]
    for name in (DEMONSTRATIONS, COMPARISONS, THUMBS, PROMPTS):
        write(feedback / name, [])
    write(feedback / FLAGS, flags)
    write_questions(benchmarks, "own", [Question(id=place, text=item) for place, item in text.items()])
    pq.write_table(pa.Table.from_pylist([{"id": "d", "text": "Nothing.", "split": "train"}]), corpus / "documents" / "0.parquet")

    check.run(CONFIG, {"benchmarks": benchmarks, "corpus": corpus, "feedback": feedback}, out, silent)

    report = read_report(out)["own"]
    assert {(hit.item, hit.set, hit.document) for hit in report.hits["written"]} == {
        ("asked", "reward_comparisons", "f0"),
        ("said", "reward_comparisons", "f1"),
        ("corrected", "reward_comparisons", "f1"),
        ("gold", "gold_comparisons", "f2"),
    }
    assert report.sets["reward_comparisons"].documents == 3
