"""How the suite is spread over processes: a file stays together, so what its tests share is made once."""

import os

import pytest


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["PREFECT_SERVER_API_PORT"] = str(4200 + 10 * int(worker))  # two processes must not want one port


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))
