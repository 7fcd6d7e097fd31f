"""The GPU benchmark goes through all of its code without a GPU, so that it runs as it is where there is one."""

from __future__ import annotations

import sys

import pytest

from bench import gpu


def test_dry_run_measures_ours_and_the_peer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--dry-run"])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "tokens/s" in line] == ["modelyard", "transformers"]


@pytest.mark.parametrize(
    ("name", "expected"), [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H200", 989.0), ("Tesla T4", None)]
)
def test_peak_by_device_name_is_the_data_sheets_or_unknown(name: str, expected: float | None) -> None:
    assert gpu.peak(name) == expected


@pytest.mark.parametrize(("shape", "millions"), [("125M", 124), ("350M", 360), ("1.3B", 1340)])
def test_shapes_have_the_size_of_their_name(shape: str, millions: int) -> None:
    assert gpu.SHAPES[shape][0].parameters() / 1e6 == pytest.approx(millions, rel=0.02)
