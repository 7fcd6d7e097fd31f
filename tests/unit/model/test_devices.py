"""A process computes where it was told to, or says in one line why it cannot."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from modelyard.model.network import attention, control_groups, devices


def test_cpu_of_a_machine_with_gpus_is_the_cpu_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices.settle("cpu")
    assert not torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_gpu_that_is_not_there_is_one_line_with_torchs_reason() -> None:
    with pytest.raises(ValueError, match=r"execution.device is 'cuda', but this process has no GPU: .*(compiled|driver|visible)") as caught:
        devices.settle("cuda")
    assert "\n" not in str(caught.value)
    devices.settle("auto")


def test_rank_beyond_the_machines_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="rank 2 of this machine has no GPU: it has 2"):
        devices.take(2)


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_of_a_gpu_are_told_to_repeat_themselves_and_not_only_warned(monkeypatch: pytest.MonkeyPatch, deterministic: bool) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is taken away again afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with devices.repeating(True):
        assert not torch.are_deterministic_algorithms_enabled(), "a CPU does anyway"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices.prepare_repeating(deterministic)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    with contextlib.suppress(KeyError), devices.repeating(deterministic):
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled(), "what is sampled or scored is as it comes"


GIB = 1 << 30


def pretend(monkeypatch: pytest.MonkeyPatch, free: int, reserved: int = 0, allocated: int = 0) -> None:
    """A GPU of 80 GiB."""
    answers: dict[str, object] = {
        "is_available": True,
        "device_count": 2,
        "mem_get_info": (free, 80 * GIB),
        "memory_reserved": reserved,
        "memory_allocated": allocated,
        "get_device_name": "H100",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 7))
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_gpu_with_less_memory_than_a_stage_needs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, free=30 * GIB)
    said = devices.short_of_memory(41 * GIB)
    assert said.startswith("41.0 GiB of GPU memory are needed at least, and 30.0 of 80.0 are free; ")
    assert "\n" not in said
    assert devices.short_of_memory(30 * GIB) == ""
    pretend(monkeypatch, free=30 * GIB, reserved=20 * GIB, allocated=5 * GIB)
    assert devices.short_of_memory(41 * GIB) == "", "torch keeps 15 GiB that it gives to what comes next"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_cpu_is_never_short_of_gpu_memory() -> None:
    assert devices.short_of_memory(1 << 60) == ""


@pytest.mark.parametrize("kernel", ["Open Kernel Module for x86_64  580.95.05  Release", "x86_64 Kernel Module  580.95.05  Tue"])
def test_preflight_names_gpu_driver_nccl_and_free_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernel: str) -> None:
    (tmp_path / "version").write_text(f"NVRM version: NVIDIA UNIX {kernel} Build\nGCC version: gcc version 12.2.0\n")
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    pretend(monkeypatch, free=79 * GIB)
    assert devices.found() == "2 x H100, driver 580.95.05, CUDA 13.0, NCCL 2.27.7, 79.0 of 80.0 GiB of memory free"


def test_preflight_of_a_machine_without_a_driver_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.found() == ""


def test_kernels_that_attention_asks_for_are_said_once_and_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attention._say_kernels.cache_clear()
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with attention.preferred():
        assert not caplog.messages
    pretend(monkeypatch, free=79 * GIB)
    for _ in range(3):
        with attention.preferred():
            assert caplog.messages == ["attention asks for the first kernel that takes its shapes: cuDNN 91900, flash, efficient, math"]
    attention._say_kernels.cache_clear()


V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(
    ("mine", "groups", "left"),
    [
        ("0::/job/task", {"job": (V2, 900, 500, 150), "job/task": (V2, "max", 100, 0), ".": (V2, "max", 9, 0)}, 550),
        ("0::/job/task", {"job": (V2, 900, 500, 150), "job/task": (V2, 200, 190, 0)}, 10),
        ("0::/of/the/host", {".": (V2, 700, 900, 50)}, 0),
        ("9:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/", {"memory": (V1, 800, 300, 20), "x": (V2, 1, 0, 0)}, 520),
        ("4:memory:/docker/1", {"memory/docker/1": (V1, 1 << 62, 300, 0)}, 1000),
        ("0::/", {}, 1000),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has memory of its own")
def test_memory_left_is_what_the_tightest_group_above_this_process_lets_it_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mine: str, groups: dict[str, tuple[tuple[str, str, str], object, int, int]], left: int
) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(control_groups, "MOUNT", tmp_path)
    monkeypatch.setattr(control_groups, "MINE", tmp_path / "mine")
    assert devices.memory_left() == 1000, "no Linux"
    (tmp_path / "mine").write_text(mine + "\n")
    for name, ((limit, usage, files), *values) in groups.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file, text in zip((limit, usage, "memory.stat"), (*values[:2], f"anon 7\n{files} {values[2]}"), strict=True):
            (tmp_path / name / file).write_text(f"{text}\n")
    assert devices.memory_left() == left
