"""What every process of the suite needs."""

import os


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["PREFECT_SERVER_API_PORT"] = str(4200 + 10 * int(worker))  # two processes must not want one port
