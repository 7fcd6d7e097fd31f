"""The stage alone on planted sources: reasons, broken rows, increments, kills, clusters. Only the training of the abuse filter is replaced."""

import hashlib
import json
import random
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from modelyard.adapters.expectations import validate
from modelyard.data.build import DataConfig, build_corpus, store_of
from modelyard.data.corpus import drift, shard, shards, trained
from modelyard.data.corpus.document import DataError, run_inline
from modelyard.data.corpus.partitions import in_process
from modelyard.data.filters import abuse
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.filters.classifier import ClassifierConfig
from modelyard.data.sources import stream
from modelyard.formats.expectation import ExpectationError
from modelyard.progress import silent
from modelyard.store.lineage import walk

WEB = tomllib.loads((Path(__file__).parents[3] / "configs/data/web.toml").read_text())["corpus"]
RNG = random.Random(0)
WORDS = [
    a + b
    for a in ("river", "stone", "cloud", "road", "light", "field", "water", "wind")
    for b in ("side", "bank", "house", "maker", "keeper")
]
WORDS += ["and", "the", "with", "a", "quiet", "old", "green", "carries", "finds", "under", "over", "into", "through", "before", "after"]


@pytest.fixture(scope="module")
def small_filter():
    teacher = Teacher(["vileword"], np.array([8.0]), np.array([2.0]), -1.0, 8.0, 0.0, frozenset())
    return abuse.train(["vileword"], teacher, abuse.AbuseConfig.model_validate(WEB["filters"]["abuse"]))


@pytest.fixture(autouse=True)
def _small_filter(monkeypatch, small_filter):
    monkeypatch.setattr(trained, "train_abuse", lambda *_: small_filter)


def _page(sentences=8):
    return "\n".join(" ".join(["The", *RNG.choices(WORDS, k=14), "of", "the", RNG.choice(WORDS)]) + "." for _ in range(sentences))


def _changed(text, words):
    """The text with every ``words``-th word replaced."""
    return " ".join("other" if index % words == words - 1 else word for index, word in enumerate(text.split(" ")))


def _lines(path, rows):
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))


def _config(root, *paths, max_broken=0.01, **changes):
    common = {"format": "auto", "kind": "text", "licence": "CC0-1.0", "id_field": "id", "max_broken": max_broken}
    declared = [{"name": path.stem, "path": str(path), **common} for path in paths]
    blocks = {**WEB["blocks"], "block_megabytes": 0.05, "validation": 0.2}
    execution = {"store": f"file://{root}/store", "scratch": f"{root}/scratch"}
    corpus = {**WEB, "sources": declared, "blocks": blocks}
    named = {key: changes.pop(key) for key in ("name",) if key in changes}
    return DataConfig.model_validate({"name": "planted", "corpus": corpus | changes, "execution": execution} | named)


def _run(config, parts=1):
    made = build_corpus(config, store_of(config), run_inline, lambda: in_process(parts), validate, silent)
    return made, store_of(config).fetch(made.artifact)


def _drift(config, made):
    return drift.check(config.name, made.artifact, store_of(config), validate)


def _table(directory, kind):
    return {row["id"]: row for row in pq.read_table(directory / kind).to_pylist()}


def _bytes(directory):
    return {
        f.relative_to(directory).as_posix(): f.read_bytes()
        for f in sorted(directory.rglob("*"))
        if f.is_file() and f.name != "artifact.json"
    }


@pytest.fixture(scope="module")
def planted():
    pages = [_page() for _ in range(150)]
    rows = [{"id": f"page-{n}", "text": text} for n, text in enumerate(pages)]
    rows += [{"id": f"exact-{n}", "text": text.upper() if n % 2 else f" {text}\n"} for n, text in enumerate(pages[:30])]
    rows += [{"id": f"near-{n}", "text": _changed(text, 40)} for n, text in enumerate(pages[30:60])]
    rows += [
        {"id": "mail", "text": f"{pages[60]}\nWrite to jane@example.org about the old river house and the wind today."},
        {"id": "vile", "text": _page() + "\nYou vileword and your vileword friends, you vileword of a vileword house and vileword."},
        {"id": "german", "text": "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter in den Bergen. " * 6},
        {"id": "menu", "text": "Home\nAbout\nContact\n" * 30},
    ]
    long = b'{"id": "long", "text": "' + b"x" * 9_000_000 + b'"}'
    broken = [b'{"id": "x", "text": "caf\xe9"}', b'{"id": "page-1", "text": "again"}', long, b'{"id": "cut']
    return pages, rows, broken


