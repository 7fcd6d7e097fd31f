"""The many-pattern search and the procedure, against naive loops."""

import gzip
import json
import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.contamination.check import check as contamination, overlap
from modelyard.data.contamination.check.overlap import ContaminationConfig
from modelyard.data.contamination.check.substrings import Finder

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
        assert overlap.strip(text) == "".join(char for char in text if char.isalnum())


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
    stripped = [overlap.strip(document) for document in documents]
    expected = [
        index
        for index, item in enumerate(items)
        if any(s in document for s in overlap.draw(overlap.strip(item), index, CONFIG) for document in stripped)
    ]
    [found] = overlap.check([items], documents, CONFIG)
    assert [match.item for match in found.matches] == expected
    assert set(range(0, 60, 6)) <= set(expected)
    drawn = {index: overlap.draw(overlap.strip(item), index, CONFIG) for index, item in enumerate(items)}
    for match in found.matches:
        assert match.substring in stripped[match.document]
        assert not any(s in document for s in drawn[match.item] for document in stripped[: match.document]), "the first document"
    holders = {n for n, document in enumerate(stripped) if any(s in document for index in expected for s in drawn[index])}
    assert found.documents == holders
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
    assert (bare.matches, bare.documents, bare.short, bare.empty) == ([], frozenset(), 0, 2)
    assert (mixed.documents, mixed.by_length, mixed.short, mixed.empty) == (frozenset({0}), frozenset(), 1, 1)
    assert overlap.check([["... !!!", ""]], ["anything"], CONFIG)[0].matches == []


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
    assert hit["substring"] in overlap.strip(question)


def test_command_broken_input_is_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "bench.jsonl").write_text('{"question": "fine"}\n{"question": \n')
    code = contamination.main(
        ["--benchmark", str(tmp_path / "bench.jsonl"), "--text-field", "question", "--corpus", str(tmp_path), "--json", str(tmp_path / "o")]
    )
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bench.jsonl: line 2: not valid JSON" in error


ITEM = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many clips in May."


