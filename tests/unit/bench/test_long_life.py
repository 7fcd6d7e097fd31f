"""What the proof of a long life calls a leak."""

from __future__ import annotations

import pytest

from bench.long_life import LEAKS, After, leaked

CALM = After(0, 20.0, False, 30, 0, 0, 100, 1, 5.0, 2.0, 1.0)


def test_what_databases_and_store_grow_by_is_no_leak() -> None:
    lives = [CALM._replace(store_mb=5.0 + n, prefect_mb=2.0 + n, mlflow_mb=1.0 + n, versions=n, open_files=100 + n % 7) for n in range(50)]
    assert leaked(lives) == []


@pytest.mark.parametrize("name", LEAKS)
def test_one_more_every_tenth_line_is_a_leak(name: str) -> None:
    found = leaked([CALM._replace(**{name: getattr(CALM, name) + 4 * (n // 10)}) for n in range(50)])
    assert [line.split(":")[0] for line in found] == [name]
