"""The contamination command on files of many forms: its report, what it removes, and what it refuses."""

import gzip
import html
import json
import random
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.commands.app import main
from modelyard.data.contamination import folding

ITEM = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many clips in May."


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
    assert main(["contamination", *arguments, "--seed", "0", "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["n"], report["documents"], report["contaminated"]) == (2, 3, [1])
    [hit] = report["hits"]
    assert hit["document"] == f"{tmp_path / 'a.jsonl'}:2"
    assert hit["substring"] in folding.strip(question)


SPELLED = {
    "upper": str.upper,
    "title": str.title,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "entities": lambda text: "".join(f"&#{ord(c)};" if c in "aeiou" or c > "\x7f" else html.escape(c) for c in text),
    "entities twice": lambda text: html.escape("".join(f"&#x{ord(c):x};" if c in "aeiou가이" else c for c in text)),
}


LATIN = ("ba", "dor", "mi", "ska", "lun", "tre", "pol", "vi", "gra", "net", "so", "quel", "fa", "rin", "mo", "ze")
HANGUL = tuple("가나다라마바사아자차카타파하거너더러머버서어저처고노도로모보소오조초구누두루무부수우주추")


def _writer(seed, syllables, words):
    """Text of ``n`` words of one's own language: 2,000 words of which a tenth is most of the text."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices(syllables, k=rng.randint(2, words))) for _ in range(2000)]
    weights = [1 / rank for rank in range(1, 2001)]
    return lambda n: " ".join(rng.choices(vocabulary, weights, k=n))


@pytest.mark.parametrize("spelled", SPELLED)
def test_command_finds_every_spelling_of_an_item_by_content(tmp_path, spelled):
    writers = (_writer(4, LATIN, 4), _writer(5, HANGUL, 4))
    items = [f"Is {writers[n % 2](30)} <or> it's {writers[n % 2](9)}?" for n in range(40)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in items))
    texts = [f"Q: {SPELLED[spelled](item)} A: yes" for item in items] + [writer(60) for writer in writers for _ in range(60)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = [
        "--benchmark",
        tmp_path / "b.jsonl",
        "--text-field",
        "question",
        "--corpus",
        tmp_path / "c.jsonl",
        "--remove",
        tmp_path / "out",
    ]
    assert main(["contamination", *map(str, arguments), "--json", str(tmp_path / "o.json")]) == 0
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["content"]["contaminated"] == list(range(40))
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == texts[40:]
    if spelled in ("upper", "entities"):
        assert len(report["contaminated"]) < 40


def test_remove_takes_documents_of_short_items_and_no_clean_one(tmp_path):
    rng, writers = random.Random(2), (_writer(6, LATIN, 3), _writer(7, HANGUL, 4))
    items = [f"{writers[n % 2](6)}?" for n in range(40)]
    texts = [writers[n % 2](60) for n in range(400)]
    assert all(len(folding.strip(item)) < 50 for item in items)
    dirty = {place: f"{texts[place]}. {item}" for place, item in zip(rng.sample(range(400), 40), items, strict=True)}
    texts = [dirty.get(place, text) for place, text in enumerate(texts)]
    common = [texts[0].split()[0], texts[1].split()[0], " ".join(texts[2].split()[:2]), "노?"]
    rows = [*items, *common]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"question": row}) + "\n" for row in rows))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = [
        "--benchmark",
        tmp_path / "b.jsonl",
        "--text-field",
        "question",
        "--corpus",
        tmp_path / "c.jsonl",
        "--remove",
        tmp_path / "out",
    ]
    assert main(["contamination", *map(str, arguments), "--json", str(tmp_path / "o.json")]) == 0
    report = json.loads((tmp_path / "o.json").read_text())
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == [
        text for place, text in enumerate(texts) if place not in dirty
    ]
    assert (len(report["contaminated"]), report["content"]["contaminated"]) == (44, list(range(40)))


def test_command_broken_input_is_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "bench.jsonl").write_text('{"question": "fine"}\n{"question": \n')
    code = main(
        [
            "contamination",
            "--benchmark",
            str(tmp_path / "bench.jsonl"),
            "--text-field",
            "question",
            "--corpus",
            str(tmp_path),
            "--json",
            str(tmp_path / "o"),
        ]
    )
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bench.jsonl: line 2: not valid JSON" in error


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
    code = main(["contamination", *arguments, *map(str, more)])
    return code, json.loads((tmp_path / "out.json").read_text()) if code == 0 else None


def test_documents_that_hold_a_short_item_only_stay_unless_asked_and_the_sentence_is_true(tmp_path, capsys):
    rows = [{"question": "Is it?", "id": 7}, {"question": ITEM, "id": "long"}, {"question": "?!"}]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"Well. {ITEM}", "Is it? Nobody knows.", f"Is it? {ITEM}", "Clean."]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = ["--benchmark", tmp_path / "bench.jsonl", "--text-field", "question", "--corpus", tmp_path / "c.jsonl"]
    arguments = [*map(str, arguments), "--json", str(tmp_path / "o.json"), "--remove", str(tmp_path / "out")]
    found = "2 of 3 items contaminated as written, 1 by content; 3 of 4 documents hold a match; "
    assert main(["contamination", *arguments]) == 0
    why = "1 of them with short items only that chance explains (--remove-short)"
    assert capsys.readouterr().out.startswith(f"{found}2 left in {tmp_path / 'out'}, {why}; report")
    report = json.loads((tmp_path / "o.json").read_text())
    assert (report["short"], report["not_judged"]) == (1, 1)
    assert [(hit["item"], hit["id"]) for hit in report["hits"]] == [(0, 7), (1, "long")]
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == [texts[1], texts[3]]
    assert main(["contamination", *arguments, "--remove-short"]) == 0
    assert capsys.readouterr().out.startswith(f"{found}1 left in {tmp_path / 'out'}; report")
    assert [json.loads(line)["text"] for line in (tmp_path / "out" / "c.jsonl").open()] == [texts[3]]


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
        (["--json", root / "report.json"], f"lies in {root}, which is read as the corpus"),
        (["--json", tmp_path / "beside" / "report.json"], f"lies in {root}, which is read as the corpus"),
        (["--remove", root / "clean"], f"lies in {root}, which is read as the corpus"),
    ]
    (tmp_path / "beside").symlink_to(root)
    for more, message in wrong:
        assert _command(tmp_path, "--corpus", root, *more)[0] == 2
        error = capsys.readouterr().err
        assert (error.count("\n"), message in error) == (1, True), error
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("spelled", ["spark", "{}/spark", "{}/../{}/spark"])
def test_files_of_a_directory_that_are_no_data_are_named_and_left_out(tmp_path, monkeypatch, capsys, spelled):
    monkeypatch.chdir(tmp_path)
    spark = Path(spelled.format(tmp_path, tmp_path.name))
    (spark / "_temporary" / "0").mkdir(parents=True)
    (spark / "_temporary" / "0" / "part.txt").write_text("half written")
    pq.write_table(pa.table({"text": [ITEM, "clean"]}), spark / "part-00000.parquet")
    (spark / ".part-00000.parquet.crc").write_bytes(b"crc\xff")
    (spark / "_SUCCESS").touch()
    code, report = _command(tmp_path, "--corpus", spark)
    assert (code, report["documents"], report["contaminated"], len(report["left_out"])) == (0, 2, [1], 3)
    assert "3 files that are no data left out" in capsys.readouterr().out


def test_file_that_several_paths_reach_is_read_counted_and_written_once(tmp_path):
    root = tmp_path / "corpus"
    (root / "part").mkdir(parents=True)
    (root / "_SUCCESS").touch()
    for name in ("a.jsonl", "part/b.jsonl"):
        (root / name).write_text(json.dumps({"text": ITEM}) + "\n" + json.dumps({"text": f"clean {name}"}) + "\n")
    (tmp_path / "link.jsonl").symlink_to(root / "a.jsonl")
    paths = [root / "part", root, root / "a.jsonl", tmp_path / "link.jsonl", root]
    code, report = _command(tmp_path, "--corpus", *paths, "--remove", tmp_path / "clean")
    assert (code, report["documents"], report["documents_hit"], report["removed"]["left"]) == (0, 4, 2, 2)
    assert report["left_out"] == [str(root / "_SUCCESS")]
    written = [file.relative_to(tmp_path / "clean").as_posix() for file in (tmp_path / "clean").rglob("*") if file.is_file()]
    assert sorted(written) == ["corpus/a.jsonl", "part/b.jsonl"]


def test_command_nothing_to_search_is_refused(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "nothing").mkdir()
    for corpus in ("empty.jsonl", "nothing"):
        assert _command(tmp_path, "--corpus", tmp_path / corpus)[0] == 2
        assert capsys.readouterr().err == f"modelyard contamination: corpus {tmp_path / corpus}: no documents\n"
    assert _command(tmp_path, "--corpus", tmp_path, "--benchmark", tmp_path / "empty.jsonl")[0] == 2
    assert capsys.readouterr().err == f"modelyard contamination: benchmark {tmp_path / 'empty.jsonl'}: no items\n"


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--max-broken", "nan"], ["--max-broken", "1.5"]])
def test_command_options_out_of_range_are_refused(tmp_path, capsys, wrong):
    assert _command(tmp_path, "--corpus", tmp_path, *wrong)[0] == 2
    assert f"'{wrong[0]}': must be" in capsys.readouterr().err


def test_command_unreadable_rows_are_reported_once_when_the_corpus_is_written(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    _, report = _command(tmp_path, "--corpus", tmp_path / "c.jsonl", "--max-broken", "0.5", "--remove", tmp_path / "out")
    assert len(report["unreadable"]) == 1
