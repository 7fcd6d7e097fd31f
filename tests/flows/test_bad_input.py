"""Bad input, a server that is away and a machine that lacks something end in one line that names what to change; nothing is lost."""

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import pipeline
from flows.pipeline_config import load_pipeline
from modelyard.adapters.mlflow import server as mlflow_server
from modelyard.adapters.servers.prefect_server import prefect_server
from modelyard.child_server import ServerError
from modelyard.data.corpus.document import DataError
from modelyard.exit_codes import BAD_INPUT, BLOCK, FAILED, HOLD
from modelyard.store.outage import StorageError
from tasks.asked_models import require_asked
from tasks.missing import missing, require_isolation
from tasks.release import BlockError, HoldError
from tasks.session import run_from_terminal

ROOT = Path(__file__).parents[2]
SMALLEST = str(ROOT / "configs/pipeline/smallest.toml")
TINY_GRPO = str(ROOT / "configs/pipeline/tiny-grpo.toml")


def write_truncated_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["some words that are long enough"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-20])


def entry(path: Path, form: str, digest: str | None = None) -> str:
    digest = digest or hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()
    keys = f'path = "{path}", sha256 = "{digest}", format = "{form}", kind = "text", licence = "CC0-1.0"'
    return f"corpus.sources.mine={{{keys}}}"


DEFAULT = ("movie", "amazon", "nyt", "rated_tweets", "shakespeare", "tweets", "dialogs", "docstrings", "code")
NOTHING_ELSE = [f"corpus.sources.{name}.megabytes=0" for name in DEFAULT]


@pytest.fixture(scope="module")
def directory(tmp_path_factory, seed_prefect):
    """Where the refused lines start; they share one Prefect server."""
    directory = tmp_path_factory.mktemp("refused")
    with prefect_server(seed_prefect(directory / ".modelyard/prefect")):
        yield directory


