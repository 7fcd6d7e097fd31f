"""``make``: it lists its targets, and hands overrides on as they were typed."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from modelyard.config import parse_override

ROOT = Path(__file__).parents[2]
RECORDER = """#!/usr/bin/env python3
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A ready environment whose ``modelyard`` prints the words that it gets."""
    program = tmp_path / "venv/bin/modelyard"
    program.parent.mkdir(parents=True)
    program.write_text(RECORDER)
    program.chmod(0o755)
    (tmp_path / "venv/.ready").touch()
    return tmp_path / "venv"


def make(*words: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *words], env=plain, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_lists_every_target() -> None:
    listed = set(re.findall(r"^make (\S+)", make(), flags=re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    targets = {name for name in phony[1].split() if not re.fullmatch("bench-(data|posttrain)", name)}  # bench-% stands for these
    assert listed == targets | {"bench-%"}


def test_make_run_hands_overrides_on_word_for_word(environment: Path) -> None:
    overrides = [
        "ppo.kl_coef=0.05",
        """release.overrides=[{gate="forecast", name="Ada B. Cole", reason="it's known: $5 & more; `x`"}]""",
        "name=a=b",
    ]
    called = json.loads(make("run", f"VENV={environment}", "CONFIG=configs/pipeline/smallest.toml", *overrides))
    assert called[:2] == ["run", "configs/pipeline/smallest.toml"]
    assert sorted(called[2:]) == sorted(overrides)
    (override,) = parse_override(overrides[1])[1]
    assert override["name"] == "Ada B. Cole"
    assert parse_override("prompt=1\nother = 2") == (["prompt"], "1\nother = 2")


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["run", "CONFIG=my config's $HOME.toml"], ["run", "my config's $HOME.toml"]),
        (["serve", "MODEL=my model; 'x'"], ["serve", "my model; 'x'"]),
        (["serve"], ["serve", "models:/tiny@production"]),
        (["bench-evals", "MODEL=a model", "DATA=some data"], ["-m", "bench.evals", "a model", "some data"]),
        (["bench-evals"], ["-m", "bench.evals"]),
        (["chaos", "N=2 3"], ["-m", "bench.chaos", "--runs", "2 3", "--seed", "0"]),
        (["alignment", "FAMILY=a b"], ["-m", "bench.alignment", "--family", "a b"]),
        (["kubernetes", "SHM=1'Gi"], ["-m", "tasks.kubernetes", "--shm", "1'Gi"]),
    ],
)
def test_make_hands_each_of_its_own_variables_on_as_one_word(environment: Path, words: list[str], called: list[str]) -> None:
    (environment / "bin/python").symlink_to("modelyard")
    assert json.loads(make(*words, f"VENV={environment}").splitlines()[-1]) == called


def test_make_run_without_overrides_runs_the_tiny_line(environment: Path) -> None:
    assert json.loads(make("run", f"VENV={environment}")) == ["run", "configs/pipeline/tiny.toml"]


def test_make_run_hands_on_what_shell_and_make_would_take_for_their_own(environment: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    values = [
        f"$(shell touch {mark})",
        f"`touch {mark}`",
        f"'; touch {mark}; '",
        "#50%",
        "a\\",
        '"',
        "''",
        "$$",
        "%",
        "ä\u3042",
        "x" * 10_000,
        "",
        "a\tb",
        "~",
        "*",
    ]
    overrides = [f"table.key_{number}={value}" for number, value in enumerate(values)]
    called = json.loads(make("run", f"VENV={environment}", *overrides))
    assert sorted(called[2:]) == sorted(overrides)
    assert not mark.exists()
