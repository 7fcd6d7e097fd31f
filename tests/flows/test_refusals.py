"""The line as a person starts it: every refusal is one line, a non-zero exit, and nothing trained or lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLEST = str(ROOT / "configs/pipeline/smallest.toml")


def line(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "MODELYARD_HOME": str(directory / ".modelyard")}
    command = [sys.executable, "-m", "flows.pipeline", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m flows.pipeline CONFIG [KEY=VALUE ...]"),
        (["missing.toml"], "missing.toml: no such config file"),
        ([SMALLEST, "ppo.kl_coeff=0.05"], "ppo.kl_coeff: unknown key"),
        ([SMALLEST, "ppo.kl_coef=high"], "ppo.kl_coef: Input should be a valid number"),
        ([SMALLEST, "ppo.kl_coef"], "override 'ppo.kl_coef': expected KEY=VALUE"),
        ([SMALLEST, "execution.tensor_parallel=3"], "model.heads 4 is not divisible by execution.tensor_parallel 3"),
        ([SMALLEST, "execution.pipeline_parallel=3"], "model.layers 2 is not divisible by execution.pipeline_parallel 3"),
        ([SMALLEST, "tokens.seq_len=64"], "tokens.seq_len is 64, but pretrain.model.seq_len is 32"),
        ([SMALLEST, "scorer.raters=even"], "scorer.raters: must differ from reward.raters"),
    ],
)
def test_line_bad_config_is_one_line_before_anything_starts(tmp_path, arguments, message):
    done = line(tmp_path, *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not done.stdout
    assert not (tmp_path / ".modelyard").exists()
