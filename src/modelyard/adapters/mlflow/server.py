"""The MLflow server as everything here reaches it: its address, a client that gives up in time, and work that goes on while it is away.

The URI comes from ``MLFLOW_TRACKING_URI``; without it an SQLite file under ``.modelyard`` serves, with files beside it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import httpx
import mlflow
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from modelyard.adapters.home import home, opened
from modelyard.child_server import ServerError
from modelyard.complaint import complaint, without_password
from modelyard.log import logger
from modelyard.store.local_lock import alone

_log = logger(__name__)

START_SECONDS = 15.0
"""How long a run waits for a server that does not answer when it begins."""
LONGEST = 300
"""Characters of a server's error that are shown."""
TRIES = "3"
"""Of MLflow's own HTTP client, with growing pauses; its default takes minutes, in which nobody looks after the ranks."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment's page on its runs; MLflow's default is a page of traces, which a line of trainings does not have."""


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI`` or the SQLite file in the home directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home()}/mlflow.db"


def client(uri: str) -> MlflowClient:
    """A client for ``uri``; the directory of a new SQLite file is made. Raises ServerError where another version of MLflow made the database."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", TRIES)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None
    if file and file.parent == home():
        opened()
    elif file:
        file.parent.mkdir(parents=True, exist_ok=True)
    try:  # who comes first makes the tables, and nobody else meanwhile
        with alone(file) if file and os.access(file.parent, os.W_OK) else nullcontext():
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, CommandError) as error:
        if "schema" not in str(error) and "revision" not in str(error):
            raise
        raise ServerError(
            f"MLflow at {without_password(uri)}: its database is of another version of MLflow; copy it, then "
            f"mlflow db upgrade {without_password(uri)} ({complaint(error)[:LONGEST]})"
        ) from error


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Around a command's questions to the server: what goes wrong there is one line.

    Raises:
        ValueError: there is no SQLite file at ``uri``.
        ServerError: the server does not answer, or what it keeps cannot be read.
    """
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise ValueError(f"there is no MLflow at {without_password(uri)}; MLFLOW_TRACKING_URI or MODELYARD_HOME says where")
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:  # requests' exceptions are OSErrors
        raise ServerError(f"MLflow at {without_password(uri)}: {complaint(error)[:LONGEST]}") from error


def wait_for_answer(uri: str) -> None:
    """Until somebody answers at ``uri``, whatever is said. Raises ServerError after ``START_SECONDS``."""
    answered = Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(START_SECONDS),
        reraise=True,
    )
    try:
        answered(httpx.get, uri, timeout=START_SECONDS)
    except httpx.TransportError as error:
        raise ServerError(f"MLFLOW_TRACKING_URI {without_password(uri)}: nobody answers ({type(error).__name__})") from error


def experiment_id(server: MlflowClient, uri: str, name: str, tags: Mapping[str, str] = KIND) -> str:
    """The experiment called ``name``, made with ``tags`` when it does not exist. On SQLite its files lie in ``mlartifacts`` beside the
    database."""
    if found := server.get_experiment_by_name(name):
        return str(found.experiment_id)
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
    return str(server.create_experiment(name, artifact_location=location, tags=dict(tags)))


@contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Turn a server that does not answer into one warning; ``what`` says what it costs."""
    try:
        yield
    except (MlflowException, OSError) as error:  # requests' exceptions are OSErrors
        _log.warning("MLflow: %s (%s)", what, complaint(error)[:LONGEST])


@contextmanager
def active_run(uri: str, run_id: str, *, log_system_metrics: bool = False) -> Iterator[None]:
    """The run as the one that MLflow's own functions write to in this thread; at the end it is FINISHED, or
    FAILED after an error.
    """
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=log_system_metrics):
        yield


@contextmanager
def system_metrics(uri: str, run_id: str | None) -> Iterator[None]:
    """MLflow's system metrics of this machine (CPU, memory, disk, network, GPU) in the run while the block
    runs; none where the server is away.

    What the ranks of other machines use is not seen.
    """
    with ExitStack() as stack:
        if run_id:
            with tolerated("no system metrics"):
                stack.enter_context(active_run(uri, run_id, log_system_metrics=True))
        try:
            yield
        finally:
            with tolerated("the last system metrics are missing"):
                stack.close()
