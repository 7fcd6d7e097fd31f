"""The cluster's manifests, ready for ``kubectl apply``: ``python -m tasks.kubernetes [--gpus N ...]``, which ``make kubernetes`` runs.

Without ``--gpus`` it prints ``infra/kubernetes.yaml`` as it stands with the image of ``MODELYARD_IMAGE``. With it, the cluster has one more
group of workers, made from the CPU one: GPUs (NVIDIA's device plugin counts them as ``nvidia.com/gpu``), the toleration of nodes that are kept
for them, memory, a sized ``/dev/shm`` (Ray's objects and NCCL's buffers within a pod) and, where asked for, an RDMA device. Left out: other
vendors' devices, and node selectors, which name what only the owner of a cluster knows.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from modelyard.complaint import complaint
from modelyard.exit_codes import BAD_INPUT, DONE
from tasks.image import DOCS, VARIABLE, own_image

KUBERNETES = Path(__file__).parents[1] / "infra/kubernetes.yaml"
GPU = "nvidia.com/gpu"
CPUS_A_GPU, MEMORY_A_GPU = 8, 64
"""What a pod asks for of each where it is not told: cores, GiB."""
BYTES = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti)")
"""Quantities of memory, in Kubernetes' binary units."""
RDMA = re.compile(r"rdma/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""Names under which RDMA device plugins count what they share out."""


class GpuGroup(NamedTuple):
    """A group of Ray workers with GPUs."""

    gpus: int
    """Of each pod."""
    workers: int = 1
    """Pods."""
    cpus: int = 0
    """Cores that each pod is given at least; 0: ``CPUS_A_GPU`` for each GPU."""
    memory: str = ""
    """Of each pod, as ``512Gi``, ``/dev/shm`` included; empty: ``MEMORY_A_GPU`` for each GPU."""
    shared_memory: str = "16Gi"
    """Size of ``/dev/shm``."""
    rdma: str = ""
    """Name of the RDMA resource of which each pod has one, as ``rdma/hca_shared_devices_a``; empty for none."""


def with_gpus(cluster: dict[str, Any], group: GpuGroup) -> dict[str, Any]:
    """The RayCluster with ``group`` behind the groups that it has.

    Raises ValueError where a number is not positive, or a quantity or the RDMA resource is no such name.
    """
    _require(group)
    made = deepcopy(cluster)
    template = deepcopy(made["spec"]["workerGroupSpecs"][0]["template"])
    pod = template["spec"]
    pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    [container] = pod["containers"]
    memory = group.memory or f"{MEMORY_A_GPU * group.gpus}Gi"
    limits: dict[str, Any] = {"memory": memory, GPU: group.gpus}
    if group.rdma:
        limits[group.rdma] = 1
        container["securityContext"]["capabilities"]["add"] = ["IPC_LOCK"]  # registers memory with the device
    container["resources"] = {"requests": {"cpu": str(group.cpus or CPUS_A_GPU * group.gpus), **limits}, "limits": limits}
    for volume in pod["volumes"]:
        if volume["name"] == "shm":
            volume["emptyDir"]["sizeLimit"] = group.shared_memory
    replicas = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), group.workers)
    made["spec"]["workerGroupSpecs"].append({"groupName": "gpus", **replicas, "rayStartParams": {}, "template": template})
    return made


def _require(group: GpuGroup) -> None:
    if group.gpus < 1 or group.workers < 1 or group.cpus < 0:
        raise ValueError(
            f"{group.gpus} GPUs, {group.workers} workers, {group.cpus} cores: expected at least 1 GPU and 1 worker; see {DOCS}"
        )
    for said in filter(None, (group.memory, group.shared_memory)):
        if not BYTES.fullmatch(said):
            raise ValueError(f"{said}: expected a quantity of memory, such as 512Gi; see {DOCS}")
    if group.rdma and not RDMA.fullmatch(group.rdma):
        raise ValueError(f"{group.rdma}: expected the name of an RDMA resource, such as rdma/hca_shared_devices_a; see {DOCS}")


def manifests(image: str, group: GpuGroup | None) -> str:
    """The text of all manifests with ``image`` and, where it is given, ``group``."""
    text = KUBERNETES.read_text().replace(f"image: {VARIABLE}", f"image: {image}")
    if group is None:
        return text
    documents = [with_gpus(one, group) if one["kind"] == "RayCluster" else one for one in yaml.safe_load_all(text)]
    return yaml.dump_all(map(deepcopy, documents), Dumper=_WithoutAliases, sort_keys=False)


class _WithoutAliases(yaml.SafeDumper):
    """Writes a part that stands in two places twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _group(argv: Sequence[str] | None) -> GpuGroup | None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="tasks.kubernetes", description="print the manifests of the cluster")
    parser.add_argument("--gpus", type=int, help="GPUs of each pod of one more worker group")
    parser.add_argument("--workers", type=int, default=1, help="its pods")
    parser.add_argument("--cpus", type=int, default=0, help=f"cores of each ({CPUS_A_GPU} for each GPU)")
    parser.add_argument("--memory", default="", help=f"of each, /dev/shm included ({MEMORY_A_GPU}Gi for each GPU)")
    parser.add_argument("--shm", default="16Gi", help="size of /dev/shm (16Gi)")
    parser.add_argument("--rdma", default="", help="RDMA resource of which each has one, such as rdma/hca_shared_devices_a")
    said = parser.parse_args(argv)
    return None if said.gpus is None else GpuGroup(said.gpus, said.workers, said.cpus, said.memory, said.shm, said.rdma)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the manifests; 2 where no image is named by digest, or a setting is refused."""
    try:
        group, image = _group(argv), own_image()
        if image is None:
            raise ValueError(f"{VARIABLE}: not set; it names the image of the cluster by digest, see {DOCS}")
        text = manifests(image, group)
    except ValueError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return BAD_INPUT
    sys.stdout.write(text)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
