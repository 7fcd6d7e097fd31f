"""A whole line on two Ray nodes that share no disk, one of them killed on the way and replaced: artifacts are those of one machine."""

import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from modelyard.store.storage import Storage
from tests.e2e.running import PIPELINE, STAGES, artifact, ended, line, start

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

LAYOUT = ["execution.data_parallel=2", "execution.threads=1", "execution.checkpoint_every=2", "execution.checkpoint_iterations=1"]
LAYOUT += ["base.micro_batch=8", "sft.micro_batch=4", "reward.micro_batch=8", "gold.micro_batch=8", "policy.micro_batch=2"]
ROOT = Path(__file__).parents[2]


def address() -> str:
    """An address of this machine that is not loopback, by which nodes of a cluster find each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


def kill_once_it_trains(cluster, node, scratch: Path, process) -> None:
    """Take the node away when its rank has its part of a checkpoint of the base model."""
    deadline = time.monotonic() + 900
    while not list(scratch.glob("base-*/checkpoints/step_*/*.distcp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the base model's training did not begin on the second node"
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def take_away(scratch: Path) -> None:
    """Remove a lost node's disk; its workers write to it until they see that their raylet is gone."""
    deadline = time.monotonic() + 60
    while scratch.exists():
        shutil.rmtree(scratch, ignore_errors=True)
        assert time.monotonic() < deadline, "something goes on writing to the lost node's disk"
        time.sleep(0.5)


def manifest(storage: Storage, name: str) -> dict:
    (version,) = storage.names(name)
    return json.loads(storage.read(f"{name}/{version}/artifact.json"))


def test_line_on_two_nodes_without_a_shared_disk_survives_the_loss_of_one(s3, s3_server, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as our own clusters have it: workers of Ray's niceness starve beside a busy suite
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    alone.mkdir()
    apart.mkdir()
    one = line(alone, PIPELINE, *LAYOUT)
    assert one.code == 0, one.err

    places = {name: tmp_path / name for name in ("second", "third")}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": address()})
    try:
        second = cluster.add_node(num_cpus=1, node_ip_address=address(), env_vars={"MODELYARD_SCRATCH": str(places["second"])})
        stores = [f"execution.store={s3}/store", f"execution.checkpoint_store={s3}/checkpoints"]
        token = {
            name: os.environ[name] for name in ("RAY_AUTH_TOKEN",) if name in os.environ
        }  # left by a test that connected here: the cluster's
        process = start(apart, PIPELINE, *LAYOUT, *stores, environment={**s3_server, **token, "RAY_ADDRESS": cluster.address})
        kill_once_it_trains(cluster, second, places["second"], process)
        take_away(places["second"])
        cluster.add_node(num_cpus=1, node_ip_address=address(), env_vars={"MODELYARD_SCRATCH": str(places["third"])})
        two = ended(process)
    finally:
        cluster.shutdown()
    assert two.code == 0, two.out + two.err
    assert list(places["third"].glob("cache/corpus/*/abuse.npz")), "the new node fetched what it read"
    assert not list(places["third"].glob("cache/corpus/*/documents")), "no stage on ranks reads documents"
    assert list(places["third"].glob("cache/tokens/*/train_*.bin")), "the policy reads training rows"
    for stage in STAGES:
        assert manifest(Storage(f"{s3}/store"), stage)["files"] == artifact(alone, stage)["files"], stage
