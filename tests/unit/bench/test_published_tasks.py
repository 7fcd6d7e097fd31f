"""The published tasks' bench reads the last evaluation of a run, and its law finds a floor where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.published_tasks import GFLOPS, SCORES, Evaluated, read, tried

TASK = f"{SCORES}arc_easy_test_rc_5shot_bpb"


def test_a_run_is_its_last_evaluation_and_a_test_split_stands_for_its_validation_split(tmp_path: Path) -> None:
    file = tmp_path / "190M-1xC.csv"
    columns = ["_step", TASK, TASK.replace("_test_", "_val_"), f"{SCORES}boolq_val_rc_5shot_bpb", GFLOPS]
    file.write_text("\n".join([",".join(columns), "200,0.9,0.8,0.5,2e9", "100,1.2,1.1,0.6,1e9", "300,,,,3e9"]))
    assert read(file) == Evaluated(3e18, {"arc_easy_test": 0.9, "boolq_val": 0.5})


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "3B-1xC.csv"
    file.write_text("_step,loss\n1,2.0\n")
    with pytest.raises(ValueError, match=r"3B-1xC\.csv: no columns"):
        read(file)


def test_a_floor_is_found_and_without_it_too_much_is_said() -> None:
    fitted = [Evaluated(compute, {"t": 0.5 + 1e3 * compute**-0.17}) for compute in (1e19, 1e20, 1e21, 3e21)]
    found = tried("t", "large", fitted, Evaluated(3e23, {"t": 0.5 + 1e3 * (3e23) ** -0.17}))
    assert found.inside
    assert found.error == pytest.approx(0, abs=0.01)
    assert found.floor == pytest.approx(0.5, abs=0.02)
    assert found.without < -0.08
