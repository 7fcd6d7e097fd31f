"""Every rank gets a GPU or none does, and who asked for one is not left on the CPU in silence."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.adapters.ray import cluster, devices, rank
from modelyard.adapters.ray.devices import chosen
from modelyard.adapters.ray.fit import StageError
from modelyard.config import Config
from modelyard.execution import Device, ExecutionConfig
from modelyard.model.network import devices as network_devices


@pytest.mark.parametrize(
    ("device", "ranks", "gpus", "most", "expected"),
    [
        ("auto", 2, 0, 0, "cpu"),
        ("auto", 2, 0, None, "cpu"),
        ("auto", 2, 0, 8, "cuda"),
        ("auto", 2, 1, 2, "cuda"),
        ("auto", 2, 0, 1, "cpu"),
        ("auto", 2, 2, 2, "cuda"),
        ("auto", 2, 8, 8, "cuda"),
        ("auto", 2, 1, 1, "cpu"),
        ("cpu", 2, 8, 8, "cpu"),
        ("cuda", 2, 2, 2, "cuda"),
        ("cuda", 2, 0, None, "cuda"),
        ("cuda", 2, 0, 2, "cuda"),
    ],
)
def test_device_of_a_layout(device: Device, ranks: int, gpus: int, most: int | None, expected: Device) -> None:
    assert chosen(device, ranks, gpus, most=most) == expected


@pytest.mark.parametrize(
    ("gpus", "most", "message"),
    [
        (1, 1, r"^Ray has 1 GPUs for 2 ranks, so all of them compute on the CPU$"),
        (1, None, r"compute on the CPU; execution.device = 'cuda' would wait for a cluster that grows$"),
        (0, None, r"^Ray has 0 GPUs .* execution.device = 'cuda' would wait"),
    ],
)
def test_too_few_gpus_are_said(gpus: int, most: int | None, message: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert chosen("auto", 2, gpus, most=most) == "cpu"
    [said] = caplog.messages
    assert re.search(message, said)


def test_machine_without_gpus_computes_on_the_cpu_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen("auto", 2, 0, most=0) == "cpu"
    assert not caplog.messages


@pytest.mark.parametrize(
    ("here", "device", "gpus", "said"),
    [
        ("none that torch can use: driver too old", "auto", 0, ["none that torch can use: driver too old; they are used once nvidia-smi"]),
        ("none that torch can use: driver too old", "cpu", 0, []),
        ("1 x H100", "auto", 1, []),
        ("", "auto", 0, []),
    ],
)
def test_gpus_of_this_machine_that_ray_does_not_count_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, here: str, device: Device, gpus: int, said: list[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(devices, "now", lambda: gpus)
    monkeypatch.setattr(devices, "found", lambda: here)
    assert devices.placed(ExecutionConfig(device=device)).device == ("cuda" if gpus else "cpu")
    assert len(caplog.messages) == len(said)
    assert all(part in message for part, message in zip(said, caplog.messages, strict=True))


@pytest.mark.parametrize("most", [0, 1])
def test_too_few_gpus_on_a_cluster_that_gets_no_more_are_refused(most: int) -> None:
    with pytest.raises(ValueError, match=rf"execution.device is 'cuda', but the layout has 2 ranks and Ray {most} GPUs"):
        chosen("cuda", 2, 0, most=most)


@pytest.mark.integration
def test_gpus_of_a_cluster_that_does_not_grow_after_all_are_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "is_on_this_machine", lambda: False)
    monkeypatch.setattr(devices, "LOOK_SECONDS", 0.2)
    cluster.connect()
    assert devices.at_most() is None, "a cluster without an autoscaler"
    asked = ExecutionConfig(device="cuda", data_parallel=3, gpu_wait_seconds=0.5)
    with pytest.raises(StageError, match=r"waited 0.5 s \(execution.gpu_wait_seconds\) for 3 GPUs, and the cluster has 0; ") as caught:
        devices.placed(asked)
    assert "\n" not in str(caught.value)
    assert caplog.messages == ["waiting for 3 GPUs, of which the cluster has 0 now"]
    assert devices.placed(asked.model_copy(update={"device": "auto"})).device == "cpu"


@pytest.mark.integration
def test_gpus_that_the_autoscalers_node_types_have_are_counted() -> None:
    import ray
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

    cluster.connect()
    namespace, key = ray._raylet.GCS_AUTOSCALER_STATE_NAMESPACE, ray._raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY
    groups = [
        NodeGroupConfig(name="head", resources={"CPU": 4}, max_count=1),
        NodeGroupConfig(name="gpu", resources={"GPU": 8}, max_count=2),
    ]
    store = ray._private.worker.global_worker.gcs_client
    store.internal_kv_put(key.encode(), ClusterConfig(node_group_configs=groups).SerializeToString(), True, namespace.encode())
    try:
        assert devices.at_most() == 16
    finally:
        store.internal_kv_del(key.encode(), False, namespace.encode())


def test_rank_that_has_less_gpu_memory_than_its_stage_needs_says_so_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Mailbox:
        report = SimpleNamespace(remote=lambda *words: None)
        warn = SimpleNamespace(remote=said.append)

    def stage(*given: object) -> dict[str, float]:
        said.append("it began")
        return {}

    monkeypatch.setattr(network_devices, "short_of_memory", lambda needed: f"{needed} bytes are needed at least")
    job = rank.Job("tiny", stage, Config(), {}, Path("out"), Path("checkpoints"), ExecutionConfig(threads=1), "", {}, 7)
    rank._run(job, 3, True, Mailbox)
    assert said == ["rank 3: 7 bytes are needed at least", "it began"]
    said.clear()
    rank._run(job._replace(needed=None), 3, True, Mailbox)
    assert said == ["it began"]
