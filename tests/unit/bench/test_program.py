"""Benches take their options as the commands do: help, one line where a word cannot be used, several values of a flag."""

import importlib
import importlib.util
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from bench.program import program
from modelyard.exit_codes import BAD_INPUT, DONE, FAILED

ROOT = Path(__file__).parents[3]
BENCHES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("bench/**/*.py") if "\ndef main(" in path.read_text()
)
PEERS = {"bench.contamination": "ahocorasick_rs", "bench.data": "ahocorasick_rs"}
"""Benches whose module needs what only the extra ``bench`` installs."""


@pytest.mark.parametrize("name", BENCHES)
def test_bench_shows_its_help_and_refuses_an_unknown_option_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in PEERS and not importlib.util.find_spec(PEERS[name]):
        pytest.skip(f"{PEERS[name]} is not installed")
    main = importlib.import_module(name).main
    assert program(main, ["--help"]) == DONE
    assert capsys.readouterr().out.startswith(f"Usage: python -m {name} ")
    assert program(main, ["--no-such-option"]) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"python -m {re.escape(name)}: No such option: --no-such-option.*; see python -m .* --help\n", said.err)


def measure(
    sizes: Annotated[list[int], typer.Option("--size")] = [1, 2],
    out: Path | None = None,
    words: Annotated[list[str], typer.Argument()] = [],
) -> int:
    """Say what was asked for."""
    if out is not None:
        out.read_text()
    sys.stdout.write(f"{sizes} {words}\n")
    return len(sizes)


def test_program_gives_a_flag_several_values_and_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(measure, ["word", "--size", "3", "4", "5"]) == 3
    assert program(measure, []) == 2
    assert capsys.readouterr().out == "[3, 4, 5] ['word']\n[1, 2] []\n"


def test_program_says_a_bad_file_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(measure, ["--out", str(tmp_path / "none")]) == BAD_INPUT
    assert capsys.readouterr().err == f"python -m {__name__}: {tmp_path / 'none'}: No such file or directory\n"


def terminated() -> None:
    """Gets SIGTERM while it works."""
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("still at work")


def test_program_that_gets_sigterm_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert program(terminated, []) == FAILED
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m {__name__}: interrupted"
    assert signal.getsignal(signal.SIGTERM) is before
