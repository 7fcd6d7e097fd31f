"""Every command with every value: whatever files and words a command is given, it ends with one of the documented exit codes and
without a traceback, says in one line what is wrong, and leaves nothing behind: no file outside its output, no process, no thread.

A command is a row: words with places for files, outputs and values. Files are valid ones, damaged copies of them, and what a path can
be besides a file of text (a directory, nothing, a pipe, a device without an end, a gzip that unpacks to far more than its size).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from modelyard.adapters.mlflow.registry import Registry
from modelyard.commands.app import main, program
from modelyard.exit_codes import BAD_INPUT, BLOCK
from modelyard.store.artifacts import Store
from tests.worlds.line import GATES, SOURCES, Literals, make, make_line

ROOT = Path(__file__).parents[2]
EACH = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
RECORDS = b"".join(json.dumps({"id": n, "score": n % 2, "text": f"some text {n}"}).encode() + b"\n" for n in range(40))
RUNS = b"run,train_flops,params,tokens,loss\n" + b"".join(
    b"r%d,%de18,%de6,%de8,%.4f\n" % (n, n, n, n, 3 + n**-0.5) for n in (1, 2, 4, 8, 16)
)
VALID = {
    "records": ("a.jsonl", RECORDS),
    "packed": ("a.jsonl.gz", gzip.compress(RECORDS, mtime=0)),
    "runs": ("a.csv", RUNS),
    "layout": ("a.toml", (ROOT / "configs/model/llama-1.3b.toml").read_bytes()),
    "pipeline": ("a.toml", f'extends = "{ROOT}/configs/pipeline/tiny.toml"\n'.encode()),
    "rubric": ("a.toml", (ROOT / "configs/rubrics/refusal_style.toml").read_bytes()),
    "weights": ("model.safetensors", save({"w": np.ones((2, 2), np.float32)})),
    "metrics": (
        "a.metrics.json",
        b'{"benchmark": "b", "benchmark_id": "i", "metrics": {"acc": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}}',
    ),
}
LONG = "long" * 100
"""More characters than a name can have."""
ODD = ("directory", "nothing", "pipe", "device", "bomb", "loop", "below a file", LONG)
NUMBERS = ("0", "1", "-1", "3", "0.5", "nan", "inf", "-inf", "1e308", "1e-320", "9" * 400, "1_000", "0x10", "", " ", "one")
WORDS = (
    "",
    " ",
    'it\'s $HOME; `x` "y"',
    "x" * 10_000,
    "../up",
    "a\nb",
    "\u202eabc\x1b[31m",
    "\udcff",
    "--",
    "-",
    "a=b",
    "a[",
    "{",
    "*",
    "\0",
)


class Row(NamedTuple):
    """A command's words: ``<kind>`` is a file, ``>`` an output, ``#`` a number, ``?`` a word, ``~x`` an option that may be left out with the
    words up to the next."""

    words: str


COMMANDS = {
    "compare": Row("<records> <packed> ~--json > ~--alpha # ~--min-items # ~--tolerance # ~--common ~--gate"),
    "contamination": Row(
        "--benchmark <records> --text-field text --corpus <packed> --json > ~--corpus-field ? ~--max-broken # ~--seed # ~--remove >"
    ),
    "forecast": Row(
        "<runs> ~--at # ~--at-params # ~--at-tokens # ~--fit ? ~--judge ? ~--json > ~--noise # ~--allow-mixed-horizons ~--joint"
    ),
    "forecast capability": Row(
        "<runs> ~--at # ~--at-tokens # ~--at-mix ? ~--judge ? ~--fit ? ~--benchmark ? ~--buckets # ~--dropped # ~--json >"
    ),
    "layout": Row(
        "<layout> --gpus # --memory-gib # ~--gpus-per-node # ~--reserve-gib # ~--peak-tflops # ~--mfu # ~--chunks # ~--context # ~--json >"
    ),
    "plan": Row("<pipeline> --compute # ~--tokens-per-parameter # ~--points <runs> ~--rungs # ~--reach # ~--span # ~--depth-follows-width"),
    "judge": Row("<rubric> --judge <weights> ~--orders # ~--shots # ~--threads # ~--json >"),
    "prefer": Row("<records> --judge <weights> ~--calibrate ? ~--limit # ~--threads # ~--seed # ~--json >"),
    "eval": Row("<weights> --data <records> --out > --benchmark arc_easy ~--limit # ~--shots # ~--samples # ~--threads #"),
    "eval --suite": Row("<weights> --data <records> --out > --suite <layout> ~--limit #"),
    "page": Row("> one=<metrics> ~?"),
    "import": Row("<weights> > ~--tp # ~--pp #"),
    "export": Row("<weights> >"),
    "ledger": Row("~--store ? ~--json >"),
    "invalidates": Row("? ~--store ? ~--json >"),
    "lineage": Row("? ~--against ? ~--store ? ~--json >"),
    "summary": Row("? --out > ~--answers <pipeline> ~--store ?"),
    "claims": Row("? --out > ~--producer ? ~--store ?"),
    "rollback": Row("? ? --name ? --reason ?"),
    "prune": Row("~--older-than # ~--store ? ~--scratch > ~--delete"),
    "verify": Row("? ~--store ? ~--public-key <records>"),
    "run": Row("<pipeline> no.such=? ~?"),
    "data": Row("<pipeline> corpus.no_such=? ~?"),
    "data plan": Row("<pipeline> --bytes # --workers # --rate # ~--memory-gib # ~--disk-reads # ~--sample # ~--json > corpus.no_such=? ~?"),
    "check": Row("<pipeline> no.such=? ~?"),
    "schema": Row("~? ~--out >"),
    "serve": Row(
        "? ~--name ? ~--port # ~--rows # ~--waiting # ~--threads # ~--follow # ~--classifier <records> ~--threshold # ~--book ? ~--traces ?"
    ),
    "serve --canary": Row("? --canary ? ~--shadow ? ~--share # ~--alpha # ~--book ?"),
    "feedback": Row("--out > ~--book ?"),
    "feedback --withdraw": Row("--withdraw ? ~--book ? ~--store ?"),
    "desk": Row("--port -1 ~--config <layout> ~--book ? ~--store ?"),
    "account": Row("? --role ? --password-file <records> --book ?"),
    "account --remove": Row("? --remove --book ?"),
    "label": Row("<layout> --book ?"),
    "label --out": Row("--out > --book ? ~--only ? ~--form ?"),
    "label --convert": Row("--convert <records> --form ? ~--items <packed> --out >"),
    "findings": Row("--out > --book ? ~--config <layout>"),
    "findings --garak": Row("--garak <records> --reporter ? --book ?"),
    "findings --pyrit": Row("--pyrit <records> --reporter ? --book ?"),
    "harms": Row("<layout> --suspects > ~--most # ~--desk > ~--seed # ~--threads #"),
    "harms --next": Row("<layout> --pool <records> --next > ~--number # ~--random # ~--above # ~--category ? ~--seed #"),
    "harms --judge": Row("<layout> --suspects > --judge <weights> ~--rules <rubric> ~--limit # ~--min-kappa # ~--orders # ~--json >"),
    "harms --label": Row("<layout> --pool <records> --label > --judge <weights> ~--rules <layout> ~--shots # ~--agreement # ~--category ?"),
    "init": Row("> ~--start ? ~--model <weights> ~--name ?"),
}
SERVE_UNTIL_INTERRUPTED = {"ui", "services"}


RELEASED = {
    "lineage": Row("line ~--against # ~--store {store} ~--json >"),
    "verify": Row("line ~--store {store} ~--public-key <records>"),
    "verify STORE": Row("{store}"),
    "summary": Row("line --out > ~--answers <pipeline> ~--store {store}"),
    "claims": Row("line --out > ~--producer ? ~--store {store}"),
    "rollback": Row("line # --name ? --reason ?"),
    "prune": Row("~--older-than # ~--store {store} ~--scratch > ~--delete"),
    "invalidates": Row("plays ~--store {store} ~--json >"),
}
"""Rows of what asks a registry and a store, whose files and tags are drawn too; ``{store}`` is its URL."""
MISSHAPEN: tuple[object, ...] = ([], {}, [1], {"gates": [1]}, {"gates": None}, [{"package": "p"}], 3, None, "text")
TAGS = ("decision", "policy", "results", "decision_artifact", "decision_manifest", "export", "export_manifest", "opponent", "corpus")


class Case(NamedTuple):
    """Words of one call, and what there is before it."""

    words: tuple[str, ...]
    files: dict[str, bytes]


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(valid))
    return st.one_of(
        st.just(valid),
        st.just(b""),
        st.tuples(place, st.binary(max_size=6)).map(lambda put: valid[: put[0]] + put[1] + valid[put[0] :]),
        place.map(lambda at: valid[:at]),
    )


@st.composite
def cases(draw: st.DrawFn, row: Row) -> Case:
    """A call of the row's command: each place filled, options left out or given."""
    files: dict[str, bytes] = {}

    def filled(word: str) -> str:
        head, mark, kind = word.partition("<")
        if mark:
            what = draw(st.sampled_from(("file",) * len(ODD) + ODD))
            if what != "file":
                return f"{head}odd/{what}/{kind.removesuffix('>')}"
            name, valid = VALID[kind.removesuffix(">")]
            place = f"in{len(files)}/{name}"
            files[place] = draw(damaged(valid))
            return head + draw(st.sampled_from((place, str(Path(place).parent)) if kind in ("weights>", "metrics>") else (place,)))
        if word == ">":
            return draw(st.sampled_from(("out/a.json", "out/new/deep/a", "out", "odd/directory/records", "odd/below a file/x", "")))
        if word == "#":
            return draw(st.sampled_from(NUMBERS))
        return word.replace("?", draw(st.sampled_from(WORDS))) if "?" in word else word

    kept, words = True, []
    for word in row.words.split():
        if word.startswith(("~", "--")):
            kept = not word.startswith("~") or draw(st.booleans())
        if kept:
            words.append(filled(word.removeprefix("~")))
    return Case(tuple(words), files)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the calls, with everything odd that a path can name."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "MODELYARD_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for kind in VALID:
        (tmp_path / "odd/directory" / kind).mkdir(parents=True)
        (tmp_path / "odd/directory" / kind / "kept").write_text("kept")
        for odd in ("pipe", "device", "bomb", "loop", "below a file"):
            (tmp_path / "odd" / odd).mkdir(exist_ok=True)
        os.mkfifo(tmp_path / "odd/pipe" / kind)
        (tmp_path / "odd/device" / kind).symlink_to("/dev/zero")
        (tmp_path / "odd/bomb" / kind).write_bytes(BOMB)
        (tmp_path / "odd/loop" / kind).symlink_to(kind)
    (tmp_path / "odd/below a file").rmdir()
    (tmp_path / "odd/below a file").write_text("a file")
    return tmp_path


