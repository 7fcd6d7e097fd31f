"""The cluster that ``make kubernetes`` prints and the pods of Prefect's Kubernetes jobs: schemas, and what each is given. Offline."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tasks.deployment import PREFECT, hardened
from tasks.image import VARIABLE
from tasks.kubernetes import KUBERNETES, GpuGroup, manifests, with_gpus
from tests.unit.kuberay import RayCluster

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"registry.example:5000/team/modelyard:0.2@{DIGEST}"
LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
WRITABLE = {"/tmp", "/dev/shm", "/app/.modelyard"}


@pytest.fixture
def kubernetes_validate():
    return pytest.importorskip("kubernetes_validate")


def documents() -> list[dict]:
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def ray_cluster(text: str | None = None) -> dict:
    [cluster] = [one for one in yaml.safe_load_all(text or KUBERNETES.read_text()) if one["kind"] == "RayCluster"]
    return cluster


def pods(cluster: dict) -> dict[str, dict]:
    """Pod specs by name of the group."""
    groups = {"head": cluster["spec"]["headGroupSpec"]} | {one["groupName"]: one for one in cluster["spec"]["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def job_template() -> dict:
    """Base job template of a Kubernetes work pool, as Prefect ships it."""
    import prefect.server.api.collections_data.views as views

    [file] = Path(views.__path__[0]).glob("aggregate-worker-metadata.json")
    return json.loads(file.read_text())["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]


def job_pod() -> dict:
    return hardened(job_template())["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]


def job_variables() -> dict:
    [deployment] = [one for one in yaml.safe_load(PREFECT.read_text())["deployments"] if one["name"] == "weekly-cluster"]
    return deployment["work_pool"]["job_variables"]


def by_name(variables: list[dict]) -> dict[str, object]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in variables}


def test_kubernetes_objects_are_valid(kubernetes_validate):
    RayCluster.model_validate(ray_cluster())
    others = [one for one in documents() if one["kind"] != "RayCluster"]
    assert len(others) == 5
    for document in others:
        kubernetes_validate.validate(document, "1.33", strict=True)
    [copier] = [document for document in others if document["kind"] == "DaemonSet"]
    assert "/kubelet/modelyard.json" in copier["spec"]["template"]["spec"]["containers"][0]["command"][-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(workerGroup=[]),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),  # KubeRay wants text
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpu": "0"}),  # ray start would not start
        lambda spec: spec["headGroupSpec"].update(serviceType="LoadBalancer"),
        lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas=1),
        lambda spec: spec["workerGroupSpecs"].append(spec["workerGroupSpecs"][0]),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"].update(volume=[]),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0].update(env={"A": "b"}),
        lambda spec: spec["workerGroupSpecs"].clear(),
    ],
)
def test_ray_cluster_with_a_mistake_is_refused(change, kubernetes_validate):
    cluster = json.loads(json.dumps(ray_cluster()))  # without YAML's aliases
    RayCluster.model_validate(cluster)
    change(cluster["spec"])
    with pytest.raises((ValidationError, kubernetes_validate.ValidationError)):
        RayCluster.model_validate(cluster)


def test_ray_pods_run_as_nobody_in_particular_and_have_their_secrets():
    for name, pod in pods(ray_cluster()).items():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "Localhost", "localhostProfile": "modelyard.json"}
        [container] = pod["containers"]
        assert container["securityContext"] == LOCKED, name
        assert {one["mountPath"] for one in container["volumeMounts"]} == WRITABLE
        assert container["envFrom"] == [{"secretRef": {"name": "modelyard"}}]
        assert by_name(container["env"]) == {
            "AWS_ENDPOINT_URL": "http://s3:8333",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": {"secretKeyRef": {"name": "modelyard", "key": "RAY_AUTH_TOKEN"}},  # KubeRay's init container copies env alone
            "HOME": "/tmp",
        }
        assert container["resources"] == {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}}


def test_job_pods_are_as_the_cluster_s_and_have_its_secrets_volumes_and_shared_memory(kubernetes_validate):
    shipped = job_template()
    before = json.dumps(shipped)
    job = hardened(shipped)["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert json.dumps(shipped) == before
    head = pods(ray_cluster())["head"]
    [container], [ray] = job["containers"], head["containers"]
    assert job["securityContext"] == head["securityContext"]
    assert container["securityContext"] == ray["securityContext"]
    assert container["envFrom"] == ray["envFrom"]
    assert container["volumeMounts"] == [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "scratch", "mountPath": "/app/.modelyard"},
    ]
    volumes = {one["name"]: one for one in job["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}
    assert volumes["scratch"] == next(one for one in head["volumes"] if one["name"] == "scratch"), (
        "unfinished work is shared with the ranks"
    )
    made = {"name": "job", "image": "x"} | {key: container[key] for key in ("securityContext", "volumeMounts", "envFrom")}
    spec = {key: job[key] for key in ("securityContext", "volumes")} | {"containers": [made]}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"}, "spec": spec}, "1.33", strict=True)
    assert hardened({}) == {}


def test_a_job_s_driver_joins_the_cluster_by_its_own_port_and_token():
    variables, ray = job_variables(), by_name(pods(ray_cluster())["head"]["containers"][0]["env"])
    assert variables["env"]["RAY_ADDRESS"] == f"{ray_cluster()['metadata']['name']}-head-svc:6379", "KubeRay's name of the head's service"
    for name in ("RAY_AUTH_MODE", "AWS_ENDPOINT_URL", "HOME"):
        assert variables["env"][name] == ray[name], name
    assert not variables["env"].keys() & {"RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, "the secret's"
    assert variables["namespace"] == ray_cluster()["metadata"]["namespace"], "the network policy admits no other"
    assert (variables["memory_request"], variables["memory_limit"]) == ("8Gi", "8Gi")
    assert variables.keys() - {"image"} <= job_template()["variables"]["properties"].keys()


def test_a_job_s_command_starts_a_node_without_resources_and_becomes_the_run(tmp_path):
    """As Kubernetes starts it: the words that Prefect's worker makes of it, here with programs that note how they were called."""
    for program in ("ray", "prefect"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} $$ "$@" >> {tmp_path}/calls\n')
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **job_variables()["env"]}
    with subprocess.Popen(shlex.split(job_variables()["command"]), env=environment) as process:
        assert process.wait() == 0
    ray, prefect = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    assert ray[2:] == ["start", "--address=modelyard-head-svc:6379", "--num-cpus=0", "--num-gpus=0", "--disable-usage-stats"]
    assert prefect == ["prefect", str(process.pid), "flow-run", "execute"], "signals reach the run itself"
    (tmp_path / "ray").write_text("#!/bin/sh\nexit 1\n")
    assert subprocess.run(shlex.split(job_variables()["command"]), env=environment, check=False).returncode == 1
    assert len((tmp_path / "calls").read_text().splitlines()) == 2, "no run without its node"


