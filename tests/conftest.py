"""What every process of the suite needs."""

import gc
import logging
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

# expected are a CPU's numbers, and several ranks on one machine; what a GPU does is bench.gpu.proof's
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if capability := os.environ.get("ATEN_CPU_CAPABILITY"):
    # torch's cache of what it compiled does not know of this variable: with code for other instructions losses are not finite
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/compiled-as-{capability}-{os.getuid()}")

import modelyard.adapters.ray  # noqa: F401  sets what Ray reads when it is imported, before a test module imports Ray

LONG = ("e2e/test_line", "integration/", "flows/", "unit/model/test_layouts", "unit/adapters/", "e2e/", "unit/model/", "unit/posttrain/")
"""Files that come first, in this order: with several workers a long file begun last decides when the suite ends."""

gc.disable()  # until all is imported: looking through a million objects that stay is a fifth of the time that it takes


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_configure(config):
    if (
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    ):  # as a shell in the background starts it; what the tests start would not hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # torch's checkpoints write dozens of lines each, at a level that torch sets itself
    logging.getLogger("c10d-NullHandler-dcp_logger").addFilter(lambda record: record.levelno >= logging.WARNING)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["PREFECT_SERVER_API_PORT"] = str(4200 + 10 * int(worker))  # two processes must not want one port


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((i for i, part in enumerate(LONG) if f"tests/{part}" in item.nodeid), len(LONG)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that every process of the suite sees."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def seed_prefect(shared: Path) -> Callable[[Path], Path]:
    """Puts a Prefect database that is new and complete into a server's home: making one takes ten seconds."""
    from modelyard.adapters.servers.prefect_server import prefect_server

    database = shared / "new-prefect" / "prefect.db"
    with FileLock(shared / "new-prefect.lock"):
        if not database.exists():
            with prefect_server(shared / "new-prefect.partial"):
                pass
            with closing(sqlite3.connect(shared / "new-prefect.partial" / "prefect.db")) as made:
                made.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a server that was ended leaves most of it beside the file
            (shared / "new-prefect.partial").rename(database.parent)

    def seed(home: Path) -> Path:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(database, home / "prefect.db")
        return home

    return seed
