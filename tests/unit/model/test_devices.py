"""A process computes where it was told to, or says in one line why it cannot."""

from __future__ import annotations

import pytest
import torch

from modelyard.model.network import devices


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