def test_stage_planted_documents_are_kept_or_refused_by_reason(tmp_path, planted):
    _, rows, broken = planted
    _lines(tmp_path / "crawl.jsonl", [*rows, *broken])
    made, out = _run(_config(tmp_path, tmp_path / "crawl.jsonl", max_broken=0.02))
    kept, refused = _table(out, "documents"), _table(out, "rejects")
    assert len(kept) + len(refused) == len(rows) + len(broken) == made.artifact.metrics["corpus/documents/read"]
    assert {f"crawl/page-{n}" for n in range(150)} - {"crawl/page-60"} <= set(kept), "no page is lost"
    reasons = {name.removeprefix("crawl/"): row["reason"] for name, row in refused.items()}
    assert all(reasons[f"exact-{n}"] == "duplicate/exact" for n in range(30))
    assert [reasons[f"near-{n}"] for n in range(30)] == ["duplicate/near"] * 30
    assert all(refused[f"crawl/near-{n}"]["detail"].startswith(f"crawl/page-{n + 30} ") for n in range(30)), "the original is named"
    assert (reasons["vile"].split("/")[0], reasons["german"], reasons["menu"].split("/")[0]) == (
        "abuse",
        "language/not_accepted",
        "quality",
    )
    places = {row["place"]: row["reason"] for row in refused.values()}
    first = len(rows) + 1
    assert [places[f"crawl.jsonl: line {first + n}"] for n in range(4)] == [
        "read/invalid_utf8", "read/duplicate_id", "read/line_too_long", "read/invalid_json",
    ]  # fmt: skip
    assert "[EMAIL]" in kept.get("crawl/mail", refused.get("crawl/mail"))["text"]
    assert all(row["licence"] == "CC0-1.0" and row["place"] for row in kept.values())
    page = (out / "report.html").read_text()
    assert "duplicate/near" in page
    assert "documents_ids_unique" in page


def test_stage_too_many_broken_rows_are_one_line_naming_the_first(tmp_path, planted):
    _, rows, broken = planted
    _lines(tmp_path / "crawl.jsonl", [*rows[:20], *broken])
    with pytest.raises(
        DataError, match=r"^source crawl: crawl\.jsonl: line 21: invalid UTF-8 .*; 4 of 24 rows are unreadable, at most 1\.00%"
    ):
        _run(_config(tmp_path, tmp_path / "crawl.jsonl"))


def test_stage_new_source_is_processed_alone_and_sees_the_old_ones(tmp_path, planted, monkeypatch):
    pages, rows, _ = planted
    _lines(tmp_path / "old.jsonl", rows[:150])
    copies = [{"id": f"copy-{n}", "text": _changed(text, 40)} for n, text in enumerate(pages[:40])]
    _lines(tmp_path / "new.jsonl", [*copies, {"id": "fresh", "text": _page()}])
    limits = {**WEB["expectations"], "max_refused_drift": 1.0}
    config = _config(tmp_path, tmp_path / "old.jsonl")
    made, first = _run(config)
    assert _drift(config, made) is None, "there is no version before it"
    built = []
    monkeypatch.setattr(shards, "build", lambda part, *more: built.append(part.source.name) or shard.build(part, *more))
    config = _config(tmp_path, tmp_path / "old.jsonl", tmp_path / "new.jsonl")
    made, both = _run(config, parts=4)
    assert built == ["new"]
    for _ in range(2):
        with pytest.raises(ExpectationError, match="suite drift failed: drift_refused"):
            _drift(config, made)
    refused = _table(both, "rejects")
    assert all(refused[f"new/copy-{n}"]["reason"] == "duplicate/near" for n in range(40))
    assert refused["new/copy-0"]["detail"].startswith("old/page-0 ")
    assert set(_table(both, "documents")) == {*_table(first, "documents"), "new/fresh"}
    config = _config(tmp_path, tmp_path / "old.jsonl", tmp_path / "new.jsonl", expectations=limits)
    made, _ = _run(config)
    assert _drift(config, made).success
    again, _ = _run(config)
    assert (again.cached, again.artifact.ref) == (True, made.artifact.ref)
    assert _drift(config, made) is None, "it is the version that was taken last"
    assert built == ["new"], "limits of drift build no shard"
    found = walk(store_of(config), [made.artifact.ref])
    assert (sorted(part.name for part in found.parts.values()), found.problems) == (["abuse_filter", "shard", "shard"], ())


