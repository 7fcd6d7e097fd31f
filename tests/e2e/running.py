"""Runs the line as a person does, in a directory of its own, and reads what it left."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, get_args

from tasks.stage import Name

ROOT = Path(__file__).parents[2]
SMALLEST = str(ROOT / "configs/pipeline/smallest.toml")
SECRETS = {
    name: f"planted-{name.lower()}-5f1c0e"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "PREFECT_API_AUTH_STRING", "RAY_AUTH_TOKEN")
}
"""Every run has these in its environment; none of them may be found in anything that it leaves."""
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != "MODELYARD_DATA"},
    **SECRETS,
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "COLUMNS": "200",
}
PIPELINE = ["-m", "modelyard", "run"]
PRETRAIN = [
    "-c",
    "import sys; from flows.pipeline_config import load_pipeline; from flows.pretrain import pretrain_flow;"
    "from tasks.session import run_from_terminal; sys.exit(run_from_terminal(sys.argv[1], sys.argv[2:], load_pipeline, pretrain_flow))",
]
STAGES = [
    "corpus",
    "held_out",
    "feedback",
    "benchmarks",
    "tokens",
    "contamination",
    "continuations",
    "forecast",
    "base",
    "sft",
    "reward",
    "gold",
    "before",
    "policy",
    "results",
    "decision",
    "export",
]
NAMES = get_args(Name)
"""Every stage that a line can have."""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def stages(self, how: str) -> list[str]:
        """Stages that this run reported as ``cached`` or ``built``."""
        named = (line.split() for line in self.out.splitlines())
        return [words[0] for words in named if len(words) > 1 and words[0] in NAMES and words[1] == how]


def start(
    directory: Path, what: list[str], *overrides: str, config: str = SMALLEST, environment: Mapping[str, str] = {}
) -> subprocess.Popen:
    command = [sys.executable, *what, config, *overrides]
    return subprocess.Popen(
        command, cwd=directory, env={**ENVIRONMENT, **data(), **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def data() -> dict[str, str]:
    """Where a test says that its user's files lie."""
    return {name: os.environ[name] for name in ("MODELYARD_DATA",) if name in os.environ}


def line(directory: Path, what: list[str], *overrides: str) -> Done:
    return ended(start(directory, what, *overrides))


def run_config(directory: Path, config: str, *overrides: str) -> Done:
    """Run a config of ``directory``."""
    return ended(start(directory, PIPELINE, *overrides, config=config))


def ended(process: subprocess.Popen) -> Done:
    out, err = process.communicate()
    return Done(process.returncode, out, err)


def artifact(directory: Path, name: str) -> dict:
    (manifest,) = (directory / ".modelyard/store" / name).glob("*/artifact.json")
    return json.loads(manifest.read_text())


def newest(directory: Path, name: str) -> dict:
    """The manifest of the artifact of a stage that was finished last."""
    manifests = [json.loads(path.read_text()) for path in (directory / ".modelyard/store" / name).glob("*/artifact.json")]
    return max(manifests, key=lambda manifest: manifest["finished"])


def is_built(directory: Path, name: str) -> bool:
    return bool(list((directory / ".modelyard/store").glob(f"{name}/*/artifact.json")))


def copy(origin: Path, target: Path, without: tuple[str, ...] = ()) -> Path:
    """A copy of a finished run's directory, less some artifacts; Prefect's database comes along, as making one takes ten seconds."""
    shutil.copytree(origin, target, ignore=shutil.ignore_patterns("server.*", "*.lock", "auth"))
    for name in without:
        shutil.rmtree(target / ".modelyard/store" / name)
    return target


def aliases(directory: Path) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{directory}/.modelyard/mlflow.db")
    return {alias: str(version) for alias, version in client.get_registered_model("smallest").aliases.items()}