BOMB = gzip.compress(b" " * (1 << 27), mtime=0)
"""131 kB that unpack to 128 MB."""


def there(place: Path) -> dict[str, tuple[int, int]]:
    """Every path below ``place`` with its size and time of change."""
    return {
        str(path.relative_to(place)): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in place.rglob("*") if not path.is_dir()
    } | {str(path.relative_to(place)): (0, 0) for path in place.rglob("*") if path.is_dir()}


def said(words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and standard error of a call, which must not raise."""
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        code = main(words)
    return code, error.getvalue()


def holds(place: Path, words: tuple[str, ...]) -> None:
    """The three things."""
    before, children, threads = there(place), psutil.Process().children(), threading.active_count()
    code, error = said(words)
    assert code in range(BLOCK + 1), (code, error)
    if code == BAD_INPUT:
        assert error.count("\n") == 1, error
        assert len(error) < 2_000, "a line that nobody can read"
    written = {path for path, state in there(place).items() if before.get(path) != state}
    if code == BAD_INPUT:
        assert not written
    else:
        assert all(path == "out" or path.startswith(("out/", "odd/directory/records")) for path in written), written
    assert set(before) <= set(there(place))
    assert psutil.Process().children() == children
    assert threading.active_count() <= threads


def every_word() -> Iterator[str]:
    return (name for name in program().commands if name not in SERVE_UNTIL_INTERRUPTED)


def command_of(row: str) -> tuple[str, ...]:
    """The words of a row's command; an option in its name stands in its words too."""
    return tuple(word for word in row.split() if not word.startswith("--"))


def test_every_command_has_a_row() -> None:
    assert set(every_word()) == {" ".join(command_of(name)) for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_of_every_value_ends_in_order_and_leaves_nothing_behind(name: str, place: Path) -> None:
    @EACH
    @given(cases(COMMANDS[name]))
    def campaign(case: Case) -> None:
        for path, data in case.files.items():
            (place / path).parent.mkdir(exist_ok=True)
            (place / path).write_bytes(data)
        holds(place, (*command_of(name), *case.words))

    campaign()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which nothing is yet, to be copied."""
    home = tmp_path_factory.mktemp("home")
    Registry(f"sqlite:///{home}/mlflow.db", "").client.search_registered_models()
    return home


def release(place: Path, home: Path, decision: object, sources: object, tags: dict[str, str | None]) -> str:
    """A store and a registry with one version that serves, whose files and tags hold what they should not; the store's URL."""
    shutil.copytree(home, place / "home")
    store, uri = Store(f"file://{place}/store", str(place / "scratch")), f"sqlite:///{place}/home/mlflow.db"
    made = make_line(store, sources=sources)
    made["decision"] = make(
        store, "decision", Literals(seed=7), {"decision.json": decision}, results=made["results"], corpus=made["corpus"]
    )
    registry = Registry(uri, "line")
    registry.client.create_registered_model("line")
    refs = {f"{name}_manifest": made[name].manifest for name in ("decision", "export")}
    refs |= {"decision_artifact": made["decision"].ref, "decision": "PROMOTE", "opponent": "none", "corpus": made["corpus"].ref}
    kept = {**refs, **{name: made[name].ref for name in ("policy", "results", "export")}, **tags}
    source = str(Path(store.storage.root) / made["export"].ref)
    registry.client.create_model_version("line", source, tags={key: value for key, value in kept.items() if value is not None})
    registry.client.set_registered_model_alias("line", "production", "1")
    return store.storage.url


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("lineage", "verify") else pytest.mark.slow) for name in RELEASED])
def test_command_of_a_release_whose_files_and_tags_are_anything_ends_in_order(
    name: str, place: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"gates": GATES, "verdict": "PROMOTE"}
    lost = st.dictionaries(st.sampled_from(TAGS), st.none() | st.sampled_from(("", "x", "a/b", "a/b/c", "../x", "none'")), max_size=1)

    @settings(EACH, max_examples=12)
    @given(cases(RELEASED[name]), st.sampled_from((whole, *MISSHAPEN)), st.sampled_from((SOURCES, *MISSHAPEN)), lost)
    def campaign(case: Case, decision: object, sources: object, tags: dict[str, str | None]) -> None:
        world = Path(tempfile.mkdtemp(dir=place))  # MLflow keeps a database open
        monkeypatch.setenv("MODELYARD_HOME", str(world / "home"))
        url = release(world, home, decision, sources, tags)
        for path, data in case.files.items():
            (place / path).parent.mkdir(exist_ok=True)
            (place / path).write_bytes(data)
        words = (name.split()[0], *(word.replace("{store}", url) for word in case.words))
        code, error = said(words)
        assert code in range(BLOCK + 1), (code, error)
        assert code != BAD_INPUT or error.count("\n") == 1, error

    campaign()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("odd", ODD)
def test_command_given_an_odd_path_for_every_file_ends_in_order(name: str, odd: str, place: Path) -> None:
    filled = {">": "out/a.json", "#": "3", "?": "x"}
    words = (re.sub("<(.*)>", rf"odd/{odd}/\1", filled.get(word, word)) for word in COMMANDS[name].words.replace("~", "").split())
    holds(place, (*command_of(name), *words))