def as_program(directory, arguments, capfd):
    """Exit code and standard error of the line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "modelyard", "run", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def in_this_process(directory, arguments, capfd):
    """The same without the seconds of importing everything."""
    capfd.readouterr()
    code = pipeline.run(arguments[0], arguments[1:])
    return code, capfd.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize(
    ("run", "name", "form", "write", "digest", "overrides", "message"),
    [
        (
            as_program,
            "bad.jsonl",
            "jsonl",
            lambda path: path.write_bytes(b'{"text": "caf\xe9"}\n'),
            None,
            NOTHING_ELSE,
            "bad.jsonl: line 1: invalid UTF-8",
        ),
        (in_this_process, "bad.parquet", "parquet", write_truncated_parquet, None, NOTHING_ELSE, "bad.parquet"),
        (in_this_process, "missing.jsonl", "jsonl", lambda path: None, None, NOTHING_ELSE, "missing.jsonl"),
        (in_this_process, "changed.jsonl", "jsonl", lambda path: path.write_text('{"text": "another"}\n'), "0" * 64, [], "changed.jsonl"),
        (
            in_this_process,
            "refused.jsonl",
            "jsonl",
            lambda path: path.write_text('{"text": "1 2"}\n'),
            None,
            NOTHING_ELSE,
            "corpus: empty: all 1 doc",
        ),
    ],
    ids=["invalid-utf8", "truncated-parquet", "missing", "changed", "empty-corpus"],
)
def test_line_bad_input_is_one_line_before_training(directory, monkeypatch, capfd, run, name, form, write, digest, overrides, message):
    monkeypatch.chdir(directory)
    path = directory / name
    write(path)
    code, said = run(directory, [SMALLEST, entry(path, form, digest), *overrides], capfd)
    assert code == BAD_INPUT
    assert message in said
    assert said.count("\n") == 1, said
    store = directory / ".modelyard/store"
    assert not store.exists() or {path.name for path in store.iterdir()} <= {".claims", ".used", "abuse_filter", "shard"}


def test_line_what_the_project_warns_of_reaches_the_terminal(directory, monkeypatch, capfd):
    monkeypatch.chdir(directory)
    warn = logging.getLogger("modelyard.store.outage").warning
    assert run_from_terminal(SMALLEST, [], load_pipeline, lambda config: warn("store: down; trying again")) == 0
    assert capfd.readouterr().err == "store: down; trying again\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HoldError("HOLD: preference: wins 40%"), HOLD),
        (BlockError("BLOCK before training: data: too small"), BLOCK),
        (ServerError("MLflow: nobody answers"), FAILED),
        (StorageError("store: no room to write it"), FAILED),
        (DataError("a.jsonl: line 1: invalid UTF-8"), BAD_INPUT),
    ],
)
def test_line_exit_code_says_what_ended_it(directory, monkeypatch, capfd, error, code):
    def flow(config):
        raise error

    monkeypatch.chdir(directory)
    capfd.readouterr()
    assert run_from_terminal(SMALLEST, [], load_pipeline, flow) == code
    assert capfd.readouterr().err == f"{error}\n"


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("environment", "overrides", "expected", "message"),
    [
        ({"MODELYARD_HOME": "file/home"}, [], BAD_INPUT, "/file/home: Not a directory"),
        ({"MODELYARD_HOME": "a?b"}, [], BAD_INPUT, "/a?b: a path with a ? cannot be a home"),
        ({}, ["execution.scratch=file/scratch"], BAD_INPUT, "/file is no directory"),
        ({"MLFLOW_TRACKING_URI": NOWHERE}, [], FAILED, f"MLFLOW_TRACKING_URI {NOWHERE}: nobody answers"),
        ({"PREFECT_API_URL": f"{NOWHERE}/api"}, [], FAILED, f"PREFECT_API_URL {NOWHERE}/api: nobody answers"),
    ],
    ids=["home", "home-name", "scratch", "mlflow", "prefect"],
)
def test_line_whose_surroundings_are_amiss_names_what_to_change(directory, monkeypatch, capfd, environment, overrides, expected, message):
    monkeypatch.chdir(directory)
    monkeypatch.setattr(mlflow_server, "START_SECONDS", 1.0)
    (directory / "file").write_text("in the way")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]} if "PREFECT_API_URL" in environment else {}):
        code, said = in_this_process(directory, [SMALLEST, *overrides], capfd)
    assert code == expected
    assert message in said
    assert said.count("\n") == 1, said
    assert (directory / "file").read_text() == "in the way"


def test_generated_code_without_isolation_is_refused_before_any_work(monkeypatch, tmp_path):
    def refused(limits):
        raise ValueError(f"generated code is not run here, isolation {limits.isolation!r} cannot be had")

    monkeypatch.setattr("tasks.missing.require", refused)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with_code = load_pipeline(SMALLEST, [f"execution.store=file://{tmp_path}/store", "evals.sandbox.isolation=namespaces"])
    with pytest.raises(ValueError, match="isolation 'namespaces' cannot be had"):
        pipeline.pipeline_flow.fn.__wrapped__(with_code)
    assert not (tmp_path / "store").exists()
    assert any("cannot be had" in line for line in missing(with_code).others)
    without = with_code.evals.model_copy(
        update={"benchmarks": tuple(one for one in with_code.evals.benchmarks if one.name != "human_eval")}
    )
    require_isolation(with_code.model_copy(update={"evals": without}))
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    require_isolation(with_code)


def test_sampler_whose_program_is_not_there_is_found_before_any_work(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def said(sampler: str) -> list[str]:
        overrides = [f"execution.store=file://{tmp_path}/store", "policy.rollouts.backend=server", f"execution.sampler={sampler}"]
        return [line for line in missing(load_pipeline(TINY_GRPO, overrides)).others if "execution.sampler" in line]

    assert said("no-such-engine serve") == ["execution.sampler: there is no program 'no-such-engine' on this machine"]
    assert said("env CUDA_VISIBLE_DEVICES=7 no-such-engine serve") == [
        "execution.sampler: there is no program 'no-such-engine' on this machine"
    ]
    assert said(f"env A=1 {sys.executable} -m modelyard serve") == []
    without = load_pipeline(
        TINY_GRPO, [f"execution.store=file://{tmp_path}/store", "policy.rollouts.backend=server", "execution.sampler=none-here"]
    )
    with pytest.raises(ValueError, match=r"^policy: execution\.sampler: there is no program 'none-here'"):
        require_asked(without)  # as a run begins
    assert said("http://gpu-3:8000") == []
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert said("no-such-engine serve") == []