def test_stage_killed_in_any_block_goes_on_to_the_same_bytes_with_other_partitions(tmp_path, planted, monkeypatch):
    _, rows, _ = planted
    _lines(tmp_path / "crawl.jsonl", rows)
    _, whole = _run(_config(tmp_path / "a", tmp_path / "crawl.jsonl"))
    config = _config(tmp_path / "b", tmp_path / "crawl.jsonl")
    process, calls = shard.process, []

    def killed(*arguments):
        calls.append(arguments[0].number)
        if len(calls) % 2:
            raise KeyboardInterrupt
        process(*arguments)

    monkeypatch.setattr(shard, "process", killed)
    for _ in range(40):
        try:
            _, resumed = _run(config, parts=1 + len(calls) % 3)
            break
        except KeyboardInterrupt:
            continue
    assert len(set(calls)) > 2, "several blocks"
    assert len(calls) == 2 * len(set(calls)), "no block is processed twice"
    assert _bytes(resumed) == _bytes(whole)


def test_stage_near_duplicates_never_straddle_the_held_out_split(tmp_path):
    pages = [_page() for _ in range(60)]
    rows = [{"id": f"{n}-{copy}", "text": _changed(text, 30 - 5 * copy)} for copy in range(4) for n, text in enumerate(pages)]
    _lines(tmp_path / "crawl.jsonl", rows)
    _, out = _run(_config(tmp_path, tmp_path / "crawl.jsonl"))
    kept = _table(out, "documents").values()
    splits = {}
    for row in kept:
        splits.setdefault(row["id"].split("/")[1].split("-")[0], set()).add(row["split"])
    assert len(kept) > len(splits), "copies below the threshold stay"
    assert {"train", "validation"} == set().union(*splits.values())
    assert all(len(found) == 1 for found in splits.values())


def test_stage_whose_text_field_is_mistyped_ends_at_its_first_block(tmp_path):
    _lines(tmp_path / "crawl.jsonl", [{"id": n, "content": "a text"} for n in range(1000)])
    with pytest.raises(
        DataError, match=r"line 1: no text in field 'text' \(there are id, content\); (\d+) of \1 rows are unreadable"
    ) as told:
        _run(_config(tmp_path, tmp_path / "crawl.jsonl"))
    assert " 1000 rows" not in str(told.value)


def test_stage_whose_source_gave_nothing_names_it_and_speaks_of_no_refusal(tmp_path):
    (tmp_path / "crawl.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"^corpus: empty: nothing was read of \w+$"):
        _run(_config(tmp_path, tmp_path / "crawl.jsonl"))


def test_stage_failed_expectation_stops_with_its_name_and_keeps_the_shards(tmp_path, planted):
    _, rows, _ = planted
    _lines(tmp_path / "crawl.jsonl", rows[:30])
    config = _config(tmp_path, tmp_path / "crawl.jsonl", expectations={**WEB["expectations"], "min_documents": 1000})
    with pytest.raises(ExpectationError, match=r"suite documents failed: documents_enough"):
        _run(config)
    assert not (tmp_path / "store/corpus").exists()
    assert len(list((tmp_path / "store/shard").iterdir())) == 1


def test_stage_changed_file_and_unknown_keys_are_refused(tmp_path, planted):
    _, rows, _ = planted
    path = tmp_path / "crawl.jsonl"
    _lines(path, rows[:3])
    source = {"name": "crawl", "path": str(path), "format": "jsonl", "kind": "text", "licence": "CC0-1.0", "sha256": "0" * 64}
    with pytest.raises(DataError, match=f"has changed: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}, the config says 000"):
        _run(_config(tmp_path, sources=[source]))
    with pytest.raises(DataError, match=r"source crawl: .*gone.jsonl: no such file"):
        _run(_config(tmp_path, sources=[{**source, "path": str(tmp_path / "gone.jsonl")}]))
    with pytest.raises(ValueError, match="two have the name crawl"):
        _config(tmp_path, sources=[source, source])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "../../evil"}, "name"),
        ({"expectations": {**WEB["expectations"], "max_refused": 98}}, "corpus.expectations.max_refused"),
        ({"expectations": {**WEB["expectations"], "max_source_share_drift": -0.1}}, "corpus.expectations.max_source_share_drift"),
    ],
)
def test_config_names_that_leave_the_store_and_shares_above_one_are_refused(tmp_path, changes, key):
    with pytest.raises(ValidationError) as caught:
        _config(tmp_path, tmp_path / "crawl.jsonl", **changes)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [key]


