"""What every process of the suite needs."""

import os

import modelyard.adapters.ray  # noqa: F401  sets what Ray reads when it is imported, before a test module imports Ray

LONG = ("e2e/test_line", "integration/", "flows/", "unit/model/test_layouts", "unit/adapters/", "e2e/", "unit/model/", "unit/posttrain/")
"""Files that come first, in this order: with several workers a long file begun last decides when the suite ends."""


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["PREFECT_SERVER_API_PORT"] = str(4200 + 10 * int(worker))  # two processes must not want one port


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((i for i, part in enumerate(LONG) if f"tests/{part}" in item.nodeid), len(LONG)))
