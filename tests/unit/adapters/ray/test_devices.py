"""Every rank gets a GPU or none does, and who asked for one is not left on the CPU in silence."""

from __future__ import annotations

import logging
import re

import pytest

from modelyard.adapters.ray.devices import chosen
from modelyard.execution import Device


@pytest.mark.parametrize(
    ("device", "ranks", "gpus", "grows", "expected"),
    [
        ("auto", 2, 0, True, "cpu"),
        ("auto", 2, 2, False, "cuda"),
        ("auto", 2, 8, False, "cuda"),
        ("auto", 2, 1, False, "cpu"),
        ("cpu", 2, 8, False, "cpu"),
        ("cuda", 2, 2, False, "cuda"),
        ("cuda", 2, 0, True, "cuda"),
    ],
)
def test_device_of_a_layout(device: Device, ranks: int, gpus: int, grows: bool, expected: Device) -> None:
    assert chosen(device, ranks, gpus, grows=grows) == expected


@pytest.mark.parametrize(
    ("device", "grows", "message"),
    [
        ("auto", False, "Ray has 1 GPUs for 2 ranks, so all of them compute on the CPU"),
        ("cuda", True, "waiting for 2 GPUs, of which .* 1 now"),
    ],
)
def test_too_few_gpus_are_said(device: Device, grows: bool, message: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        chosen(device, 2, 1, grows=grows)
    [said] = caplog.messages
    assert re.search(message, said)


def test_too_few_gpus_on_a_machine_that_gets_no_more_are_refused() -> None:
    with pytest.raises(ValueError, match=r"execution.device is 'cuda', but the layout has 2 ranks and Ray 1 GPUs"):
        chosen("cuda", 2, 1, grows=False)
