"""The bad-input campaign: whatever stands in a file, its reader gives what it says, a counted reject, or one clear line that names the file.

Every reader gets random bytes, damaged copies of a valid file (bytes changed, cut, repeated, swapped for bytes that mean something) and, where it
reads JSON, valid JSON of any shape. No other exception type than ValueError may come out, and no line break in its message. Commands get the
same files, and words of any kind: an exit code and one line come out.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from flows.pipeline_config import PipelineConfig
from modelyard.commands.app import main, program
from modelyard.config import load_config
from modelyard.data.corpus.document import DataError
from modelyard.data.sources.record import Broken, TextField
from modelyard.data.sources.record_files import read
from modelyard.evals.catalog import rows
from modelyard.exit_codes import BAD_INPUT, DONE
from modelyard.formats import abuse
from modelyard.formats.records import read_records
from modelyard.model import model_directory
from modelyard.model.checkpoints import checkpoint, metadata_check
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import read_safetensors
from modelyard.scaling.runs import read_table
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact

ROOT = Path(__file__).parents[2]
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TELLING = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"[",
    b",",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"[" * 3000,
]


class Target(NamedTuple):
    name: str
    """File name."""
    valid: bytes
    call: Callable[[Path], object]


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two", None], "n": [1, 2, 3]}), out)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    names = {"words": np.array(["a"]), "outputs": np.array(["b"]), "origin": np.str_("c")}
    arrays = {"weights": np.ones((2, 1)), "squares": np.ones(2), "bias": np.zeros(1)}
    np.savez_compressed(out, buckets=np.array([-1, 7]), **names, **arrays)
    return out.getvalue()


def toml() -> bytes:
    pipelines = ROOT / "configs/pipeline"
    return (pipelines / "smallest.toml").read_text().replace('"tiny.toml"', f'"{pipelines / "tiny.toml"}"').encode()


JSONL = b'{"id": 1, "text": "one", "score": 0.5}\n{"id": "b", "text": "two", "score": true, "answer": "x"}\n'
WARC = b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a/\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"
MANIFEST = Artifact(name="a", version="f", fingerprint="f", parents={}, config={}, code="c", metrics={}, files={}, seconds=1.0)
MODEL = json.dumps({
    "model": {"style": "llama", "layers": 1, "hidden": 8, "heads": 2, "kv_heads": 2, "ffn_hidden": 8, "seq_len": 8, "vocab_size": 16,
              "tie_embeddings": True, "rope_base": 1e4, "norm_eps": 1e-5, "init_std": 0.02},
    "head": "lm", "precision": "fp32",
}).encode()  # fmt: skip


def counted(form: str) -> Callable[[Path], object]:
    """Reads documents: what is broken has a reason and a place, nothing is raised at all."""

    def call(path: Path) -> None:
        for row in read(path, form, TextField("text", or_any=True), longest=10_000):
            if isinstance(row, Broken):
                assert row.reason.startswith("read/")
                assert "\n" not in row.detail
            else:
                row.text.encode("utf-8")

    return call


def manifest(path: Path) -> None:
    place = path.parent / "store/a/f"
    place.mkdir(parents=True, exist_ok=True)
    (place / "artifact.json").write_bytes(path.read_bytes())
    store = Store(f"file://{path.parent}/store", str(path.parent / "scratch"))
    if found := store.find("a", "f"):
        store.fetch(found)


def beside(name: str, call: Callable[[Path], object]) -> Callable[[Path], object]:
    """Calls with the directory, in which the file is called ``name``."""

    def with_directory(path: Path) -> None:
        (path.parent / name).write_bytes(path.read_bytes())
        call(path.parent)

    return with_directory


FILE = "{file}"
"""Stands for the file in the words of a command."""


def said(*words: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        code = main(words)
    return code, error.getvalue()


def command(*words: str) -> Callable[[Path], object]:
    """Calls a command with the file; what it refuses is bad input, and its line is a ValueError's."""

    def call(path: Path) -> None:
        code, line = said(*(word.replace(FILE, str(path)).replace("{folder}", str(path.parent)) for word in words))
        if code != DONE or line:
            assert code == BAD_INPUT
            assert line.endswith("\n")
            raise ValueError(line.removesuffix("\n"))

    return call


def damage(directory: Path) -> None:
    problem = checkpoint.damage(directory)
    assert problem is None or "\n" not in problem


TARGETS = {
    "jsonl": Target("a.jsonl", JSONL, counted("jsonl")),
    "json": Target("a.json", b'[{"text": "one"}, {"text": "two"}]', counted("json")),
    "jsonl_gz": Target("a.jsonl.gz", zipped(JSONL * 50), counted("jsonl")),
    "jsonl_zst": Target("a.jsonl.zst", pa.compress(JSONL, "zstd", asbytes=True), counted("jsonl")),
    "parquet": Target("a.parquet", parquet(), counted("parquet")),
    "text": Target("a.txt", "one\n\ntwo ä\n".encode(), counted("text")),
    "wet": Target("a.wet", WARC * 2, counted("wet")),
    "warc": Target("a.warc", WARC.replace(b"conversion", b"response"), counted("warc")),
    "eval_rows": Target("a.jsonl", JSONL, lambda path: rows.jsonl(path, "id", "text")),
    "eval_rows_gz": Target("a.jsonl.gz", zipped(JSONL), lambda path: rows.jsonl(path, "id", "text")),
    "eval_table": Target("a.csv", b"question,answer\nwhat,that\n", lambda path: rows.table(path, "question", "answer")),
    "release_records": Target("a.jsonl", JSONL, read_records),
    "release_records_gz": Target("a.jsonl.gz", zipped(JSONL), read_records),
    "runs_table": Target("a.csv", b"run,flops,loss\nx,1e18,3.5\ny,2e18,3.2\n", read_table),
    "pipeline_config": Target("a.toml", toml(), lambda path: load_config(PipelineConfig, path)),
    "manifest": Target("a.json", MANIFEST.model_dump_json().encode(), manifest),
    "model_json": Target("model.json", MODEL, beside("model.json", model_directory.read)),
    "tokenizer": Target("a.json", b'{"version":"1.0"}', beside("tokenizer.json", Encoder)),
    "safetensors": Target("a", save({"w": torch.ones(2, 2)}), beside("model.safetensors", read_safetensors)),
    "safetensors_index": Target("a", b'{"weight_map": {"w": "x.bin"}}', beside("model.safetensors.index.json", read_safetensors)),
    "abuse_model": Target("a", npz(), beside("abuse.npz", abuse.load)),
    "table_of_contents": Target("a", b"\x80\x02}q\0.", beside(".metadata", metadata_check.check)),
    "checkpoint_seal": Target("a", b'{"note": {}, "files": {"a": {"bytes": 1, "sha256": "0"}}}', beside("complete.json", damage)),
}


