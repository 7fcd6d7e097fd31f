"""The smallest line, as a person runs it: end to end, cached, changed, killed, refused by a gate, split over two ranks.

One full run is shared; every other test works on a copy of its store, so it only pays for what it changes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SMALLEST = str(ROOT / "configs/pipeline/smallest.toml")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "COLUMNS": "200"}
PIPELINE = ["-m", "flows.pipeline"]
PRETRAIN = [
    "-c",
    "import sys; from flows.pipeline_config import load_pipeline; from flows.pretrain import pretrain_flow;"
    "from tasks.session import run_from_terminal; sys.exit(run_from_terminal(sys.argv[1:], load_pipeline, pretrain_flow))",
]
BASELINE = "baseline"
STAGES = ["corpus", "tokens", "contamination", "forecast", "base", "sft", "reward", "scorer", "policy", "results", "decision", "export"]

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(900)]


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def stages(self, how: str) -> list[str]:
        """Stages that this run reported as ``cached`` or ``built``."""
        return [
            words[0]
            for line in self.out.splitlines()
            if len(words := line.split()) > 1 and words[0] in (*STAGES, BASELINE) and words[1] == how
        ]


def start(directory: Path, what: list[str], *overrides: str) -> subprocess.Popen:
    command = [sys.executable, *what, SMALLEST, *overrides]
    return subprocess.Popen(command, cwd=directory, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line(directory: Path, what: list[str], *overrides: str) -> Done:
    process = start(directory, what, *overrides)
    out, err = process.communicate()
    return Done(process.returncode, out, err)


def artifact(directory: Path, name: str) -> dict:
    (manifest,) = (directory / ".modelyard/store" / name).glob("*/artifact.json")
    return json.loads(manifest.read_text())


def copy(origin: Path, target: Path, without: tuple[str, ...] = ()) -> Path:
    """A copy of a finished run's directory, less some artifacts."""
    shutil.copytree(origin, target, ignore=shutil.ignore_patterns("prefect"))
    for name in without:
        shutil.rmtree(target / ".modelyard/store" / name)
    return target


def aliases(directory: Path) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{directory}/.modelyard/mlflow.db")
    return {alias: str(version) for alias, version in client.get_registered_model("smallest").aliases.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("line")
    done = line(directory, PIPELINE)
    assert done.code == 0, done.out + done.err
    return directory, done


def test_line_smallest_builds_every_stage_and_promotes(finished):
    directory, done = finished
    assert done.stages("built")[: len(STAGES)] == STAGES
    assert "PROMOTE" in done.out
    assert "make ui" in done.out
    assert all(model in done.out for model in ("base", "SFT", "PPO"))
    assert aliases(directory) == {"candidate": "1", "production": "1"}


def test_line_second_run_finds_every_stage(finished, tmp_path):
    done = line(copy(finished[0], tmp_path / "again"), PIPELINE)
    assert done.code == 0, done.err
    assert done.stages("built") == []
    assert set(done.stages("cached")) == set(STAGES)


def test_line_changed_kl_coef_rebuilds_what_follows_and_a_failed_gate_stops_it(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "changed")
    done = line(directory, PIPELINE, "ppo.kl_coef=0.5", "evals.last_word_tokens=3", "release.min_win_rate=0.99")
    assert done.stages("built")[:4] == ["policy", "results", "baseline", "decision"]  # production answers the changed benchmarks too
    assert set(STAGES[: STAGES.index("policy")]) <= set(done.stages("cached"))
    assert done.code != 0
    assert done.err.startswith("HOLD: preference: wins ")
    assert done.err.count("\n") == 1
    assert aliases(directory)["production"] == "1"
    assert "not worse than production on 4 benchmarks" in done.out


def test_line_killed_in_pretraining_continues_to_the_same_weights(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "killed", without=("base",))
    process = start(directory, PRETRAIN, "execution.checkpoint_every=5")
    deadline = time.monotonic() + 240
    while not list((directory / ".modelyard/scratch").glob("base-*/checkpoints/*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((directory / ".modelyard/store").glob("base/*/artifact.json")), "killed too late to prove anything"
    done = line(directory, PRETRAIN, "execution.checkpoint_every=5")
    assert done.code == 0, done.err
    assert done.stages("built") == ["base"]
    resumed, whole = artifact(directory, "base")["files"], artifact(finished[0], "base")["files"]
    assert resumed == whole


@pytest.mark.parametrize("layout", ["tensor_parallel", "pipeline_parallel"])
def test_line_two_ranks_start_from_the_same_loss(finished, tmp_path, layout):
    directory = copy(finished[0], tmp_path / layout, without=("base",))
    done = line(directory, PRETRAIN, f"execution.{layout}=2", "execution.threads=1")
    assert done.code == 0, done.err
    key = "pretrain/train/first_loss"
    assert artifact(directory, "base")["metrics"][key] == pytest.approx(artifact(finished[0], "base")["metrics"][key], abs=1e-4)
