"""``modelyard`` as a whole: help, completion, exit codes and one line of error, the same for every command."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from modelyard.adapters.servers.ports import PORTS
from modelyard.adapters.servers.service_definitions import ALL
from modelyard.child_server import ServerError
from modelyard.commands import servers
from modelyard.commands.app import main, program
from modelyard.commands.command import repeated
from modelyard.config import ConfigError
from modelyard.evals.catalog import names
from modelyard.exit_codes import BAD_INPUT, FAILED, code_of
from modelyard.formats import records
from modelyard.model.plan.layout_search import Machine
from modelyard.store.outage import StorageError

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(program().commands)
HEAVY = ("torch", "numpy", "pandas", "pyarrow", "scipy", "transformers", "ray", "mlflow", "prefect", "fsspec", "yaml", "PIL")
IN_ONE_PROCESS = """
import contextlib, io, json, sys
from modelyard.commands.app import main

def said(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()

commands, heavy = json.loads(sys.argv[1])
helped = {name: said(name, "--help") for name in commands}
top = said()
loaded = [name for name in heavy if name in sys.modules]
listed = said("eval", "--list")
loaded_by_list = [name for name in heavy if name in sys.modules]
refused = {name: said(name, "--no-such-option") for name in commands}
print(json.dumps([helped, top, loaded, refused, listed, loaded_by_list]))
"""


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "COLUMNS": "300", **environment}
    return subprocess.run([sys.executable, *arguments], env=whole, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fresh() -> tuple[dict, list, list, dict, list, list]:
    """Help and refusal of every command and the list of benchmarks in a process that has imported nothing else."""
    done = run_program("-c", IN_ONE_PROCESS, json.dumps([COMMANDS, HEAVY]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_of_every_command_imports_no_machinery(fresh) -> None:
    helped, (code, top, _), loaded, *_ = fresh
    assert len(helped) >= 18
    assert code == 0
    for name, (code, out, err) in helped.items():
        assert (code, err) == (0, ""), name
        assert f"Usage: modelyard {name}" in out
        assert name in top
    assert loaded == []


def test_list_of_benchmarks_imports_what_counts_and_nothing_that_reads_or_asks(fresh) -> None:
    code, out, err = fresh[4]
    assert (code, err) == (0, "")
    assert out.split() == list(names())
    assert fresh[5] == ["numpy"]


def test_unknown_option_of_every_command_is_one_line_and_2(fresh) -> None:
    for name, (code, out, err) in fresh[3].items():
        assert (code, out) == (BAD_INPUT, ""), name
        assert err == f"modelyard {name}: No such option: --no-such-option; see modelyard {name} --help\n"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"ui", "services", "desk", "ledger", "prune", "schema"}))
def test_command_without_what_it_needs_is_one_line_and_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == BAD_INPUT
    error = capsys.readouterr().err
    assert "issing" in error
    assert error.count("\n") == 1


def test_version_and_a_word_that_is_no_command_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["foo"]) == 2
    out, error = capsys.readouterr()
    assert out == f"modelyard {metadata.version('modelyard')}\n"
    assert error == "modelyard: No such command 'foo'; see modelyard --help\n"


def test_module_is_the_same_program() -> None:
    done = run_program("-m", "modelyard", "ledger", "--store", "s4://nowhere")
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr == "modelyard ledger: store 's4://nowhere': scheme 's4' is not file or s3\n"


def test_completion_knows_commands_and_options() -> None:
    for words, place, expected in (("modelyard led", "1", "ledger"), ("modelyard compare --tol", "2", "--tolerance")):
        asked = {"_MODELYARD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
        assert run_program("-m", "modelyard", **asked).stdout.split() == [expected]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "--fit", "x", "y", "--at", "1"], ["a", "--fit", "x", "--fit", "y", "--at", "1"]),
        (["--fit", "x", "--fit", "y", "z"], ["--fit", "x", "--fit", "y", "--fit", "z"]),
        (["--at", "1", "x"], ["--at", "1", "x"]),
        (["--fit", "x", "--", "y"], ["--fit", "x", "--", "y"]),
        (["--fit"], ["--fit"]),
        ([], []),
    ],
)
def test_values_of_a_flag_reach_to_the_next_flag(words: list[str], expected: list[str]) -> None:
    assert list(repeated(words, {"--fit"})) == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x: y"), BAD_INPUT),
        (FileNotFoundError(2, "No such file", "x"), BAD_INPUT),
        (PermissionError(13, "Permission denied", "x"), BAD_INPUT),
        (OSError(28, "No space left on device", "x"), FAILED),
        (StorageError("no answer"), FAILED),
        (ServerError("did not start"), FAILED),
    ],
)
def test_exit_code_tells_bad_input_from_failure(error: Exception, code: int) -> None:
    assert code_of(error) == code


def test_run_where_only_the_package_is_installed_says_what_is_missing(monkeypatch, capsys) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("flows", "tasks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flows", None)
    assert main(["run", "x.toml"]) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("modelyard run: flows.pipeline: not found beside the package; ")
    assert error.count("\n") == 1


def test_error_of_ours_is_not_hidden(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "flows.pipeline", object())
    with pytest.raises(AttributeError):
        main(["run", "x.toml"])


@pytest.mark.parametrize(("command", "shown"), [("label", "[[feedback.files]]"), ("summary", "[release.training_content]")])
def test_help_keeps_the_brackets_of_tables(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert shown in capsys.readouterr().out.replace("\n", " ")


def test_help_says_what_the_code_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    main(["layout", "--help"])
    shown = capsys.readouterr().out
    lines = {name: next(line for line in shown.splitlines() if f"--{name.replace('_', '-')} " in line) for name in Machine.model_fields}
    for name, field in Machine.model_fields.items():
        assert ("[required]" in lines[name]) == field.is_required()
        assert field.is_required() or f"({field.default:g}" in lines[name], name
    main(["compare", "--help"])
    shown = capsys.readouterr().out
    for keys in (records.ITEM, records.SCORE, records.ANSWER, records.BENCHMARK):
        assert all(key in shown for key in keys)
    assert [*servers.ServiceName] == list(ALL)
    assert set(ALL) < set(PORTS)
