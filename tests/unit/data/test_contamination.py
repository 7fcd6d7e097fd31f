"""The many-pattern search and the procedure, against naive loops."""

import json
import random

import pytest

from modelyard.data import contamination, windows
from modelyard.data.contamination import ContaminationConfig

CONFIG = ContaminationConfig(seed=0, substrings=3, length=50)
ALPHABETS = ["ab", "abcdefghijklmnopqrstuvwxyzABC0123456789", "aäßñ漢字かな한국어é😀"]


def _naive(patterns, documents):
    found = []
    for index, pattern in enumerate(patterns):
        first = next((n for n, document in enumerate(documents) if pattern and pattern in document), None)
        if first is not None:
            found.append((index, first))
    return found


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("block", [64, 1 << 18])
def test_finder_equals_naive_search_across_lengths_scripts_and_blocks(monkeypatch, alphabet, block):
    monkeypatch.setattr(windows, "_BLOCK", block)
    rng = random.Random(len(alphabet) + block)
    documents = ["".join(rng.choices(alphabet, k=rng.choice([0, 1, 20, 50, 63, 64, 65, 300]))) for _ in range(60)]
    patterns = [""]
    for _ in range(150):
        document = rng.choice(documents)
        length = rng.choice([1, 2, 7, 49, 50, 50, 50])
        start = rng.randrange(max(1, len(document) - length + 1))
        patterns.append(document[start : start + length] if rng.random() < 0.6 else "".join(rng.choices(alphabet, k=length)))
    patterns = [pattern for pattern in patterns if len(pattern) < block]
    assert [tuple(hit) for hit in windows.Finder(patterns).search(documents)] == _naive(patterns, documents)


def test_strip_keeps_letters_and_digits_of_any_script():
    for text in ("Hello, World_42!\n", "naïve — 漢字、かな; ½ x²", "हिन्दी", "a\u0301 \u00a0b"):
        assert contamination.strip(text) == "".join(char for char in text if char.isalnum())


def test_draw_is_seeded_and_takes_a_short_item_whole():
    long = "".join(random.Random(0).choices(ALPHABETS[1], k=400))
    drawn = contamination.draw(long, 7, CONFIG)
    assert len(drawn) == 3
    assert all(len(substring) == 50 and substring in long for substring in drawn)
    assert drawn == contamination.draw(long, 7, CONFIG)
    assert drawn != contamination.draw(long, 7, ContaminationConfig(seed=1, substrings=3, length=50))
    assert contamination.draw("short", 0, CONFIG) == ["short"]


def test_check_planted_items_equal_the_naive_procedure():
    rng = random.Random(5)
    words = [f"w{n}" for n in range(3000)]
    items = [" ".join(rng.choices(words, k=rng.choice([3, 30, 80]))) for _ in range(60)]
    documents = [" ".join(rng.choices(words, k=200)) for _ in range(40)]
    for number in range(0, 60, 3):
        whole = number % 2 == 0
        text = items[number] if whole else items[number][: len(items[number]) // 2]
        documents[rng.randrange(40)] += " ...\n" + text.replace(" ", " -- ")
    stripped = [contamination.strip(document) for document in documents]
    expected = [
        index
        for index, item in enumerate(items)
        if any(s in document for s in contamination.draw(contamination.strip(item), index, CONFIG) for document in stripped)
    ]
    matches = contamination.check(items, documents, CONFIG)
    assert [match.item for match in matches] == expected
    assert set(range(0, 60, 6)) <= set(expected)
    assert all(match.substring in stripped[match.document] for match in matches)


def test_check_item_without_letters_is_clean():
    assert contamination.check(["... !!!", ""], ["anything"], CONFIG) == []


def test_command_reports_items_documents_and_substrings(tmp_path):
    question = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many clips in May."
    (tmp_path / "bench.jsonl").write_text(
        json.dumps({"question": "What is two plus two, dear friend of mine?"}) + "\n" + json.dumps({"question": question}) + "\n"
    )
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"text": "nothing here"}) + "\n" + json.dumps({"text": "Q: " + question.upper().lower() + question}) + "\n"
    )
    (tmp_path / "b.txt").write_text("plain text")
    arguments = [
        "--benchmark",
        str(tmp_path / "bench.jsonl"),
        "--text-field",
        "question",
        "--corpus",
        str(tmp_path / "a.jsonl"),
        str(tmp_path / "b.txt"),
    ]
    assert contamination.main([*arguments, "--seed", "0", "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["n"], report["documents"], report["contaminated"]) == (2, 3, [1])
    [hit] = report["hits"]
    assert hit["document"] == f"{tmp_path / 'a.jsonl'}:2"
    assert hit["substring"] in contamination.strip(question)


def test_command_broken_input_is_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "bench.jsonl").write_text('{"question": "fine"}\n{"question": \n')
    code = contamination.main(
        ["--benchmark", str(tmp_path / "bench.jsonl"), "--text-field", "question", "--corpus", str(tmp_path), "--json", str(tmp_path / "o")]
    )
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bench.jsonl: line 2: not valid JSON" in error
