"""A run started by hand: config errors first, then a Prefect server for as long as the run needs one, and one clear line when it fails."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect import tags
from prefect.events.worker import EventsWorker
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)

from modelyard.adapters.home import home, opened
from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.fit import StageError
from modelyard.adapters.ray.rank import one_line
from modelyard.adapters.servers.prefect_server import Address, prefect_server
from modelyard.child_server import ServerError
from modelyard.complaint import complaint, showable, without_password
from modelyard.exit_codes import BAD_INPUT, BLOCK, FAILED, HOLD, code_of
from modelyard.store.outage import StorageError
from tasks.heartbeat import TAG, watch_heartbeats
from tasks.release import GateError, HoldError

CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
DRAIN_SECONDS = 5.0


def run_from_terminal(file: str, overrides: Sequence[str], load: Callable[[str, Sequence[str]], Any], flow: Callable[[Any], Any]) -> int:
    """Run ``flow`` on the config in ``file``; an exit code of :mod:`modelyard.exit_codes`."""
    try:
        config = load(file, overrides)
    except ValueError as error:
        return fail(complaint(error), BAD_INPUT)
    judged = False
    quieten()
    try:
        directory = opened()
    except ValueError as error:
        return fail(complaint(error), BAD_INPUT)
    except OSError as error:
        return fail(f"MODELYARD_HOME {home()}: {error.strerror}", BAD_INPUT)
    try:
        if os.environ.get("PREFECT_API_URL"):
            tagged(flow, config)
        else:
            with prefect_server(directory / "prefect") as server, temporary_settings(local(server, directory)):
                try:
                    tagged(flow, config)
                finally:
                    drain()
        judged = True
    except (KeyboardInterrupt, SystemExit):  # a connected Ray ends the process so at SIGTERM
        return fail("interrupted; the next run goes on from the last checkpoint")
    except httpx.ConnectError as error:
        return fail(f"the Prefect server is gone ({one_line(error)}); the next run goes on from the last checkpoint")
    except GateError as error:
        judged = True
        return fail(str(error), HOLD if isinstance(error, HoldError) else BLOCK)
    except Exception as error:
        said = str(error) if isinstance(error, StageError | ServerError | StorageError) else one_line(error)
        return fail(said, code_of(error))
    finally:
        ray_train.release(wait=False)
        ray_cluster.disconnect(keep_logs=not judged)
    return 0


def tagged(flow: Callable[[Any], Any], config: Any) -> None:
    """Run ``flow`` as one of this project's, shown as crashed should this process vanish. Raises ServerError."""
    try:
        watch_heartbeats()
    except httpx.ConnectError as error:
        raise ServerError(
            f"PREFECT_API_URL {without_password(PREFECT_API_URL.value() or '')}: nobody answers ({one_line(error)})"
        ) from error
    with tags(TAG):
        flow(config)


def local(server: Address, directory: Path) -> dict[Any, Any]:
    """Prefect settings of a run on the local server."""
    return {
        PREFECT_API_URL: server.api,
        PREFECT_API_AUTH_STRING: server.auth,
        PREFECT_HOME: directory / "prefect",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }


def quieten() -> None:
    """Keep Prefect's log lines on its pages and away from the progress bars."""
    os.environ.setdefault(CONSOLE_LEVEL, "CRITICAL")
    setup_logging(incremental=False)
    if logging.lastResort:  # Prefect's level is the root logger's too; what we warn of (an outage, a restart) is for the terminal
        logging.getLogger("modelyard").addHandler(logging.lastResort)


def drain() -> None:
    """Hand over what waits for the server, before the server goes."""
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


def fail(message: str, code: int = FAILED) -> int:
    """Say it on standard error; the exit code."""
    sys.stderr.write(f"{showable(message)}\n")
    return code