RUNS = b"run,train_flops,loss\n" + b"".join(b"r%d,%de18,%.4f\n" % (n, n, 3 + n**-0.5) for n in (1, 2, 4, 8, 16))
LAYOUT = (ROOT / "configs/model/llama-1.3b.toml").read_bytes()
TARGETS |= {
    "compare": Target("a.jsonl", JSONL, command("compare", FILE, FILE)),
    "forecast": Target("a.csv", RUNS, command("forecast", FILE, "--at", "1e20", "--at-mix", "same", "--allow-mixed-horizons")),
    "layout": Target("a.toml", LAYOUT, command("layout", FILE, "--gpus", "1", "--memory-gib", "100000")),
    "contamination": Target(
        "a.jsonl",
        JSONL,
        command("contamination", "--benchmark", FILE, "--text-field", "text", "--corpus", __file__, "--json", "{folder}/out.json"),
    ),
}


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Copies of ``valid`` with a few changes."""
    place = st.integers(0, max(len(valid), 1))
    change = st.one_of(
        st.tuples(st.just("put"), place, st.sampled_from(TELLING) | st.binary(max_size=8)),
        st.tuples(st.just("cut"), place, place),
        st.tuples(st.just("repeat"), place, place),
    )

    def apply(changes: list[tuple[str, int, Any]]) -> bytes:
        data = valid
        for kind, at, what in changes:
            if kind == "put":
                data = data[:at] + what + data[at + len(what) :]
            elif kind == "cut":
                data = data[: min(at, what)] + data[max(at, what) :]
            else:
                data = data[:at] + data[min(at, what) : max(at, what)] + data[at:]
        return data

    return st.lists(change, max_size=4).map(apply)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, -1, "../x", "a/../../b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "id", "score", "files", "model", "head", "weight_map", "note", "answer"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def holds(target: Target, directory: Path, data: bytes) -> None:
    path = directory / target.name
    path.write_bytes(data)
    said = refusal(lambda: target.call(path))
    assert "\n" not in said
    assert not said or str(directory) in said, "the line has to name the file"


def refusal(call: Callable[[], object]) -> str:
    """What a call refuses its input with; empty when it takes it."""
    try:
        call()
    except (ValueError, DataError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", TARGETS)
def test_reader_of_valid_input_reads_it(name, tmp_path):
    target = TARGETS[name]
    (tmp_path / target.name).write_bytes(target.valid)
    if name not in ("tokenizer", "safetensors_index", "checkpoint_seal"):  # these want more than one file
        target.call(tmp_path / target.name)


@pytest.mark.parametrize("name", TARGETS)
def test_reader_of_damaged_input_says_so_in_one_line(name, tmp_path):
    target = TARGETS[name]

    @QUICK
    @given(st.binary(max_size=200) | damaged(target.valid))
    @example(b"")
    @example(b"\0" * 100)
    @example(b"[" * 100_000)
    @example(b'{"text": ' + b"9" * 5000 + b"}")
    @example(target.valid + b"9" * 5000)
    def campaign(data: bytes) -> None:
        holds(target, tmp_path, data)

    campaign()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.valid[:1] in b"{["])
def test_reader_of_json_of_another_shape_says_so_in_one_line(name, tmp_path):
    target = TARGETS[name]

    @QUICK
    @given(JSON)
    def campaign(tree: Any) -> None:
        holds(target, tmp_path, json.dumps(tree).encode())

    campaign()


@QUICK
@given(
    st.text(max_size=40)
    | st.sampled_from(["policy.kl_coef=", "=", "a..b=1", "policy=1", "policy.kl_coef.x=1", f"policy.kl_coef={'9' * 5000}"])
)
def test_override_of_any_text_is_taken_or_refused_in_one_line(text):
    assert "\n" not in refusal(lambda: load_config(PipelineConfig, ROOT / "configs/pipeline/smallest.toml", [text]))


COMMANDS = sorted(program().commands)
FLAGS = sorted({flag for command in program().commands.values() for param in command.params for flag in param.opts})


@QUICK
@given(st.sampled_from([*COMMANDS, ""]), st.lists(st.text(max_size=8) | st.sampled_from([*FLAGS, "1", "nan", "-1"]), max_size=6))
def test_command_of_any_words_is_refused_in_one_line(name, words):
    kept = [word for word in words if word not in ("--", "--help", "--install-completion", "--show-completion")]
    code, line = said(name, *kept, "--no-such-option", "--no-such-option")  # an option before them may take the first as its value
    assert code == BAD_INPUT
    assert line.startswith("modelyard")
    assert line.count("\n") == 1
    assert line.endswith("--help\n")