def test_ray_versions_of_cluster_and_project_are_one():
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    assert pinned == f"ray=={ray_cluster()['spec']['rayVersion']}"
    assert json.dumps(ray_cluster()).count(f'"{VARIABLE}"') == 2


def test_gpu_workers_ask_for_devices_memory_and_shared_memory(kubernetes_validate):
    group = GpuGroup(gpus=8, workers=3, cpus=96, memory="900Gi", shared_memory="64Gi", rdma="rdma/hca_shared_devices_a")
    cluster = ray_cluster(manifests(IMAGE, group))
    RayCluster.model_validate(cluster)
    assert {key: value for key, value in cluster["spec"]["workerGroupSpecs"][1].items() if key != "template"} == {
        "groupName": "gpus",
        "replicas": 3,
        "minReplicas": 3,
        "maxReplicas": 3,
        "rayStartParams": {},
    }
    pod = pods(cluster)["gpus"]
    [container] = pod["containers"]
    devices = {"memory": "900Gi", "nvidia.com/gpu": 8, "rdma/hca_shared_devices_a": 1}
    assert container["resources"] == {"requests": {"cpu": "96", **devices}, "limits": devices}
    assert container["securityContext"] == {**LOCKED, "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}} in pod["volumes"]
    assert container["image"] == IMAGE


def test_gpu_workers_without_further_settings_have_cores_and_memory_for_each_gpu():
    [container] = pods(with_gpus(ray_cluster(), GpuGroup(4)))["gpus"]["containers"]
    devices = {"memory": "256Gi", "nvidia.com/gpu": 4}
    assert container["resources"] == {"requests": {"cpu": "32", **devices}, "limits": devices}
    assert container["securityContext"] == LOCKED, "no capability without RDMA"


def test_gpu_workers_leave_the_rest_of_the_manifest_as_it_is():
    plain, more = (list(yaml.safe_load_all(manifests(IMAGE, group))) for group in (None, GpuGroup(8, rdma="rdma/ib")))
    assert manifests(IMAGE, None) == KUBERNETES.read_text().replace(f"image: {VARIABLE}", f"image: {IMAGE}")
    del more[-1]["spec"]["workerGroupSpecs"][1]
    assert more == plain
    assert "*id" not in manifests(IMAGE, GpuGroup(8))


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (GpuGroup(0), "0 GPUs"),
        (GpuGroup(8, workers=0), "0 workers"),
        (GpuGroup(8, cpus=-1), "-1 cores"),
        (GpuGroup(8, memory="900"), "900: expected a quantity"),
        (GpuGroup(8, memory="900GB"), "900GB: expected a quantity"),
        (GpuGroup(8, shared_memory="0Gi"), "0Gi: expected a quantity"),
        (GpuGroup(8, rdma="hca"), "hca: expected the name of an RDMA resource"),
    ],
)
def test_gpu_workers_of_another_kind_of_number_are_refused(group, said):
    with pytest.raises(ValueError, match=said):
        with_gpus(ray_cluster(), group)


def printed(named: str | None, *words: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {VARIABLE: named} if named is not None else {}
    command = [sys.executable, "-m", "tasks.kubernetes", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_cluster_manifests_are_printed_for_an_image_by_digest_only():
    done = printed(IMAGE)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["image"] for pod in pods(ray_cluster(done.stdout)).values() for one in pod["containers"]] == [IMAGE, IMAGE]
    for refused in (None, "", "modelyard:latest", "modelyard", f"modelyard@{DIGEST[:-1]}", f"modelyard@{DIGEST} --privileged", "a\nb"):
        done = printed(refused)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), refused
        assert VARIABLE in done.stderr


def test_make_hands_its_settings_of_gpu_workers_on():
    command = ["make", "--silent", "--dry-run", "kubernetes", "GPUS=8", "WORKERS=2", "SHM=32Gi", "RDMA=rdma/ib", "VENV=/nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = ["--gpus", "8", "--workers", "2", "--shm", "32Gi", "--rdma", "rdma/ib"]
    assert shlex.split(done.stdout.splitlines()[-1])[1:] == ["-m", "tasks.kubernetes", *words]
    done = printed(IMAGE, *words)
    assert pods(ray_cluster(done.stdout)).keys() == {"head", "ranks", "gpus"}
    assert (refused := printed(IMAGE, "--gpus", "0")).returncode == 2
    assert refused.stderr.count("\n") == 1