def _plant_every_form(root):
    """One dirty and one clean document in a file of every form."""
    dirty, clean = f"Q: {ITEM.replace(' ', '  ')}!", "An unrelated sentence about the weather of the northern islands in late autumn."
    lines = "".join(json.dumps({"text": text}) + "\n" for text in (clean, dirty)).encode()
    (root / "sub").mkdir()
    (root / "a.jsonl").write_bytes(lines)
    (root / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    with pa.CompressedOutputStream(str(root / "sub" / "c.jsonl.zst"), "zstd") as file:
        file.write(lines)
    pq.write_table(pa.table({"text": [clean, dirty], "n": [1, 2]}), root / "d.parquet")
    (root / "e.txt").write_text(dirty)
    (root / "f.txt").write_text(clean)
    (root / "g.json").write_text(
        json.dumps([{"messages": [{"role": "user", "content": clean}, {"role": "user", "content": dirty}]}], indent=1)
    )
    return [f"{root / name}" for name in ("a.jsonl:2", "b.jsonl.gz:2", "d.parquet:2", "e.txt", "g.json:1", "sub/c.jsonl.zst:2")]


def _command(tmp_path, *more):
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": "Is it?"}) + "\n" + json.dumps({"question": ITEM}) + "\n")
    arguments = ["--benchmark", str(tmp_path / "bench.jsonl"), "--text-field", "question", "--json", str(tmp_path / "out.json")]
    code = contamination.main([*arguments, *map(str, more)])
    return code, json.loads((tmp_path / "out.json").read_text()) if code == 0 else None


def test_command_reads_every_form_and_removes_what_was_hit(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    dirty = _plant_every_form(root)
    code, report = _command(tmp_path, "--corpus", root, "--remove", tmp_path / "clean")
    assert code == 0
    assert report["contaminated"] == report["second_opinion"]["contaminated"] == [1]
    assert report["removed"]["documents"] == dirty
    assert report["removed"]["left"] == 5
    assert [hit["item"] for hit in report["hits"]] == [1]
    code, report = _command(tmp_path, "--corpus", tmp_path / "clean")
    assert (report["documents"], report["contaminated"], report["second_opinion"]["contaminated"]) == (5, [], [])
    assert pq.read_table(tmp_path / "clean" / "corpus" / "d.parquet").to_pydict()["n"] == [1]


def test_command_unreadable_rows_are_named_and_fatal_above_the_share(tmp_path, capsys):
    rows = [json.dumps({"text": ITEM}).encode()] + [json.dumps({"text": f"row {n}"}).encode() for n in range(98)] + [b'{"text": "caf\xe9"}']
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(rows))
    code, report = _command(tmp_path, "--corpus", tmp_path / "c.jsonl")
    assert (code, report["contaminated"]) == (0, [1])
    assert [row["document"] for row in report["unreadable"]] == [f"{tmp_path / 'c.jsonl'}:line 100"]
    code, _ = _command(tmp_path, "--corpus", tmp_path / "c.jsonl", "--max-broken", "0.005")
    assert code == 2
    assert "line 100: invalid UTF-8" in capsys.readouterr().err


def test_remove_keeps_every_clean_document_of_names_that_differ_after_a_dot_and_refuses_targets_that_meet(tmp_path, capsys):
    first, second = tmp_path / "one" / "crawl", tmp_path / "two" / "crawl"
    first.mkdir(parents=True)
    second.mkdir(parents=True)
    for number in (1, 2):
        body = f"A clean page, number {number}.".encode()
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {len(body)}\r\n\r\n"
        (first / f"crawl.{number}.warc.wet").write_bytes(head.encode() + body + b"\r\n\r\n")
    code, report = _command(tmp_path, "--corpus", first, "--remove", tmp_path / "clean")
    assert (code, report["removed"]["left"]) == (0, 2)
    assert sorted(file.name for file in (tmp_path / "clean" / "crawl").iterdir()) == ["crawl.1.jsonl", "crawl.2.jsonl"]
    (second / "crawl.1.jsonl").write_text(json.dumps({"text": "Another clean page."}) + "\n")
    code, _ = _command(tmp_path, "--corpus", first, second, "--remove", tmp_path / "both")
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(str(path) in error for path in (first / "crawl.1.warc.wet", second / "crawl.1.jsonl", tmp_path / "both"))
    assert not (tmp_path / "both").exists()


def test_outputs_over_an_input_are_refused_and_change_nothing(tmp_path, capsys):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "a.jsonl").write_text(json.dumps({"text": ITEM}) + "\n")
    (tmp_path / "link").symlink_to(root / "a.jsonl")
    code, _ = _command(tmp_path, "--corpus", root)
    assert code == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    wrong = [
        (["--remove", tmp_path], "would overwrite"),
        (["--json", root / "a.jsonl"], "of the corpus"),
        (["--json", tmp_path / "link"], "of the corpus"),
        (["--json", tmp_path / "bench.jsonl"], "would overwrite the benchmark"),
        (["--remove", tmp_path / "new", "--json", tmp_path / "new" / "corpus" / "a.jsonl"], "both the report"),
    ]
    for more, message in wrong:
        assert _command(tmp_path, "--corpus", root, *more)[0] == 2
        error = capsys.readouterr().err
        assert (error.count("\n"), message in error) == (1, True), error
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_documents_that_hold_a_short_item_only_stay_unless_asked_and_the_sentence_is_true(tmp_path, capsys):
    rows = [{"question": "Is it?", "id": 7}, {"question": ITEM, "id": "long"}, {"question": "?!"}]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"Well. {ITEM}", "Is it? Nobody knows.", f"Is it? {ITEM}", "Clean."]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = ["--benchmark", tmp_path / "bench.jsonl", "--text-field", "question", "--corpus", tmp_path / "c.jsonl"]
    arguments = [*map(str, arguments), "--json", str(tmp_path / "o.json"), "--remove", str(tmp_path / "out")]
    found = "2 of 3 items contaminated; 3 of 4 documents hold a match; "
    assert contamination.main(arguments) == 0
    why = "1 of them with a match of items under 50 characters only (--remove-short)"
    assert capsys.readouterr().out.startswith(f"{found}2 left in {tmp_path / 'out'}, {why}; report")
    report = json.loads((tmp_path / "o.json").read_text())
    assert (report["short"], report["not_judged"]) == (1, 1)
    assert [(hit["item"], hit["id"]) for hit in report["hits"]] == [(0, 7), (1, "long")]
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == [texts[1], texts[3]]
    assert contamination.main([*arguments, "--remove-short"]) == 0
    assert capsys.readouterr().out.startswith(f"{found}1 left in {tmp_path / 'out'}; report")
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == [texts[3]]


def test_command_nothing_to_search_is_refused(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "nothing").mkdir()
    for corpus in ("empty.jsonl", "nothing"):
        assert _command(tmp_path, "--corpus", tmp_path / corpus)[0] == 2
        assert capsys.readouterr().err == f"contamination: corpus {tmp_path / corpus}: no documents\n"
    assert _command(tmp_path, "--corpus", tmp_path, "--benchmark", tmp_path / "empty.jsonl")[0] == 2
    assert capsys.readouterr().err == f"contamination: benchmark {tmp_path / 'empty.jsonl'}: no items\n"


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--max-broken", "nan"], ["--max-broken", "1.5"]])
def test_command_options_out_of_range_are_refused(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit, match="2"):
        _command(tmp_path, "--corpus", tmp_path, *wrong)
    assert f"argument {wrong[0]}: must be" in capsys.readouterr().err


def test_command_unreadable_rows_are_reported_once_when_the_corpus_is_written(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    _, report = _command(tmp_path, "--corpus", tmp_path / "c.jsonl", "--max-broken", "0.5", "--remove", tmp_path / "out")
    assert len(report["unreadable"]) == 1