def test_stage_documents_of_one_work_stay_on_one_side_and_a_test_share_is_kept_apart(tmp_path, monkeypatch):
    from modelyard.data.corpus.document import Document
    from modelyard.data.sources import packaged

    pieces = [Document(f"{n}", "plays", "text", "en", "MIT", f"play-{n // 5}", _page(), votes=[1, -2]) for n in range(400)]
    monkeypatch.setattr(packaged, "read", lambda *_: pieces)
    monkeypatch.setattr("modelyard.data.sources.stream.fetch", lambda *_: tmp_path / "plays.whl")
    monkeypatch.setattr(shards, "fetch", lambda *_: tmp_path / "plays.whl")
    source = {
        "name": "plays",
        "package": "plays==1",
        "sha256": "0" * 64,
        "format": "gutenberg",
        "kind": "text",
        "licence": "MIT",
        "test": 0.3,
    }
    _, out = _run(_config(tmp_path, sources={"plays": source}))
    kept = _table(out, "documents").values()
    splits = {}
    for row in kept:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(kept) > 350
    assert all(len(found) == 1 for found in splits.values())
    counts = {split: sum(found == {split} for found in splits.values()) for split in ("train", "validation", "test")}
    assert 14 <= counts["test"] <= 34, "80 works, a share of 0.3 of them: within three standard deviations"
    assert counts["validation"] >= 6, "a share of 0.2"
    assert all(row["votes"] == [1, -2] for row in kept)


def test_statistics_are_the_same_bytes_where_shards_were_found(tmp_path, planted):
    pages, _, _ = planted
    for name, texts in (("books", pages[:60]), ("crawl", [page.replace("river", "spam") for page in pages[60:120]])):
        _lines(tmp_path / f"{name}.jsonl", [{"id": f"{name}-{n}", "text": text} for n, text in enumerate(texts)])
    files = [tmp_path / "books.jsonl", tmp_path / "crawl.jsonl"]
    classified = {"curated": ["books"], "raw": ["crawl"], "documents": 100, "pareto": 9.0}
    looser = {**WEB["expectations"], "max_refused": 0.99}
    (tmp_path / "found").mkdir()
    built, fresh = _run(_config(tmp_path / "built", *files, classifier=classified))
    _run(_config(tmp_path / "found", *files, classifier=classified, expectations=looser))
    found, again = _run(_config(tmp_path / "found", *files, classifier=classified))
    assert found.artifact.ref == built.artifact.ref
    assert {"precision", "recall"} == set(json.loads((again / "statistics.json").read_text())["trained"]["classifier"])
    assert _bytes(again) == _bytes(fresh)


def test_stage_shards_of_other_sources_are_built_anew_when_the_classifier_learns_from_another_field(tmp_path, planted, monkeypatch):
    pages, _, _ = planted
    for name, texts in (("news", pages[:20]), ("books", pages[20:50]), ("crawl", [page.replace("river", "spam") for page in pages[50:80]])):
        rows = [{"id": f"{name}-{n}", "text": text, "body": text[::-1]} for n, text in enumerate(texts)]
        _lines(tmp_path / f"{name}.jsonl", rows)
    classified = {"curated": ["books"], "raw": ["crawl"], "documents": 100, "pareto": 9.0}
    expected = {**WEB["expectations"], "max_refused": 1.0, "min_documents": 1}
    built = []
    monkeypatch.setattr(shards, "build", lambda part, *more: built.append(part.source.name) or shard.build(part, *more))
    for field in ("text", "body"):
        config = _config(tmp_path, *(tmp_path / f"{name}.jsonl" for name in ("news", "books", "crawl")))
        sources = [one.model_dump() | ({"text_field": field} if one.name == "books" else {}) for one in config.corpus.sources]
        _run(_config(tmp_path, sources=sources, classifier=classified, expectations=expected))
    assert built == ["news", "books", "crawl"] * 2


@pytest.mark.parametrize("megabytes", [1e-9, 100.0])
def test_classifier_learns_from_each_named_source_alike_however_files_are_grouped(tmp_path, monkeypatch, megabytes):
    sizes = {"long": 40, "other": 40, "short": 3, "raw": 5}
    every = []
    for name, size in sizes.items():
        (tmp_path / name).mkdir()
        for part in range(2):
            rows = [{"id": n, "text": f"{name} {n}"} for n in range(size) if n * 2 // size in (part, 0)]
            _lines(tmp_path / name / f"{part}.jsonl", rows)
        source = stream.SourceConfig(name=name, path=str(tmp_path / name), format="auto", kind="text", licence="MIT", id_field="id")
        every += stream.shards(source, tmp_path / "scratch", megabytes)
    taken = []
    monkeypatch.setattr(trained.classifier, "train", lambda curated, raw, _: taken.extend([curated, raw]))
    trained.train_classifier(ClassifierConfig(curated=["long", "other", "short"], raw=["raw"], documents=49, pareto=9.0), every)
    assert [sum(text.startswith(name) for text in taken[0]) for name in sizes] == [23, 23, 3, 0]
    assert len(set(taken[0])) == 49
    assert taken[1] == [f"raw {n}" for n in range(5)], "what was read before is no document"
