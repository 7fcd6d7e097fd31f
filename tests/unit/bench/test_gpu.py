"""The GPU proof goes through its code without a GPU, so that it runs as it is where there is one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bench.gpu import machine, parity, proof, sampling, te, training
from bench.program import program


@pytest.mark.parametrize(
    ("name", "expected"), [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H200", 989.0), ("Tesla T4", None)]
)
def test_peak_by_device_name_is_the_data_sheets_or_unknown(name: str, expected: float | None) -> None:
    assert machine.peak(name) == expected


@pytest.mark.parametrize(("shape", "millions"), [("125M", 124), ("350M", 360), ("1.3B", 1340)])
def test_shapes_have_the_size_of_their_name(shape: str, millions: int) -> None:
    assert training.SHAPES[shape].model.parameters() / 1e6 == pytest.approx(millions, rel=0.02)


def test_parity_of_one_device_with_itself_is_exact_in_fp32_and_rounded_in_bf16(tmp_path: Path) -> None:
    parity.reference(True, tmp_path)
    found = parity.against_reference(True, tmp_path)
    assert found["fp32"]["logprobs_largest"] == found["fp32"]["gradient_worst_relative"] == 0
    assert found["fp32"]["greedy_rows_equal"] == found["fp32"]["greedy_rows"]
    assert 0 < found["bf16"]["logprobs_largest"] < 0.05


def test_collectives_are_really_called_and_one_that_gives_back_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.collectives(tiny=True)
    assert found["equal"], found["by_name"]
    assert {"all_to_all_single", "all_gather_into_tensor", "reduce_scatter_tensor", "objects", "barrier"} <= found["by_name"].keys()
    monkeypatch.setattr(dist, "all_to_all_single", lambda target, source: target.zero_())
    broken = machine.collectives(tiny=True)
    assert not broken["equal"]
    assert [name for name, equal in broken["by_name"].items() if not equal] == ["all_to_all_single"]


def test_parts_of_a_package_that_is_not_there_say_so_and_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformer_engine", None)
    for found in (te.learning("bf16", tiny=True), te.utilisation("350M", "hybrid-delayed", tiny=True)):
        assert list(found) == ["not_run"]
        assert found["not_run"].startswith("not installed: ")
        assert "error" not in found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whole_proof_goes_through_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu.proof", "--tiny", "--out", str(tmp_path / "proof.json")]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "proof.json").read_text())
    assert found.keys() == proof.parts().keys()
    assert {name: part["error"] for name, part in found.items() if "error" in part} == {}
    assert done.returncode == 0, done.stderr[-2000:]
    assert found["collectives"]["equal"]


@pytest.mark.parametrize("side", ["modelyard", "transformers"])
def test_utilisation_row_counts_tokens_and_flops_of_the_whole_step(side: str) -> None:
    row = training.utilisation("125M", side, "eager", tiny=True)
    assert row["tokens_a_step"] == training.TINY.micro_batch * training.TINY.micro_batches * training.TINY.model.seq_len
    assert row["tflops"] == pytest.approx(row["tokens_per_s"] * training.TINY.model.flops_per_token() / 1e12)


def test_gradients_on_a_cpu_repeat_themselves_and_one_that_does_not_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parity.repeated(tiny=True)
    assert found["tensors"] > 10
    assert set(found["as_they_come"].values()) == set(found["deterministic"].values()) == {0}
    real, calls = parity._gradients, itertools.count()

    def odd(*given: Any) -> dict[str, torch.Tensor]:
        gradients = real(*given)
        gradients[next(iter(gradients))].view(-1)[0] += next(calls) % 3
        return gradients

    monkeypatch.setattr(parity, "_gradients", odd)
    assert set(parity.repeated(tiny=True)["as_they_come"].values()) == {1}


def test_resuming_on_a_cpu_has_the_losses_of_the_run_that_went_on() -> None:
    found = training.resuming(tiny=True)
    assert found["as_they_come"]["resumed_equals"]
    assert found["deterministic"]["resumed_equals"]


CHILD = """#!/bin/sh
case "$4" in
  good) echo '{"x": 1}' > "$8" ;;
  late) echo "stood at step 7" >&2; exec sleep 60 ;;
  killed) echo "before it" >&2; kill -9 $$ ;;
  failed) echo '{"error": "ValueError: why"}' > "$8"; echo "its traceback" >&2; exit 1 ;;
esac
"""
"""A process of a part: ``-m bench.gpu.proof --part NAME --shared DIRECTORY --out FILE``."""


def test_parts_that_end_badly_are_each_reported_and_leave_what_others_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, child = tmp_path / "proof.json", tmp_path / "child"
    child.write_text(CHILD)
    child.chmod(0o755)
    results.write_text(json.dumps({"environment": {"device": "known before"}}))
    limits = {"late": 1, "killed": 60, "failed": 60, "good": 60}
    monkeypatch.setattr(proof, "parts", lambda: {name: proof.Part(lambda tiny, shared: {}, limit) for name, limit in limits.items()})
    monkeypatch.setattr(sys, "executable", str(child))
    proof.collect([*limits], tiny=False, results=results)
    assert json.loads(results.read_text()) == {
        "environment": {"device": "known before"},
        "late": {"error": "not done after 1 s, and ended", "stderr": "stood at step 7\n"},
        "killed": {"error": "ended with -9: before it"},
        "failed": {"error": "ValueError: why", "stderr": "its traceback\n"},
        "good": {"x": 1},
    }
    proof.collect(["good"], tiny=True, results=results)
    assert json.loads(results.read_text())["good"] == {"x": 1, "tiny": True}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "parity", "enviroment"], "--parts enviroment: no part's name begins so; there are environment, "),
        (["--out", "missing/proof.json"], "--out missing/proof.json: missing is no directory"),
        (["--out", "no.json"], "--out no.json: no results of this program"),
        (["--out", "list.json"], "--out list.json: no results of this program"),
    ],
)
def test_what_cannot_be_run_or_kept_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a part was started"))
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    assert program(proof.main, words) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), said in error) == (1, True), error


def test_comparison_without_the_cpus_numbers_says_which_part_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the part parity-cpu has left no numbers to compare with"):
        parity.against_reference(True, tmp_path)


@pytest.mark.parametrize("shape", sampling.MODELS)
def test_tiny_model_has_layers_of_the_kind_of_the_whole_one(shape: str) -> None:
    tiny, whole = sampling.model_of(shape, True), sampling.model_of(shape, False)
    assert tiny.parameters() < whole.parameters() / 100
    assert (tiny.variant, tiny.head_dim is None) == (whole.variant, whole.head_dim is None)
    if shape == "qwen3":
        assert tiny.head_width * tiny.heads > tiny.hidden
        assert whole.parameters() / 1e6 == pytest.approx(596, rel=0.01)


@pytest.mark.parametrize("tiny", [True, False])
def test_experts_are_measured_on_a_model_that_has_them(monkeypatch: pytest.MonkeyPatch, tiny: bool) -> None:
    seen: list[training.Work] = []
    monkeypatch.setattr(training, "_ours", lambda work, compiled: seen.append(work) or (lambda: None))
    training.utilisation("experts", "modelyard", "eager", tiny)
    assert [work.model.moe is not None for work in seen] == [True]
