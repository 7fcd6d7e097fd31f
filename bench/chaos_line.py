"""One line of the chaos proof, in a directory of its own with its own MLflow server: started, looked into, held against another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from modelyard.adapters.servers import object_store
from modelyard.child_server import HOST, die_with_parent, healthy
from modelyard.store.artifacts import Store
from modelyard.store.lineage import all_artifacts

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/pipeline/smallest.toml"
OFTEN = ("execution.checkpoint_every=5", "execution.checkpoint_iterations=1", "execution.log_every=1")
ORPHAN_SECONDS = 30.0
KINDS: dict[str, Callable[[str, list[str]], bool]] = {
    "flow": lambda name, command: command[1:4] == ["-m", "modelyard", "run"],
    "training rank": lambda name, command: "RayTrainWorker" in name,
    "ray worker": lambda name, command: name.startswith("ray::") and "RayTrainWorker" not in name,
    "raylet": lambda name, command: name.endswith("/raylet"),
    "gcs": lambda name, command: name.endswith("/gcs_server"),
    "prefect server": lambda name, command: "prefect" in command and "server" in command,
    "mlflow server": lambda name, command: "mlflow" in command and "server" in command,
    "s3 server": lambda name, command: name.endswith("/weed"),
}
"""Kind of process -> whether its first word and command line are one's."""


class Line:
    """One line in a directory of its own, with its MLflow server."""

    def __init__(self, directory: Path, store: str) -> None:
        self.directory, self.store = directory, store
        self.home = directory / ".modelyard"
        self.home.mkdir(parents=True)
        self.port = object_store.free_port()
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "MODELYARD_HOME": str(self.home),
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.port}",
            "PREFECT_SERVER_API_PORT": str(object_store.free_port()),
        }
        self.server = self.start_tracking()

    def start_tracking(self) -> subprocess.Popen[bytes]:
        """The MLflow server on its SQLite file."""
        stores = [
            "--backend-store-uri",
            f"sqlite:///{self.home}/mlflow.db",
            "--artifacts-destination",
            (self.home / "mlartifacts").as_uri(),
        ]
        command = [sys.executable, "-m", "mlflow", "server", *stores, "--host", HOST, "--port", str(self.port), "--workers", "1"]
        environment = {**self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.directory / "mlflow.log", "ab") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True, preexec_fn=die_with_parent)
        while not healthy(f"http://{HOST}:{self.port}/health"):
            if server.poll() is not None:
                raise RuntimeError(f"MLflow server did not start; see {self.directory / 'mlflow.log'}")
            time.sleep(0.2)
        return server

    def start(self, *overrides: str, said: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """The line, from where it is; its errors go to the descriptor ``said``."""
        places = (f"execution.store={self.store}", f"execution.scratch={self.home}/scratch")
        command = [sys.executable, "-m", "modelyard", "run", str(CONFIG), *OFTEN, *places, *overrides]
        return subprocess.Popen(command, cwd=self.directory, env=self.environment, stdout=subprocess.DEVNULL, stderr=said, text=True)

    def processes(self) -> list[psutil.Process]:
        """Everything that was started for this line, the MLflow server included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("MODELYARD_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def left(self) -> list[str]:
        """Command lines of what is still there a while after the line has ended, the MLflow server apart."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while True:
            own = {self.server.pid, *(child.pid for child in psutil.Process(self.server.pid).children(recursive=True))}
            found = [described(process) for process in self.processes() if process.pid not in own]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def stage(self) -> str:
        """The stage that is being made."""
        begun = [path for path in (self.home / "scratch").glob("*-*/out") if path.is_dir()]
        return max(begun, key=lambda path: path.stat().st_mtime).parent.name.rsplit("-", 1)[0] if begun else "between stages"

    def repeated(self) -> int:
        """Steps that MLflow has seen twice."""
        client = MlflowClient(f"http://{HOST}:{self.port}")
        total = 0
        for run in client.search_runs([found.experiment_id for found in client.search_experiments()]):
            keys = [key for key in run.data.metrics if key.endswith("/loss") or "/train/" in key or key.startswith("policy/")]
            twice = [sum(n - 1 for n in Counter(point.step for point in curve(client, run.info.run_id, key)).values()) for key in keys]
            total += max(twice, default=0)
        return total

    def made(self) -> dict[str, tuple[str, str]]:
        """Artifact -> its fingerprint and its files' hashes; every file is read and verified."""
        store = Store(self.store, str(self.home / "verify"))
        found = {}
        for artifact in all_artifacts(store):
            store.fetch(artifact)
            files = {path: record.sha256 for path, record in artifact.files.items()}
            found[artifact.name] = (artifact.fingerprint, json.dumps(files, sort_keys=True))
        return found


def curve(client: MlflowClient, run_id: str, key: str) -> list[Any]:
    """Points of a live curve; the summary written at the end stands at step 0."""
    return [point for point in client.get_metric_history(run_id, key) if point.step > 0]


def described(process: psutil.Process) -> str:
    """A command line, short."""
    try:
        return " ".join(process.cmdline())[:90] or process.name()
    except psutil.Error:
        return "gone"


def victims(line: Line, store: subprocess.Popen[bytes]) -> dict[str, list[psutil.Process]]:
    """Kind -> its processes now."""
    found: dict[str, list[psutil.Process]] = {}
    for process in [*line.processes(), psutil.Process(store.pid)]:
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        kind = next((kind for kind, fits in KINDS.items() if command and fits(command[0], command)), None)
        if kind:
            found.setdefault(kind, []).append(process)
    return found
