"""What the proof of a long life calls a leak."""

from __future__ import annotations

import pytest

from bench.long_life import NO_MORE, NOTHING, After, leaked

CALM = After(0, 20.0, False, 30, 5, 0, 0, 100, 1, 5.0, 2.0, 1.0)


def test_what_databases_and_store_grow_by_is_no_leak() -> None:
    lives = [CALM._replace(store_mb=5.0 + n, prefect_mb=2.0 + n, mlflow_mb=1.0 + n, versions=n, open_files=100 + n % 7) for n in range(50)]
    assert leaked(lives) == []


@pytest.mark.parametrize("name", NO_MORE)
def test_one_thing_more_every_fourth_line_is_a_leak(name: str) -> None:
    (found,) = leaked([CALM._replace(**{name: getattr(CALM, name) + n // 4}) for n in range(50)])
    assert found.startswith(f"{name}: ")


@pytest.mark.parametrize("name", NOTHING)
def test_what_one_line_leaves_is_a_leak_though_the_next_one_removes_it(name: str) -> None:
    assert leaked([CALM._replace(**{name: 1 if n == 3 else 0}) for n in range(50)]) == [f"{name}: 1 left"]


def test_few_lines_say_nothing() -> None:
    with pytest.raises(ValueError, match="at least 5 do"):
        leaked([CALM] * 4)
